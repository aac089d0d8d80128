"""A disk that fails or is full at any moment: a documented failure, a true state, a way on."""

from __future__ import annotations

from errno import EBADMSG, EIO, ENOSPC, EROFS, EUCLEAN, errorcode
from pathlib import Path
from typing import Dict, Iterator, List

import pytest

from tests.faults.conftest import SHARES, SYNCS, Story, points, require_documented
from tests.support.effects import Fault, needs_compiler

pytestmark = needs_compiler

SAMPLES = {
    "update": 8, "stage": 4, "activate": 4, "commit": 4, "rollback": 4, "switch-slot": 4,
}  # fmt: skip

#: What is told of what only tells of what was done, where it could not be kept.
NOT_DURABLE = ("missing from the history", "not on record")

shared = pytest.mark.parametrize("share", range(SHARES))
each_verb = pytest.mark.parametrize("verb", sorted(SAMPLES))


@shared
@each_verb
@pytest.mark.parametrize(
    "fault",
    [Fault(0, EIO), Fault(0, ENOSPC, stays=True), Fault(0, EROFS, stays=True)],
    ids=["fails", "full", "read-only"],
)
def test_any_change_may_fail(
    verb: str, fault: Fault, share: int, stories: Dict[str, Story], library: Path, tmp_path: Path,
    tried: List[int],
) -> None:  # fmt: skip
    tried += meet(stories[verb], fault, share, library, tmp_path)


@shared
@each_verb
def test_any_read_may_fail(
    verb: str, share: int, stories: Dict[str, Story], library: Path, tmp_path: Path,
    tried: List[int],
) -> None:  # fmt: skip
    tried += meet(stories[verb], Fault(0, EIO, reads=True), share, library, tmp_path)


@pytest.mark.parametrize("error", [EIO, EUCLEAN, EBADMSG], ids=errorcode.get)
def test_a_disk_that_does_not_tell_what_is_there_is_called_by_its_name(
    stories: Dict[str, Story], library: Path, tmp_path: Path, error: int
) -> None:
    """ext4 has other names for what is there and makes no sense, and for a wrong checksum."""
    story = stories["commit"]
    number = next(n for n, name in enumerate(story.reads, 1) if "stat" in name)
    effects = story.on(tmp_path / "device", library)
    done = effects.run((*story.words, "--json"), Fault(number, error, reads=True))
    assert (done.code, done.document["error"]["slug"]) == (14, "disk-failing"), done.out
    story.require_completion(effects.device)


def meet(story: Story, fault: Fault, share: int, library: Path, tmp_path: Path) -> Iterator[int]:
    """Runs the verb with `fault` at each of this share's points, which are yielded."""
    names = story.reads if fault.reads else story.changes
    for number in points(len(names), share, SAMPLES[story.name]):
        effects = story.on(tmp_path / str(number), library)
        with story.told(f"{fault} at {number} of {len(names)}, {names[number - 1]}"):
            done = effects.run(story.words, fault.at(number), len(names))
            require_documented(done)
            if names[number - 1] in SYNCS and not fault.reads:
                assert done.code or any(each in done.err for each in NOT_DURABLE), "not durable"
            if done.code == 0:
                assert story.require_truth(effects.device)["next"] == story.ends
            story.require_completion(effects.device)
        yield number
