"""The systemd units that end a trial boot: one confirms it, one gives up on it; and, for CBoot,
one that makes it the only one.

They act only when the kernel command line says `ota.trial` (systemd.unit(5),
ConditionKernelCommandLine=), or the mark `/.ota/trial` of CBoot's slots does, so an ordinary boot
is never touched by them; but one in which other ECUs are still to be told of a decision
(`joint-decided`) goes on with that.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

from ..model import DEFAULT_DEADLINE_S

COMMIT_UNIT = "ota-commit.service"
DEADLINE_UNIT = "ota-deadline.service"
ONCE_UNIT = "ota-once.service"
#: NVIDIA's unit that calls each boot a success, which restores CBoot's counter of retries.
VERIFIER_UNIT = "nv_update_verifier.service"
VERIFIER_PATH = f"/etc/systemd/system/{VERIFIER_UNIT}.d/50-ota.conf"
VERIFIER_TEXT = """\
# Whether a trial boot is a success `ota commit` decides, after the health checks.
[Unit]
ConditionPathExists=!/.ota/trial
"""

# Failed health checks (18) end the trial at once, and only a trial; what may pass, like another
# `ota` at work or an ECU that does not answer, is tried again until the deadline. It may wait for
# other ECUs; a oneshot has all the time it wants (systemd.service(5), TimeoutStartSec=). No
# hardening here: the health checks inherit it, and one that fails for it alone would reject a
# sound system.
_COMMIT = """\
[Unit]
Description=Confirm the updated system after its health checks
Documentation=man:ota-commit(1)
ConditionKernelCommandLine=|ota.trial
ConditionPathExists=|/.ota/trial
ConditionPathExists=|/boot/ota/joint-decided
Wants=network-online.target
After=multi-user.target network-online.target

[Service]
Type=oneshot
SyslogIdentifier=ota
ExecStart=/bin/sh -c 'ota commit; code=$$?; \
  if [ $$code = 18 ] && (test -e /.ota/trial || grep -qw ota.trial /proc/cmdline); then \
    systemctl reboot; fi; \
  exit $$code'
Restart=on-failure
RestartSec=5
RestartPreventExitStatus=18

[Install]
WantedBy=multi-user.target
"""

# Who goes by the mark, or removes it, holds its directory from then until CBoot is told: a commit
# that ended in between would be undone without a word. One that hangs is not waited for for ever,
# and where there is nothing to hold the rest is done all the same (`command`: sh goes on).
_HOLD = "command exec 9</.ota/; flock -w 90 9"

# Of the hardening directives those fit that need no mounts and ask nothing of nvbootctrl: a unit
# that can not be started returns nobody. Each unit adds the capabilities it needs.
_HARDENED = """\
NoNewPrivileges=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native"""

# Makes the slot that is known to work the active one, by the words of `$mark`; where that is
# damaged it is the one that does not run.
_WAY_BACK = r"""target= back=; \
    for word in $$mark; do \
      case $$word in \
        ota.back=rootfs:[01]) target="-t rootfs"; back=$${word##*:};; \
        ota.back=bootloader:[01]) target=; back=$${word##*:};; \
      esac; \
    done; \
    if [ -z "$$back" ]; then \
      timeout 20 nvbootctrl is-unified-enabled || target="-t rootfs"; \
      case $$(timeout 20 nvbootctrl $$target get-current-slot) in 0) back=1;; 1) back=0;; esac; \
    fi; \
    timeout 20 nvbootctrl $$target set-active-boot-slot $$back"""

# No Python and no dependencies: emergency mode, a stuck job, memory pressure or a broken
# interpreter must not keep this from running. `-ff` asks the kernel, not PID 1. What comes
# after `sleep` runs however it ended. Confirmed is what the boot loader would boot again, or
# a slot whose mark is gone; a disk that is missing or hangs confirms nothing. `given-up` tells the
# old system which transaction ended this way. A healthy system that waits for other ECUs has said
# in `/run/ota-healthy` how many seconds more it may take. (`$$` is systemd's `$`.) A commit that
# failed may have left CBoot with the new slot as the active one: the way back is told it once more.
# (nvbootctrl writes to raw flash: CAP_SYS_RAWIO.)
_DEADLINE = r"""[Unit]
Description=Return to the previous system when this one is not confirmed in time
Documentation=man:ota-commit(1)
ConditionKernelCommandLine=|ota.trial
ConditionPathExists=|/.ota/trial
DefaultDependencies=no
IgnoreOnIsolate=yes

[Service]
Type=simple
OOMScoreAdjust=-1000
CapabilityBoundingSet=CAP_SYS_BOOT CAP_DAC_OVERRIDE CAP_SYS_RAWIO
{hardened}
ExecStart=/bin/sh -c 'deadline={deadline_s}; \
  marked=; if [ -e /.ota/trial ] || [ -L /.ota/trial ]; then marked=1; fi; \
  mark=$$(cat /.ota/trial 2>/dev/null); \
  for word in $$(cat /proc/cmdline) $$mark; do \
    case $$word in \
      ota.slot=?) slot=$${{word#ota.slot=}};; \
      ota.txn=*) txn=$${{word#ota.txn=}};; \
      ota.deadline=|ota.deadline=*[!0-9]*) ;; \
      ota.deadline=*) deadline=$${{word#ota.deadline=}};; \
    esac; \
  done; \
  sleep $$deadline; \
  more=$$(cat /run/ota-healthy 2>/dev/null); \
  case $$more in ""|*[!0-9]*) ;; *) sleep $$more;; esac; \
  if [ "$$marked" ]; then \
    {hold}; \
    names=$$(timeout 10 ls -A /.ota/) && ! echo "$$names" | grep -qx trial && exit 0; \
    {way_back}; \
  else timeout 10 grep -aqx "ota_default=$$slot" /boot/ota/bootenv && exit 0; fi; \
  timeout 10 sh -c "echo $$txn >/boot/ota/given-up && sync /boot/ota/given-up"; \
  exec systemctl reboot -ff'

[Install]
WantedBy=sysinit.target
"""


# CBoot tries a slot until its counter of retries has run out. Where the trial gets as far as this,
# the slot that is known to work is made the active one again: the next boot goes back to it,
# whatever happens to the trial, until a commit makes the new slot active: that comes after it, and
# one by hand ends it. Others than root read the copy of the mark. nvbootctrl is closed: should it
# make a flash writable by ioctl (BLKROSET), that takes CAP_SYS_ADMIN, which only the deadline unit,
# the second to tell CBoot the same, does without.
_ONCE = r"""[Unit]
Description=Make one boot of the updated system all there is until it is confirmed
Documentation=man:ota-boot(7)
ConditionPathExists=/.ota/trial
DefaultDependencies=no
Before=ota-commit.service

[Service]
Type=oneshot
RemainAfterExit=yes
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_SYS_ADMIN CAP_SYS_RAWIO
{hardened}
ExecStart=/bin/sh -c 'mark=$$(cat /.ota/trial); \
  echo "$$mark" >/run/ota-trial; \
  for attempt in 1 2 3; do \
    {hold}; \
    names=$$(ls -A /.ota/) && ! echo "$$names" | grep -qx trial && exit 0; \
    {way_back} && exit 0; \
    exec 9<&-; \
    sleep 2; \
  done; \
  exit 1'

[Install]
WantedBy=sysinit.target
"""


class Unit(NamedTuple):
    """A unit file and the target whose start pulls it in."""

    name: str
    text: str
    wanted_by: str


def units(deadline_s: int = DEFAULT_DEADLINE_S) -> Tuple[Unit, ...]:
    """The units every updatable system needs; `deadline_s`: seconds given to a trial boot whose
    command line has no `ota.deadline=`."""
    shared = {"hardened": _HARDENED, "hold": _HOLD, "way_back": _WAY_BACK}
    deadline = _DEADLINE.format(deadline_s=int(deadline_s), **shared)
    return (
        Unit(COMMIT_UNIT, _COMMIT, "multi-user.target"),
        Unit(DEADLINE_UNIT, deadline, "sysinit.target"),
        Unit(ONCE_UNIT, _ONCE.format(**shared), "sysinit.target"),
    )
