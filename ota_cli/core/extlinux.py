"""`extlinux.conf`, which CBoot reads in the slot: what boots, and the one word that changes.

A file of keyword and value a line; keywords in any case, `#` begins a comment. A `LABEL` begins
an entry; `DEFAULT` names the entry that boots, else it is the first (FORMATS section 5). Lines
end at `\\n` only, and every byte but the value of `root=` stays as it is.
"""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional

from ..errors import BootRefused

#: What CBoot passes by itself; `APPEND` of an entry that had none must not lose it.
_OWN_ARGUMENTS = "${cbootargs}"
#: `MENU LABEL` and the like have a keyword of their own: `MENU`.
_KEYWORD = re.compile(r"[ \t]*([A-Za-z_]+)(?:[ \t\r\v\f]+|$)")
_WORD = re.compile(r'(?:[^ \t\r\v\f"]|"[^"]*"?)+')
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Entry(NamedTuple):
    """The entry that boots. `root`: the value of its `root=`; None where it has none.

    `linux`, `initrd`, `fdt`: paths as written; empty where the entry does not name one.
    """

    label: str
    linux: str
    initrd: str
    fdt: str
    root: Optional[str]


class _Line(NamedTuple):
    """A line as written. `value` begins at `start` of `text`; `keyword` is in capitals."""

    text: str
    keyword: str
    value: str
    start: int


def default_entry(text: str) -> Entry:
    """The entry that boots.

    Raises BootRefused when there is none, or when it is not clear which one boots.
    """
    lines = _lines(text)
    found = _entry(lines)
    values = {line.keyword: line.value for line in found}  # of equals the last counts
    words = _root_words(values.get("APPEND", ""))
    root = _unquoted(words[-1].group())[len("root=") :] if words else None
    linux = values.get("LINUX") or values.get("KERNEL", "")
    return Entry(found[0].value, linux, values.get("INITRD", ""), values.get("FDT", ""), root)


def with_root(text: str, root: str) -> str:
    """`text` with `root=` of the entry that boots naming `root`; all else byte for byte.

    An `APPEND` without `root=` gets one at its end, an entry without `APPEND` that line. Doing it
    twice is doing it once. Raises BootRefused like `default_entry`, and where an `APPEND` has a
    quote without its end, which would swallow the new word.
    """
    changed = _changed(text, root)
    if default_entry(changed).root != root:
        raise _refused("a quote in APPEND has no end")
    return changed


def _changed(text: str, root: str) -> str:
    lines = _lines(text)
    found = _entry(lines)
    first = lines.index(found[0])
    appends = [first + place for place, line in enumerate(found) if line.keyword == "APPEND"]
    if appends:
        at = appends[-1]
        written = [line.text for line in lines]
        written[at] = _replaced(lines[at], root)
        return "".join(written)
    return "".join(_with_append([line.text for line in lines], first, len(found), root))


def _lines(text: str) -> List[_Line]:
    return [_line(each) for each in _LINE.findall(text)]


def _line(text: str) -> _Line:
    match = _KEYWORD.match(text.rstrip("\n"))
    if match is None:
        return _Line(text, "", "", 0)
    value = text[match.end() :].strip(" \t\r\v\f\n")
    return _Line(text, match.group(1).upper(), value, match.end())


def _entry(lines: List[_Line]) -> List[_Line]:
    """The lines of the entry that boots, its `LABEL` first; blank lines at its end left out."""
    starts = [place for place, line in enumerate(lines) if line.keyword == "LABEL"]
    wanted = {line.value for line in lines if line.keyword == "DEFAULT"}
    if not starts:
        raise _refused("it has no LABEL")
    if len(wanted) > 1:
        raise _refused(f"DEFAULT names {' and '.join(sorted(wanted))}")
    label = next(iter(wanted), lines[starts[0]].value)
    named = [place for place in starts if lines[place].value == label]
    if len(named) != 1:
        how_many = "no entry" if not named else f"{len(named)} entries"
        raise _refused(f"{how_many} with the LABEL {label}, which is what boots")
    start = named[0]
    end = next((place for place in starts if place > start), len(lines))
    while not lines[end - 1].text.strip():
        end -= 1
    return lines[start:end]


def _replaced(line: _Line, root: str) -> str:
    head, value = line.text[: line.start], line.text[line.start :]
    words = _root_words(value)
    if not words:
        kept = value.rstrip(" \t\r\v\f\n")
        ending = value[len(kept) :]
        gap = " " if kept or not head.endswith((" ", "\t")) else ""
        return f"{head}{kept}{gap}root={root}{ending}"
    for word in reversed(words):  # the kernel goes by the last; the others name no other system
        value = f"{value[: word.start()]}root={root}{value[word.end() :]}"
    return head + value


def _with_append(written: List[str], first: int, count: int, root: str) -> List[str]:
    """The lines with an `APPEND` at the end of the entry, `count` lines from `first` on."""
    last = first + count - 1
    ending = "\r\n" if written[last].endswith("\r\n") else "\n"
    if not written[last].endswith("\n"):
        written[last] += ending
    below = written[last]
    indent = below[: len(below) - len(below.lstrip(" \t"))] if count > 1 else "      "
    line = f"{indent}APPEND {_OWN_ARGUMENTS} root={root}{ending}"
    return [*written[: last + 1], line, *written[last + 1 :]]


def _root_words(value: str) -> List[re.Match[str]]:
    words = _WORD.finditer(value.rstrip("\n"))
    return [word for word in words if _unquoted(word.group()).startswith("root=")]


def _unquoted(word: str) -> str:
    return word.replace('"', "")


def _refused(why: str) -> BootRefused:
    return BootRefused(
        f"extlinux.conf does not say what boots: {why}",
        hint="correct /boot/extlinux/extlinux.conf, of the image as well: DEFAULT names one LABEL",
        slug="extlinux",
    )
