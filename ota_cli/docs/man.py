"""The man pages: one a verb, made from the command tree; the formats are written."""

from __future__ import annotations

from typing import Dict, Iterator, List, Tuple

from .. import __version__
from ..errors import EXIT_CODES
from . import roff
from .boot import boot_page
from .events import events_page
from .failures import errors_page
from .imageformat import image_page
from .tree import Option, Verb
from .written import FILES, LOGS, OVERVIEW, SECURITY, VERB_NOTES, pages

_NAME = f"ota {__version__}"
_GLOBAL = ("--root", "--output", "--json", "-v", "-q", "--color", "--log-file", "-h")


def man_pages(tree: Verb) -> Dict[str, str]:
    """All pages by file name."""
    found = {"ota.1": _overview(tree)}
    for verb in tree.verbs:
        found[f"ota-{verb.name}.1"] = _verb_page(verb)
    found.update(pages(_NAME))
    found["ota-image.5"] = image_page(_NAME)
    found.update({"ota-boot.7": boot_page(_NAME), "ota-events.7": events_page(_NAME)})
    found["ota-errors.7"] = errors_page(_NAME)
    return found


def exit_code_rows() -> List[Tuple[str, str]]:
    """The exit-code table, from the only place that knows it."""
    return [(str(code), meaning) for code, meaning in EXIT_CODES.items()]


def _overview(tree: Verb) -> str:
    return roff.page(
        [
            roff.header("ota", 1, _NAME),
            roff.section("name"),
            "ota \\- update whole Linux devices over the air, in A/B slots",
            roff.section("synopsis"),
            "\\fBota\\fP [\\fIOPTIONS\\fP] \\fIVERB\\fP [\\fIARGUMENTS\\fP]",
            roff.section("description"),
            *(roff.paragraph(text) for text in OVERVIEW),
            roff.section("verbs"),
            roff.items(
                (f"{verb.name}", f"{verb.summary}. See `ota-{verb.name}`(1).")
                for verb in tree.verbs
            ),
            roff.section("options"),
            roff.paragraph("Accepted before and after the verb; the later one wins."),
            _options(tree.options),
            roff.section("exit status"),
            roff.items(exit_code_rows()),
            roff.paragraph("`ota-errors`(7) has every single failure, and what to do."),
            roff.section("logs"),
            *(roff.paragraph(text) for text in LOGS),
            roff.section("files"),
            roff.items(FILES),
            roff.section("security"),
            *(roff.paragraph(text) for text in SECURITY),
            *_see_also(tree.verbs),
        ]
    )


def _verb_page(verb: Verb) -> str:
    parts = [roff.header(f"ota-{verb.name}", 1, _NAME), roff.section("name")]
    parts.append(f"ota\\-{roff.escape(verb.name)} \\- {roff.inline(_lowered(verb.summary))}")
    parts.append(roff.section("synopsis"))
    leaves = [each for each in verb.walk() if not each.verbs]
    parts.append("\n.br\n".join(_synopsis(each) for each in leaves))
    parts.append(roff.section("description"))
    if verb.verbs:
        parts.append(roff.paragraph(verb.description))
        for each in leaves:
            parts.append(f'.SS "{roff.escape(" ".join(each.path))}"')
            parts += _described(each)
    else:
        parts += _described(verb)
    parts.append(roff.section("exit status"))
    parts.append(roff.paragraph("As in `ota`(1) and `ota-errors`(7)."))
    parts += _see_also(())
    return roff.page(parts)


def _described(verb: Verb) -> Iterator[str]:
    for text in verb.description.split("\n\n"):
        yield roff.paragraph(text)
    for note in VERB_NOTES.get(" ".join(verb.path[1:]), ()):
        yield roff.paragraph(note)
    own = [option for option in verb.options if not set(option.names) & set(_GLOBAL)]
    if own:
        yield _options(own)
    on_device = any("--root" in option.names for option in verb.options)
    which = "options of `ota`(1)" if on_device else "options of `ota`(1) except `--root`"
    yield roff.paragraph(f"The {which} are accepted as well.")


def _synopsis(verb: Verb) -> str:
    words = " ".join(f"\\fI{roff.escape(argument)}\\fP" for argument in verb.arguments)
    return f"\\fB{roff.escape(' '.join(verb.path))}\\fP [\\fIOPTIONS\\fP] {words}".rstrip()


def _options(options: Tuple[Option, ...] | List[Option]) -> str:
    return roff.items((_tag(option), option.help) for option in options)


def _tag(option: Option) -> str:
    names = ", ".join(option.names)
    return f"{names} {option.metavar}" if option.metavar else names


def _see_also(verbs: Tuple[Verb, ...]) -> List[str]:
    names = [f"ota-{verb.name}(1)" for verb in verbs] or ["ota(1)"]
    names += ["ecu_info.yml(5)", "proxy_info.yml(5)", "ota.yml(5)", "ota-image(5)"]
    names += ["ota-boot(7)", "ota-errors(7)", "ota-events(7)"]
    return [roff.section("see also"), roff.escape(", ".join(names))]


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
