"""Lines of a table: quoting, and what one may say. Raises ImageDamaged, naming table and line."""

from __future__ import annotations

from typing import Callable, Iterable, Iterator, List, Match, Pattern, TypeVar

from ..errors import ImageDamaged
from .text import printable

MAX_TABLE_BYTES = 512 * 1024 * 1024
MAX_LINES = 5_000_000
MAX_LINE_BYTES = 16 * 1024
PIECE_BYTES = 256 * 1024
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4096
#: chown(2) takes the number above this one for "leave it as it is".
MAX_OWNER = 2**32 - 2

#: Where a slot keeps its metadata; no image may hold anything there (DESIGN section 3).
RESERVED = "/.ota"

#: Each character can match in one way only: a line without its last quote costs no time.
QUOTED = r"'([^']*(?:'\\''[^']*)*)'"
META = r"([0-7]{3,5}),([0-9]{1,10}),([0-9]{1,10})"

Entry = TypeVar("Entry")


def read_entries(
    data: bytes, table: str, pattern: Pattern[str], entry: Callable[[Match[str]], Entry]
) -> Iterator[Entry]:
    """What `entry` makes of each line of a table, all of which `pattern` must match."""
    if len(data) > MAX_TABLE_BYTES:
        raise too_large(table)
    if data.count(b"\n") > MAX_LINES:
        raise _too_many_lines(table)
    pieces = (data[at : at + PIECE_BYTES] for at in range(0, len(data), PIECE_BYTES))
    return explained(text_lines(pieces, table), table, lambda line: entry(matched(pattern, line)))


def text_lines(pieces: Iterable[bytes], table: str) -> Iterator[str]:
    """The lines of a table. Only `\\n` ends one: names may hold U+2028 and its kind."""
    number, rest = 0, b""
    for piece in pieces:
        whole, newline, rest = (rest + piece).rpartition(b"\n")
        if newline:
            lines = whole.split(b"\n")
            yield from _texts(lines, table, number)
            number += len(lines)
        if len(rest) > MAX_LINE_BYTES:
            break
    if rest:
        yield from _texts([rest], table, number)


def _texts(lines: List[bytes], table: str, before: int) -> List[str]:
    """What `lines` say, which come after `before` others."""
    if before + len(lines) > MAX_LINES:
        raise _too_many_lines(table)
    try:
        texts = [line.decode("utf-8") for line in lines]
    except UnicodeDecodeError as error:
        number = before + 1 + lines.index(error.object)
        raise ImageDamaged(f"{table} line {number} is not UTF-8", slug="bad-line") from None
    if max(map(len, lines)) > MAX_LINE_BYTES:
        number = before + 1 + next(n for n, line in enumerate(lines) if len(line) > MAX_LINE_BYTES)
        raise ImageDamaged(f"{table} line {number} is longer than {MAX_LINE_BYTES} bytes")
    return texts


def _too_many_lines(table: str) -> ImageDamaged:
    return ImageDamaged(f"{table} has more than {MAX_LINES} lines", slug="too-large")


def explained(lines: Iterable[str], table: str, read: Callable[[str], Entry]) -> Iterator[Entry]:
    """What `read` makes of each of `lines`; a ValueError names table and line."""
    number, line = 0, ""
    try:
        for line in lines:
            number += 1
            yield read(line)
    except ValueError as error:
        raise ImageDamaged(
            f"{table} line {number}: {error}: {printable(line[:120])}",
            hint="the image can not be used; ask its publisher",
            slug="bad-line",
        ) from None


def matched(pattern: Pattern[str], line: str) -> Match[str]:
    match = pattern.fullmatch(line)
    if match is None:
        raise ValueError("not an entry of this table")
    return match


def quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def unquote(text: str) -> str:
    return text.replace("'\\''", "'") if "'" in text else text


def join(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def read_path(quoted: str) -> str:
    return checked_path(unquote(quoted))


def checked_path(path: str) -> str:
    """`path` itself; ValueError unless it names one place inside the slot and no other."""
    if _is_plain(path):
        return path
    if not path.startswith("/"):
        raise ValueError("path is not absolute")
    if path == "/":
        raise ValueError("`/` itself has no entry")
    if "\0" in path:
        raise ValueError("path holds a NUL")
    components = path.split("/")[1:]
    if "" in components or "." in components or ".." in components:
        raise ValueError("path with an empty, `.` or `..` component")
    _check_lengths(path, components)
    if path == RESERVED or path.startswith(RESERVED + "/"):
        raise ValueError(f"{RESERVED} belongs to the updater")
    return path


def _is_plain(path: str) -> bool:
    """True for nearly all paths, by what is quick to see: none of the rules can be broken."""
    return (
        path[:1] == "/"
        and len(path) <= MAX_NAME_BYTES
        and path.isascii()
        and path[-1] != "/"
        and "//" not in path
        and "/." not in path
        and "\0" not in path
    )


def _check_lengths(path: str, components: List[str]) -> None:
    if len(path) * 4 <= MAX_NAME_BYTES:
        return
    if len(path.encode()) > MAX_PATH_BYTES:
        raise ValueError(f"path is longer than {MAX_PATH_BYTES} bytes")
    if any(len(name.encode()) > MAX_NAME_BYTES for name in components):
        raise ValueError(f"name is longer than {MAX_NAME_BYTES} bytes")


def read_mode(digits: str) -> int:
    return int(digits, 8) & 0o7777


def read_owner(digits: str) -> int:
    return 0 if digits == "0" else bounded(digits, MAX_OWNER)


def bounded(digits: str, most: int) -> int:
    number = int(digits)
    if number > most:
        raise ValueError(f"{number} is larger than {most}")
    return number


def too_large(table: str) -> ImageDamaged:
    return ImageDamaged(f"{table} is larger than {MAX_TABLE_BYTES} bytes", slug="too-large")
