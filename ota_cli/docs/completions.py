"""Completions for bash, zsh and fish: static, so that a key press starts no Python."""

from __future__ import annotations

from typing import Dict, List

from .tree import Option, Verb

_HEAD = "# Made from the program by `make docs`; changes here are lost."
#: By lines, or names with spaces would be several.
_BASH_FILES = 'mapfile -t COMPREPLY < <(compgen -f -- "$current")'

#: True after exactly the verbs given: `verify` alone is another than that of `image`.
_FISH_AT = (
    "function __ota_at",
    "    set -l path ota",
    "    for word in (commandline -opc)[2..]",
    '        contains -- "$path $word" $__ota_paths; and set path "$path $word"',
    "    end",
    '    test "$path" = "$argv"',
    "end",
)


def completions(tree: Verb) -> Dict[str, str]:
    """All completion files by name."""
    return {"ota.bash": _bash(tree), "_ota": _zsh(tree), "ota.fish": _fish(tree)}


def _words(verb: Verb) -> List[str]:
    """What may follow the verb: verbs, choices of arguments, options."""
    options = [name for option in verb.options for name in option.names]
    return [*(each.name for each in verb.verbs), *verb.argument_choices, *options]


def _valued(tree: Verb) -> Dict[str, Option]:
    """Every option that takes a value, by spelling; equal spellings take equal values.

    One that is a flag of another verb is left out: what follows it there is no value.
    """
    options = [option for verb in tree.walk() for option in verb.options]
    flags = {name for option in options if not option.metavar for name in option.names}
    valued = ((name, option) for option in options if option.metavar for name in option.names)
    return {name: option for name, option in valued if name not in flags}


def _takes_path(option: Option) -> bool:
    return option.metavar in ("FILE", "DIR", "PATH")


def _bash(tree: Verb) -> str:
    valued = _valued(tree)
    paths = "|".join(name for name, option in valued.items() if _takes_path(option))
    others = "|".join(n for n, o in valued.items() if not _takes_path(o) and not o.choices)
    lines = [_HEAD, "_ota() {", '    local current="${COMP_WORDS[COMP_CWORD]}"']
    lines += ['    local previous="${COMP_WORDS[COMP_CWORD-1]}" path="ota" word index=1']
    lines.append('    if [ "$current" = "=" ]; then current=""')
    lines.append('    elif [ "$previous" = "=" ]; then previous="${COMP_WORDS[COMP_CWORD-2]}"; fi')
    lines += ["    while [ $index -lt $COMP_CWORD ]; do", '        word="${COMP_WORDS[index]}"']
    lines += ["        index=$((index + 1))", '        case "$path $word" in']
    verbs = "|".join(f'"{" ".join(verb.path)}"' for verb in tree.walk() if len(verb.path) > 1)
    lines += [f'            {verbs}) path="$path $word" ;;', "        esac", "    done"]
    lines += ['    case "$previous" in']
    for name, option in valued.items():
        if option.choices:
            choices = " ".join(option.choices)
            lines.append(
                f'        {name}) COMPREPLY=($(compgen -W "{choices}" -- "$current")); return ;;'
            )
    lines.append(f"        {paths}) {_BASH_FILES}; return ;;")
    if others:
        lines.append(f"        {others}) return ;;")
    lines += ["    esac", '    case "$path" in']
    for verb in tree.walk():
        lines.append(f'        "{" ".join(verb.path)}") word="{" ".join(_words(verb))}" ;;')
    lines += ["    esac", '    COMPREPLY=($(compgen -W "$word" -- "$current"))']
    lines += [f"    [ ${{#COMPREPLY[@]}} -gt 0 ] || {_BASH_FILES}", "}"]
    lines += ["complete -o filenames -F _ota ota"]
    return "\n".join(lines) + "\n"


def _zsh(tree: Verb) -> str:
    lines = ["#compdef ota", _HEAD]
    for verb in tree.walk():
        lines += _zsh_function(verb)
    lines.append('_ota "$@"')
    return "\n".join(lines) + "\n"


def _zsh_function(verb: Verb) -> List[str]:
    specs = [spec for option in verb.options for spec in _zsh_specs(option)]
    choices = " ".join(verb.argument_choices)
    if verb.verbs:
        specs += ["'1: :->verb'", "'*:: :->rest'"]
    elif verb.arguments:
        specs.append(f"'*: :({choices})'" if choices else "'*: :_files'")
    lines = [f"{_zsh_name(verb)}() {{", "    local line state", "    _arguments -C \\"]
    lines.append(" \\\n".join(f"        {spec}" for spec in specs))
    if not verb.verbs:
        return [*lines, "}"]
    lines.append("    case $state in")
    pairs = " ".join(_zsh_quote(f"{each.name}:{each.summary}") for each in verb.verbs)
    lines += [f"        verb) local -a verbs; verbs=({pairs}); _describe verb verbs ;;"]
    lines += ["        rest) case $line[1] in"]
    lines += [f"            {each.name}) {_zsh_name(each)} ;;" for each in verb.verbs]
    return [*lines, "        esac ;;", "    esac", "}"]


def _zsh_name(verb: Verb) -> str:
    return "_" + "_".join(verb.path).replace("-", "_")


def _zsh_specs(option: Option) -> List[str]:
    text = option.help.replace("[", "(").replace("]", ")").replace(":", " ")
    value = ""
    if option.choices:
        value = f": :({' '.join(option.choices)})"
    elif option.metavar:
        value = ": :_files" if _takes_path(option) else ": : "
    return [_zsh_quote(f"*{name}[{text}]{value}") for name in option.names]


def _zsh_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish(tree: Verb) -> str:
    paths = " ".join(_fish_quote(" ".join(verb.path)) for verb in tree.walk())
    lines = [_HEAD, *_FISH_AT, f"set -g __ota_paths {paths}"]
    for verb in tree.walk():
        guard = f"__ota_at {' '.join(verb.path)}"
        for each in verb.verbs:
            about = _fish_quote(each.summary)
            lines.append(f"complete -c ota -f -n {_fish_quote(guard)} -a {each.name} -d {about}")
        if not verb.arguments:
            lines.append(f"complete -c ota -f -n {_fish_quote(guard)}")
        for choice in verb.argument_choices:
            lines.append(f"complete -c ota -f -n {_fish_quote(guard)} -a {choice}")
        lines += [_fish_option(option, guard) for option in verb.options]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option, guard: str) -> str:
    words = ["complete -c ota", f"-n {_fish_quote(guard)}"]
    words += [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names]
    if option.metavar:
        words.append("-r" if _takes_path(option) else "-x")
    if option.choices:
        words.append(f"-a {_fish_quote(' '.join(option.choices))}")
    return " ".join([*words, f"-d {_fish_quote(option.help)}"])


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
