"""Text as man(7) source: the little that the pages need."""

from __future__ import annotations

import re
from typing import Iterable, Tuple

_CODE = re.compile(r"`([^`]+)`")


def escape(text: str) -> str:
    """`text` as roff shows it: backslashes, dashes that are to be typed, leading dots."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped.startswith((".", "'")) else escaped


def inline(text: str) -> str:
    """A paragraph's text, with `code` in bold."""
    parts = _CODE.split(" ".join(text.split()))
    return "".join(
        f"\\fB{escape(part)}\\fP" if index % 2 else _plain(part, not index)
        for index, part in enumerate(parts)
    )


def _plain(text: str, at_start: bool) -> str:
    escaped = text.replace("\\", "\\e")
    return "\\&" + escaped if at_start and escaped.startswith((".", "'")) else escaped


def header(title: str, section: int, name: str) -> str:
    """The first line of a page; without a date, so that the same program gives the same page."""
    return f'.TH "{escape(title.upper())}" "{section}" "" "{name}" "{name} manual"'


def section(title: str) -> str:
    return f'.SH "{title.upper()}"'


def paragraph(text: str) -> str:
    return f".PP\n{inline(text)}"


def items(pairs: Iterable[Tuple[str, str]]) -> str:
    """Tagged paragraphs; the tag is shown bold."""
    return "\n".join(f".TP\n\\fB{escape(tag)}\\fP\n{inline(text)}" for tag, text in pairs)


def example(lines: Iterable[str]) -> str:
    """Lines as they are."""
    body = "\n".join(escape(line) if line else "" for line in lines)
    return f".PP\n.nf\n.RS\n{body}\n.RE\n.fi"


def page(parts: Iterable[str]) -> str:
    return "\n".join(parts) + "\n"
