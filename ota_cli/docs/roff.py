"""Text as man(7) source: the little that the pages need."""

from __future__ import annotations

import re
from typing import Iterable, List, Sequence, Tuple, Union

#: A paragraph; or lines to be typed; or what is said of each of several things.
Part = Union[str, Tuple[str, ...], List[Tuple[str, str]]]

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


def guide(
    name: str, title: str, number: int, about: str,
    sections: Sequence[Tuple[str, Sequence[Part]]], see_also: str,
) -> str:  # fmt: skip
    """A page that is written, not made from the command tree; `number`: of the manual's section."""
    parts = [header(title, number, name), section("name")]
    parts.append(f"{escape(title)} \\- {_plain(about, False)}")
    for heading, texts in sections:
        parts.append(section(heading))
        parts += [_source(text) for text in texts]
    return page([*parts, section("see also"), escape(see_also)])


def _source(part: Part) -> str:
    if isinstance(part, str):
        return paragraph(part)
    return items(part) if isinstance(part, list) else example(part)
