"""Killed at any of its effects, a verb leaves a device that boots, and ends when run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, List

import pytest

from tests.faults.conftest import SHARES, Story, own_files, points
from tests.support.effects import Fault, needs_compiler

pytestmark = needs_compiler

SAMPLES = {
    "update": 12, "stage": 4, "activate": 4, "commit": 4, "rollback": 4, "switch-slot": 4,
}  # fmt: skip


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("verb", sorted(SAMPLES))
def test_a_verb_that_is_killed_at_any_effect_leaves_a_device_that_boots(
    verb: str, share: int, stories: Dict[str, Story], library: Path, tmp_path: Path,
    tried: List[int],
) -> None:  # fmt: skip
    story = stories[verb]
    names = story.changes
    for number in points(len(names), share, SAMPLES[verb]):
        effects = story.on(tmp_path / str(number), library)
        with story.told(f"killed at effect {number} of {len(names)}, before {names[number - 1]}"):
            done = effects.run(story.words, Fault(number))
            assert done.code == -9, done.err
            story.require_completion(effects.device)
            assert own_files(effects.device) == story.leaves
            tried.append(number)
            if verb == "commit":
                history = (effects.device / "boot/ota/history.jsonl").read_text().splitlines()
                assert [json.loads(line)["outcome"] for line in history] == ["committed"]
