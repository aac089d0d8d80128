"""The rows of the live display: they fit, line up, and say what is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ota_cli.events import Ahead, Done, Phase, PhaseStarted, Progress
from ota_cli.render.rows import Row, Segments, shown

GB = 10**9


def downloading(seconds: int = 5) -> Row:
    """An ECU that was half way and brings 12.3 MB a second."""
    row = Row().after(Ahead(((Phase.DOWNLOAD, GB),)), 0)
    for second in range(seconds):
        done = GB // 2 + second * 12_300_000
        row = row.after(Progress(Phase.DOWNLOAD, done, GB), float(second))
    return row


def text(segments: Segments) -> str:
    return "".join(each for each, _ in segments)


def only(row: Row, width: int, is_ascii: bool = False) -> str:
    [line] = shown({"": row}, width, 4.0, is_ascii)
    return text(line)


def test_a_row_names_phase_percent_speed_and_time_left() -> None:
    assert only(downloading(), 80, True) == (
        "download  54 %  #####################------------------- 12.3 MB/s    0:37 left"
    )


def test_without_room_the_bar_is_left_out_first_and_the_time_left_last() -> None:
    assert only(downloading(), 40) == "download  54 % 12.3 MB/s    0:37 left"
    assert only(downloading(), 30) == "download  54 %    0:37 left"
    assert only(downloading(), 20) == "download  54 %"


def test_what_is_not_known_is_left_out_and_moves_nothing() -> None:
    begun = only(downloading(1), 80, True)
    assert "?" not in begun
    assert len(begun) == len(only(downloading(), 80, True))


def test_there_is_no_row_before_anything_can_be_measured() -> None:
    assert shown({"": Row().after(PhaseStarted(Phase.HEALTH, "so"), 0)}, 80, 0, False) == []


def test_each_ecu_has_a_row_of_its_own_and_they_line_up() -> None:
    rows = {"": downloading(), "p1": downloading().after(Done(), 5)}
    main, below = map(text, shown(rows, 80, 4.0, True))
    assert main.startswith("here download  54 %  ###")
    assert below == f"p1   done     100 %  {40 * '#'}"


@given(
    st.dictionaries(st.text("ab1-", max_size=30), st.integers(0, 10), min_size=1, max_size=3),
    st.integers(1, 200), st.booleans(),
)  # fmt: skip
def test_no_row_is_wider_than_the_terminal(
    ecus: dict[str, int], width: int, is_ascii: bool
) -> None:
    rows = {name: downloading(seconds) for name, seconds in ecus.items()}
    for line in shown(rows, width, 20.0, is_ascii):
        assert len(text(line)) <= width
