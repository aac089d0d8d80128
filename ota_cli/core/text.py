"""Text for people: what images and servers say, made safe to print; sizes and times. Pure."""

from __future__ import annotations

import unicodedata
from typing import List, Optional

#: Controls, formats (bidi overrides), surrogates, private use, line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_UNITS = ("B", "kB", "MB", "GB", "TB")

#: Narrower columns read worse than what the terminal makes of long lines.
_MIN_COLUMNS = 20


def printable(text: str) -> str:
    """`text` with every character that could steer a terminal written as an escape."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSAFE else c for c in text)


def wrapped(text: str, width: Optional[int]) -> List[str]:
    """`text` in lines of less than `width` columns, at least one; words stay whole.

    Escapes of colours count as columns. Without a width, or a hopeless one, it is left alone.
    """
    if width is None or len(text) < width or width < _MIN_COLUMNS:
        return [text]
    import textwrap

    return textwrap.wrap(text, width - 1, break_long_words=False, break_on_hyphens=False) or [text]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def size(count: int) -> str:
    """Bytes as people read them: three digits, decimal units."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{count} B" if unit == 0 else f"{value:.3g} {_UNITS[unit]}"


def duration(seconds: float) -> str:
    """A time as people read it: minutes and seconds, or hours before them."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
