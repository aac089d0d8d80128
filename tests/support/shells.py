"""What bash, zsh and fish really offer after a line that was typed, with our completions loaded."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Dict, List, Sequence

from tests.support.bench import BASE

COMPLETIONS = BASE / "completions"

_BASH = """\
source "$1"; shift
for line; do
    read -ra COMP_WORDS <<< "$line"
    case $line in *" ") COMP_WORDS+=("") ;; esac
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
    _ota
    echo "@@line"
    printf '%s\\n' "${COMPREPLY[@]}"
done
"""

_FISH = """\
source $argv[1]
for line in $argv[2..]
    echo "@@line"
    complete -C "$line"
end
"""

#: zsh completes on a terminal only: this one is made by zpty. What would be offered is printed.
_ZSH = """\
zmodload zsh/zpty
zpty typed zsh -f -i
zpty -w typed "source $1"
zpty -r -m typed line '*@@ready*'
shift 1
for line; do
    zpty -w -n typed $'\\x15'"$line"$'\\t'
    zpty -r -m typed offered '*@@end*'
    print -r -- "@@line"
    print -r -- "$offered"
done
zpty -d typed
"""

_ZSH_TYPED = """\
PS1= PS2= RPROMPT=
fpath=({directory} $fpath)
autoload -Uz compinit
compinit -D -u
bindkey '^I' complete-word
zstyle ':completion:*' insert-tab false
comppostfuncs=(ended)
ended() {{ print -r -- '@@end'; comppostfuncs=(ended) }}
compadd() {{
    if [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return; fi
    local -a offered
    local each
    builtin compadd -A offered "$@"
    for each in $offered; do print -r -- "@@word $each"; done
}}
print -r -- '@@ready'
"""


def offered(shell: str, lines: Sequence[str], directory: Path) -> Dict[str, List[str]]:
    """The words that `shell` offers at the end of each of `lines`; they are asked in an empty
    directory below `directory`."""
    (directory / "empty").mkdir(exist_ok=True)
    asked = {"bash": _ask_bash, "fish": _ask_fish, "zsh": _ask_zsh}[shell]
    answers = asked(lines, directory).split("@@line\n")[1:]
    assert len(answers) == len(lines)
    return {line: _words(shell, answer) for line, answer in zip(lines, answers)}


def _words(shell: str, answer: str) -> List[str]:
    if shell == "zsh":
        lines = answer.replace("\r", "").splitlines()
        return [line.partition("@@word ")[2] for line in lines if "@@word " in line]
    return [line.split("\t")[0] for line in answer.splitlines() if line]


def _ask_bash(lines: Sequence[str], directory: Path) -> str:
    return _run(
        directory / "empty", "bash", "-c", _BASH, "bash", str(COMPLETIONS / "ota.bash"), *lines
    )


def _ask_fish(lines: Sequence[str], directory: Path) -> str:
    return _run(
        directory / "empty",
        "fish",
        "--no-config",
        "-c",
        _FISH,
        str(COMPLETIONS / "ota.fish"),
        *lines,
    )


def _ask_zsh(lines: Sequence[str], directory: Path) -> str:
    typed = directory / "typed.zsh"
    typed.write_text(_ZSH_TYPED.format(directory=COMPLETIONS))
    asking = directory / "asking.zsh"
    asking.write_text(_ZSH)
    return _run(directory / "empty", "zsh", "-f", str(asking), str(typed), *lines)


def _run(where: Path, *argv: str) -> str:
    done = subprocess.run(argv, cwd=where, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
