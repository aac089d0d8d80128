"""A signal at any moment ends a verb the documented way, and the same command completes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Dict, List, Sequence

import pytest

from tests.conftest import copy_tree
from tests.faults.conftest import EVERY, SEED, SHARES, Story
from tests.support.bench import environment, ota_argv

#: How a process ends by each; 0 where it was faster.
CODES = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGKILL: -9}
SIGNALS = int(os.environ.get("SIGNALS") or (200 if EVERY else 8))


@pytest.mark.parametrize("share", range(SHARES))
def test_a_signal_at_any_moment_of_an_update_loses_nothing(
    share: int, stories: Dict[str, Story], tmp_path: Path, tried: List[int]
) -> None:
    story = stories["update"]
    begun = time.monotonic()
    assert ended(story.words, copy_tree(story.device, tmp_path / "whole"), 120, signal.SIGTERM) == 0
    whole_s = time.monotonic() - begun
    for number in range(share, SIGNALS, SHARES):
        drawn = random.Random(f"{SEED}/{number}")
        delay_s, sent = drawn.uniform(0, whole_s), drawn.choice(sorted(CODES))
        device = copy_tree(story.device, tmp_path / str(number))
        with story.told(f"signal {sent} after {delay_s:.3f} of {whole_s:.3f} s"):
            assert ended(story.words, device, delay_s, sent) in (CODES[sent], -sent, 0)
            story.require_completion(device)
        tried.append(number)


def ended(words: Sequence[object], device: Path, delay_s: float, sent: int) -> int:
    """How the verb ends that gets a signal after `delay_s`, if it is not done by then."""
    running = subprocess.Popen(
        [*ota_argv(), *map(str, words), "--root", str(device)], env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return running.wait(timeout=delay_s)
    except subprocess.TimeoutExpired:
        running.send_signal(sent)
    return running.wait(timeout=60)
