"""CBoot's own step of a boot, over the state that it shares with the stand-in for nvbootctrl.

The rules are those of CBoot's published source: a boot uses up one try of its slot, whoever
reaches user space restores them; a slot without tries has failed, and the other one is taken;
when that has failed too, recovery is entered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Dict


class Recovery(Exception):
    """No slot is left to boot."""


class Loader:
    """The state in the file `path`: `name=value` lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = path.read_text().splitlines()
        self.state: Dict[str, str] = dict(line.split("=", 1) for line in lines)

    @staticmethod
    def create(path: Path, facts: str, booted: int) -> None:
        """A loader of a device that runs, for long, from slot `booted`."""
        lines = [facts.strip(), "unbootable_stays=0", f"booted={booted}"]
        tries = facts.split("tries=")[1].split()[0]
        for number in (0, 1):
            slot = {"priority": 15 - (number != booted), "retries": tries,
                    "successful": 1, "bootable": 1}  # fmt: skip
            lines += [f"{name}{number}={value}" for name, value in slot.items()]
        path.write_text("\n".join([*lines, ""]))

    def set(self, **values: object) -> None:
        self.state.update({name: str(value) for name, value in values.items()})
        text = "".join(f"{name}={value}\n" for name, value in self.state.items())
        self.path.write_text(text)

    def number(self, name: str) -> int:
        return int(self.state[name])

    def is_bootable(self, slot: int) -> bool:
        return self.state[f"bootable{slot}"] == "1" and self.number(f"retries{slot}") > 0

    def mark_successful(self) -> None:
        """What NVIDIA's verifier does at each boot that is no trial."""
        slot = self.state["booted"]
        tries = self.state["tries"]
        self.set(**{f"retries{slot}": tries, f"successful{slot}": 1, f"bootable{slot}": 1})

    def boot(self) -> int:
        """The slot that is tried. Raises Recovery."""
        first = max((0, 1), key=lambda slot: self.number(f"priority{slot}"))
        for slot in (first, 1 - first):
            if not self.is_bootable(slot):
                continue
            self.set(**{f"retries{slot}": self.number(f"retries{slot}") - 1}, booted=slot)
            if slot != first:  # the failed one stays behind until it is made active again
                priority = self.number(f"priority{slot}")
                self.set(**{f"bootable{first}": 0, f"priority{first}": priority - 1})
            return slot
        raise Recovery
