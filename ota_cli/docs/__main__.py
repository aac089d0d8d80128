"""`python -m ota_cli.docs` writes all generated documents; `--check` only names stale ones."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Dict, List

from .completions import completions
from .man import exit_code_rows, man_pages
from .schemas import schemas
from .tree import read_tree

_SCHEMAS = "ota_cli/schemas"
_EXIT_CODES = re.compile(r"(<!-- exit codes -->\n).*?(<!-- end -->)", re.DOTALL)


def documents(base: Path) -> Dict[Path, str]:
    """Every generated document below `base`, as it should be."""
    tree = read_tree()
    found = {base / "man" / name: text for name, text in man_pages(tree).items()}
    found.update({base / "completions" / n: text for n, text in completions(tree).items()})
    found.update(
        {base / _SCHEMAS / name: f"{json.dumps(s, indent=1)}\n" for name, s in schemas().items()}
    )
    readme = base / "README.md"
    if readme.exists():
        found[readme] = _with_exit_codes(readme.read_text("utf-8"))
    return found


def stale(base: Path) -> List[Path]:
    """Documents that are not what they should be, and those nothing makes any more."""
    wanted = documents(base)
    wrong = [p for p, text in wanted.items() if not p.exists() or p.read_text("utf-8") != text]
    there = [path for name in ("man", "completions", _SCHEMAS) for path in (base / name).glob("*")]
    return [*wrong, *(path for path in there if path not in wanted)]


def _with_exit_codes(text: str) -> str:
    rows = "".join(f"| {code} | {meaning} |\n" for code, meaning in exit_code_rows())
    table = f"| code | meaning |\n|---|---|\n{rows}"
    return _EXIT_CODES.sub(lambda match: match.group(1) + table + match.group(2), text)


def main() -> int:
    """Writes or checks, in the current directory."""
    base = Path.cwd()
    old = stale(base)
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path.relative_to(base)} is stale: run `make docs`", file=sys.stderr)
        return 1 if old else 0
    wanted = documents(base)
    for path in old:
        if path not in wanted:
            path.unlink()
            continue
        path.parent.mkdir(exist_ok=True)
        path.write_text(wanted[path], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
