"""Faults below Python: a program is ended, or a call of it fails, at any of its effects.

An effect is a system call, below some directories, that changes files or makes a change durable;
see `effects.c`, a library that is preloaded.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import pytest

from tests.support.bench import Ran, ota

#: This part of all reads of a verb always comes.
_SURE_READS = 0.9

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


def build_library(directory: Path) -> Path:
    """Compiles `effects.c` into `directory`."""
    library = directory / "effects.so"
    source = Path(__file__).with_name("effects.c")
    argv = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"]
    subprocess.run(argv, check=True)
    return library


@dataclass(frozen=True)
class Fault:
    """What happens at effect `number`, from 1: the process is killed, or with `errno` it fails.

    `stays`: all later effects fail as well, unless they need no room and `errno` is about that.
    `reads`: reads are counted instead.
    """

    number: int
    errno: Optional[int] = None
    stays: bool = False
    reads: bool = False

    def at(self, number: int) -> Fault:
        """The same elsewhere."""
        return replace(self, number=number)

    @property
    def variables(self) -> Dict[str, str]:
        more = {"EFFECTS_READS": "1"} if self.reads else {}
        if self.errno is None:
            return {"EFFECTS_KILL_AT": str(self.number), **more}
        more.update({"EFFECTS_STICKY": "1"} if self.stays else {})
        return {"EFFECTS_FAIL_AT": str(self.number), "EFFECTS_ERRNO": str(self.errno), **more}

    def telling(self, met: Path) -> Dict[str, str]:
        """The same variables; the file `met` is made when it happens."""
        return {**self.variables, "EFFECTS_MET": str(met)}


@dataclass(frozen=True)
class Effects:
    """Runs `ota` on the device below `device` with the library at `library`.

    `more`: effects below these directories count as well.
    """

    library: Path
    device: Path
    more: Tuple[Path, ...] = ()

    def names(self, words: Sequence[object], *, reads: bool = False) -> List[str]:
        """The effects of an undisturbed run, in order."""
        log = self._beside("log")
        more = {"EFFECTS_READS": "1"} if reads else {}
        done = self._run(words, {"EFFECTS_LOG": str(log), **more})
        assert done.code == 0, done.err
        names = log.read_text().split()
        assert names
        return names

    def run(self, words: Sequence[object], fault: Fault, total: int = 0) -> Ran:
        """A run that meets `fault`. `total`: of so many reads; threads look now and then more often
        than at other times, so that one of the last may not come."""
        met = self._beside("met")
        done = self._run(words, fault.telling(met))
        is_sure = not fault.reads or fault.number < total * _SURE_READS
        assert met.exists() or not is_sure, "there were fewer effects than in the undisturbed run"
        return done

    def _beside(self, suffix: str) -> Path:
        """A file that is not there yet."""
        path = self.device.with_name(f"{self.device.name}.{suffix}")
        path.unlink(missing_ok=True)
        return path

    def preloaded(self, variables: Mapping[str, str]) -> Dict[str, str]:
        """The environment of a program that is started, and whose effects are counted."""
        return {
            "LD_PRELOAD": str(self.library), "PYTHONDONTWRITEBYTECODE": "1",
            **self.counting(variables),
        }  # fmt: skip

    def counting(self, variables: Mapping[str, str]) -> Dict[str, str]:
        """What the library reads of it."""
        return {"EFFECTS_BELOW": ":".join(map(str, (self.device, *self.more))), **variables}

    def _run(self, words: Sequence[object], variables: Mapping[str, str]) -> Ran:
        env = self.counting(variables)
        return ota(*words, "--root", self.device, env=env, library=self.library)
