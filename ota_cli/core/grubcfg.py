"""What GRUB reads from us: our part of `custom.cfg`, and one arguments file per slot.

The part is written once by `ota setup` and holds the rule, not the choice: an update changes
only the environment block and the slot's own directory, never a script (DESIGN section 6).

The kernel arguments lie in `slot-X/arguments.cfg`, a script of one `setparams` and one `set`
that the entry sources. So every argument is one single-quoted word whatever it contains, it is
replaced together with the kernel it belongs to, and it needs no room in the environment, whose
first sector must hold all that the switch depends on.
"""

from __future__ import annotations

import re
from textwrap import indent
from typing import List, Optional, Tuple

from ..errors import BootRefused
from ..model import SLOT_NAMES, SlotName, other_slot
from .cmdline import TRIAL_ARGUMENT
from .grubenv import REPAIR_HINT

#: Raised when the script changes; a newer one written by a newer `ota` is left alone.
RULE = 3
#: The first rule that takes a slot's `refreshed` boot files.
RULE_WITH_TWO_SETS = 2

_FIRST_LINE = r"^### BEGIN ota, rule ([0-9]{1,9}) ###(?:\n|\Z)"
_BEGIN = re.compile(_FIRST_LINE, re.MULTILINE)
_PART = re.compile(_FIRST_LINE + r".*?^### END ota ###(?:\n|\Z)", re.M | re.S)
_SOURCES_US = re.compile(r"^\s*(?:source|\.)\s+\S*custom\.cfg", re.MULTILINE)

_OPENING = """\
### BEGIN ota, rule {rule} ###
# Written by `ota setup`. Lines outside of BEGIN and END are kept.
if [ -n "$config_directory" ]; then
  set ota_home="$config_directory/../ota"
else
  set ota_home="$prefix/../ota"
fi
"""

# The twin is only asked what an ordinary boot would do: a trial found there may be over.
_ENVIRONMENT = """\
set ota_default=""
set ota_trial="0"
set ota_good_a="0"
set ota_good_b="0"
set ota_txn=""
load_env --file "$ota_home/bootenv" ota_default ota_trial ota_good_a ota_good_b ota_txn
if [ "$ota_default" != "a" -a "$ota_default" != "b" ]; then
  set ota_trial="0"
  load_env --file "$ota_home/bootenv.bak" ota_default ota_good_a ota_good_b
fi
"""

# Two sets of boot files a slot: a kernel of the running system's own packages comes in beside
# the one that boots, never in its place.
_READY = """\
set ota_ready_{slot}="0"
set ota_files_{slot}="$ota_home/slot-{slot}"
if [ -s "$ota_files_{slot}/ready" -a -s "$ota_files_{slot}/arguments.cfg" ]; then
  if [ -s "$ota_files_{slot}/kernel" ]; then set ota_ready_{slot}="1"; fi
fi
if [ -s "$ota_files_{slot}/refreshed/ready" -a -s "$ota_files_{slot}/refreshed/kernel" ]; then
  if [ -s "$ota_files_{slot}/refreshed/arguments.cfg" ]; then
    set ota_ready_{slot}="1"
    set ota_files_{slot}="$ota_home/slot-{slot}/refreshed"
  fi
fi
"""

_ORDINARY = """\
{keyword} [ "$ota_default" = "{slot}" ]; then
  if [ "$ota_ready_{slot}" = "1" ]; then set ota_pick="{slot}"
  elif [ "$ota_ready_{other}" = "1" -a "$ota_good_{other}" = "1" ]; then set ota_pick="{other}"
  fi
"""

# No readable environment: the marks in the slots' directories are all there is.
_WITHOUT_ENVIRONMENT = """\
elif [ "$ota_ready_a" = "1" -a -s "$ota_home/slot-a/good" ]; then set ota_pick="a"
elif [ "$ota_ready_b" = "1" -a -s "$ota_home/slot-b/good" ]; then set ota_pick="b"
elif [ "$ota_ready_a" = "1" ]; then set ota_pick="a"
elif [ "$ota_ready_b" = "1" ]; then set ota_pick="b"
fi
"""

_TRIAL = """\
if [ "$ota_trial" = "{slot}" -a "$ota_ready_{slot}" = "1" ]; then
  set ota_trial="0"
  if save_env --file "$ota_home/bootenv" ota_trial; then
    set ota_pick="{slot}"
    set ota_mode="{trial} ota.txn=$ota_txn"
  fi
fi
"""

_DEFAULT = """\
if [ "$ota_pick" = "{slot}" ]; then
  set default="ota-{slot}"
  set timeout_style="menu"
  set timeout="0"
  unset fallback
fi
"""

# GRUB runs a torn script without an error: only its last line tells that it is whole. A kernel that
# was loaded is not to be followed by another one, which GRUB starts without its arguments: so the
# initrd is asked for before.
_LOAD = """\
  set ota_initrd=""
  source "$ota_files_{slot}/arguments.cfg"
  if [ "$ota_initrd" = "yes" -a ! -s "$ota_files_{slot}/initrd" ]; then set ota_initrd=""; fi
  if [ -n "$ota_initrd" ]; then
    if linux "$ota_files_{slot}/kernel" "$@" $ota_mode; then
      set ota_loaded="1"
      if [ "$ota_initrd" = "no" ]; then boot
      elif initrd "$ota_files_{slot}/initrd"; then boot
      fi
    fi
  fi
"""

# What is reached after a slot was loaded did not load. A trial ends there, and the default is
# next; a default would end there at each boot, so a good system beside it is started instead. Only
# where its kernel was loaded and its initrd can not be read, the next start has to do better.
_ENTRY = """\
menuentry "ota: slot {slot}" --id ota-{slot} --unrestricted {{
  insmod gzio
{load}  if [ -z "$ota_mode" -a -z "$ota_loaded" ]; then
    if [ "$ota_ready_{other}" = "1" -a "$ota_good_{other}" = "1" ]; then
{load_other}    fi
  fi
  reboot
}}
"""

_CLOSING = "### END ota ###\n"


def part() -> str:
    """Our part of `custom.cfg`, markers included."""
    pieces = [_OPENING.format(rule=RULE), _ENVIRONMENT]
    pieces += [_READY.format(slot=slot) for slot in SLOT_NAMES]
    pieces += ['set ota_pick=""\nset ota_mode=""\nset ota_loaded=""\n']
    pieces += [_ordinary("if", "a"), _ordinary("elif", "b"), _WITHOUT_ENVIRONMENT]
    pieces += [_TRIAL.format(slot=slot, trial=TRIAL_ARGUMENT) for slot in SLOT_NAMES]
    pieces += [_DEFAULT.format(slot=slot) for slot in SLOT_NAMES]
    pieces += [_entry(slot) for slot in SLOT_NAMES]
    return "".join([*pieces, _CLOSING])


def rule_of(custom: str) -> Optional[int]:
    """The rule version of our part in `custom`, None where it has none."""
    begin = _BEGIN.search(custom)
    return int(begin.group(1)) if begin and _PART.search(custom) else None


def with_part(custom: str) -> str:
    """`custom` with our part at its end, where it has the last word; all else is kept.

    A part with a newer rule stays as it is. Raises BootRefused when a part has no end.
    """
    rule = rule_of(custom)
    if rule is not None and rule > RULE:
        return custom
    foreign = _PART.sub("", custom)
    if _BEGIN.search(foreign):
        raise BootRefused(
            "custom.cfg has a `### BEGIN ota` line without its `### END ota ###`",
            hint="remove the lines that belong to ota, then run `ota setup`",
            slug="custom-cfg-damaged",
        )
    gap = "\n" if foreign and not foreign.endswith("\n") else ""
    return foreign + gap + part()


def sources_custom(grub_cfg: str) -> bool:
    """Whether the distribution's `grub.cfg` reads `custom.cfg`."""
    return _SOURCES_US.search(grub_cfg) is not None


def arguments_file(words: List[str], has_initrd: bool) -> str:
    """The content of `arguments.cfg` for the kernel arguments `words`."""
    quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in words)
    return f"setparams {quoted}\nset ota_initrd={'yes' if has_initrd else 'no'}\n"


def read_arguments_file(data: bytes) -> Tuple[List[str], bool]:
    """Words and "has an initrd" of an `arguments.cfg`; raises BootRefused when it is damaged."""
    lines = data.decode("utf-8", "replace").split("\n")
    if "\ufffd" in lines[0] or len(lines) != 3 or not lines[0].startswith("setparams ") or lines[2]:
        raise BootRefused("arguments.cfg of a slot is damaged", hint=REPAIR_HINT)
    words = re.findall(r"'((?:[^']|'\\'')*)'", lines[0])
    return [word.replace("'\\''", "'") for word in words], lines[1] == "set ota_initrd=yes"


def _ordinary(keyword: str, slot: SlotName) -> str:
    return _ORDINARY.format(keyword=keyword, slot=slot, other=other_slot(slot))


def _entry(slot: SlotName) -> str:
    other = other_slot(slot)
    load, load_other = _LOAD.format(slot=slot), indent(_LOAD.format(slot=other), "    ")
    return _ENTRY.format(slot=slot, other=other, load=load, load_other=load_other)
