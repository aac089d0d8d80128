"""The catalogue of failures: every `slug` an error can carry, below the exit code it comes with.

What it is, then what to do. ota-errors(7) and the schema of `error.slug` are made from it; a test
compares it with what is raised anywhere in the program. A slug keeps its code and its meaning.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

from ..errors import EXIT_CODES
from . import roff

_INTERRUPTED = {"interrupted": "A signal ended it. Run the same command again."}

FAILURES: Dict[int, Dict[str, str]] = {
    1: {
        "bug": "`ota` did what nobody foresaw. Run it again with `-v` and report what it prints.",
        "command-failed": "A program that `ota` relies on is missing, failed or hung. The message "
        "has the command: run it by hand.",
        "demo-failed": "A step of `ota demo` ended as it should not. Report it.",
        "proxy": "The proxy that an update starts for the ECUs below ended or says nothing of use. "
        "Start `ota proxy` by hand to see why.",
    },
    2: {
        "gate-only": "The SSH key is for `ota ssh-gate` alone. Use another key.",
        "request": "What the ECU above asks by `ota ssh-gate` is malformed or not known here. "
        "Update the older of both.",
        "usage": "The command line makes no sense. `--help` tells how it is used.",
    },
    10: {
        "bad-algorithm": "The metadata is not signed with ES256. Sign with an EC P-256 key.",
        "bad-key": "A certificate has a key that is not EC P-256. Issue it anew.",
        "bad-signature": "The metadata was changed after signing, or signed with another key than "
        "that of its certificate. Ask the publisher.",
        "expired": "A certificate has expired. Check the clock, then ask the publisher.",
        "image-expired": "The image may be installed only until a date that is past. Ask the "
        "publisher for a newer one.",
        "made-after-expiry": "The image says it was made when its certificates had expired. Sign "
        "with valid ones.",
        "no-anchors": "No trust anchors are installed. Put the publisher's CA certificate into "
        "`/etc/ota/certs`.",
        "no-chain": "No chain of certificates leads from the signer to an installed anchor. "
        "Install the missing one, if you trust this publisher.",
        "not-a-ca": "A certificate that is no CA issued another. Remove it.",
        "not-yet-valid": "A certificate is not valid yet. Check the clock.",
        "path-length": "A CA allows fewer intermediates below it than there are. Sign with a "
        "certificate that is closer to it.",
        "revoked": "A certificate is in `/etc/ota/certs/revoked.txt`. Do not use the image.",
        "self-signed": "The signer's certificate is self-signed and not installed. Install it only "
        "if it came from the publisher by another way.",
        "signer-is-ca": "The signer's certificate is for issuing certificates. Sign with one below "
        "the CA.",
        "signer-not-allowed": "`allowed_signers` of `ota.yml` does not name the signer. Add it "
        "there to accept it.",
        "signer-usage": "The signer's certificate is not for signing code or data. Sign with one "
        "that is.",
        "unknown-extension": "A certificate has critical extensions that are not known here. "
        "Issue it anew.",
        "weak-signature": "A certificate is not signed over a SHA-2 hash. Issue it anew.",
    },
    11: {
        "another-image": "At the URL is another image than the one the slot was filled from. Give "
        "the URL of that one.",
        "downgrade": "The image is older than the running system. `--allow-downgrade` brings it "
        "all the same.",
        "incompatible": "The image is for another kind of device. Check its URL, and `compatible` "
        "in `ecu_info.yml`.",
        "newer-format": "The image has a format that this `ota` can not read. Update `ota` first.",
        "no-kernel": "The image holds no kernel in `/boot`. Install one into its root file system.",
        "not-self-confirming": "The new system could not confirm itself: the message lists what it "
        "lacks. `ota image prepare` puts it into an image.",
        "persist-conflict": "A persistent path is a directory in one system and not in the other. "
        "Remove it on the device or from the list.",
        "persist-loop": "A persistent path leads through a loop of symlinks. Mend the symlink, or "
        "take the path from the list.",
        "persist-too-deep": "Directories in a persistent one are nested deeper than any program "
        "needs. Remove them.",
        "text-too-large": "A text file of the image that `ota` has to read is too large. Ask the "
        "publisher.",
    },
    12: {
        "bad-certificate": "The signer's certificate can not be read. Ask the publisher.",
        "bad-line": "A table of the image has a line that makes no sense. Ask the publisher.",
        "bad-metadata": "`metadata.jwt` is malformed. Check the URL, then ask the publisher.",
        "bad-tree": "The image describes no possible tree of files. Ask the publisher.",
        "bad-xattr": "The image has an extended attribute that Linux does not take. Ask the "
        "publisher.",
        "content-encoding": "The server sends files compressed anew. Configure it to send them as "
        "they are.",
        "content-missing": "What the slot lacks is in neither slot. `ota verify --repair --version "
        "URL` fetches it.",
        "digest-mismatch": "A table is not the one that the metadata names. The image is damaged "
        "or half uploaded: ask the publisher.",
        "image-damaged": "The image can not be used as it is. Ask the publisher.",
        "incomplete": "A table of the image is missing. Ask the publisher.",
        "missing": "A file is not on the server (404, 410). Check the URL; if it is right, the "
        "image is incomplete.",
        "no-rest": "The server does not send the rest of a file. Its answers to range requests "
        "are wrong: ask whoever runs it.",
        "not-a-file": "Where `ota` has to read a text, as `/etc/fstab`, there is a fifo, a device "
        "or a directory. Ask the publisher.",
        "redirects": "The server redirects to where `ota` does not follow. Give the URL of the "
        "host that has the image.",
        "refused": "The server answers with another 4xx status. Check the URL, and whether a "
        "client certificate is wanted.",
        "slot-differs": "A slot is not what its signed image says. Update it to the same image "
        "again.",
        "too-large": "What came is larger than any image needs. Check the URL.",
        "unfinished": "The directory holds no image that `ota image build` finished. Build again.",
        "wrong-content": "A downloaded file is not what the signed image says. The image on the "
        "server is damaged or half uploaded: ask the publisher.",
    },
    13: {
        "boot-too-small": "The boot partition has no room for the new kernel. Remove old kernels "
        "from `/boot`.",
        "no-space": "A file system has no room or no inodes left. Make room on what is named.",
        "no-space-boot": "The boot partition filled up while it was written to. Remove old kernels "
        "from `/boot`.",
        "slot-too-small": "The slot has too few bytes or inodes for the image. Use a smaller image "
        "or a larger partition.",
        "storage-full": "What the slot lies on, a thin volume or a sparse file, has no room for "
        "what its file system holds. Make room there.",
    },
    14: {
        "boot-files-damaged": "Kernel and initrd of a slot on the boot partition are not what was "
        "installed. The hint names the command that installs them anew.",
        "boot-not-recorded": "It is not recorded which partition is the boot partition. Mount it, "
        "or run `ota setup` on a new device.",
        "boot-partition": "The boot partition can not be read. Is it mounted, and is its disk "
        "well?",
        "disk-failing": "A file can not be read or written: its disk is failing. See the kernel "
        "log.",
        "mount-inside": "Something is mounted inside of a slot's directory. Unmount it.",
        "no-boot-partition": "`/boot` is no partition that both slots could share. Mount one "
        "there.",
        "no-image": "The slot holds no complete image. Update it.",
        "not-empty": "The target of `ota image unpack` holds something else. Give an empty one.",
        "not-good": "The slot holds no system that is known to be good. Update it.",
        "not-staged": "Nothing is staged. `ota update --stage-only` stages an image.",
        "read-back": "The slot does not read back as it was written. Its disk is failing: see the "
        "kernel log.",
        "running-slot": "The slot that runs can not be written to. Name the other one.",
        "slot-armed": "The slot to be repaired is armed. `ota rollback` takes that back.",
        "slot-damaged": "The file system of the slot is damaged or lost writes. `ota update` "
        "checks it, and makes a new one where it must.",
        "slot-folds-case": "The file system of the slot, or of the target of `ota image unpack`, "
        "takes upper and lower case in names for the same. Use one that tells them apart, like "
        "ext4 without `casefold`.",
        "slot-in-use": "The slot is mounted, or held by another program. Unmount it.",
        "slot-unusable": "The slot can not be opened, mounted, read or written. See `slots:` in "
        "`ecu_info.yml`, `lsblk`, and the kernel log.",
        "slot-was-immutable": "Files of the slot had flags of `chattr` that forbid changes. They "
        "were cleared: run the same command again.",
        "slots-disagree": "The kernel command line says that another slot runs than is mounted on "
        "`/`. Correct `slots:` in `ecu_info.yml`.",
        "staged-by-another": "The slot holds what an update of several ECUs staged. Run that "
        "update again.",
        "unknown-image": "The slot holds another image than `ota` brought there. `ota update` "
        "fills it anew.",
        "unknown-slot": "It is not known which slot runs. Run `ota setup`.",
        "unreadable": "A persistent file can not be carried over. The disk may be failing: see "
        "the kernel log.",
        "wrong-boot-partition": "`/boot` is another partition than `ota setup` recorded. Mount the "
        "right one; `ota setup --repair` accepts this one.",
    },
    15: {
        "boot-copy": "The `/boot` of the image holds what can not be copied to where CBoot reads "
        "it. Remove it from the image.",
        "boot-file-changed": "A kernel or initrd changed after it was verified. Run the same "
        "command again.",
        "boot-not-set-up": "The boot loader is not set up for `ota`. Run `ota setup`.",
        "boot-not-writable": "GRUB can not write to the boot partition, as it must to try a system "
        "once: LVM, RAID, encryption, or another file system than ext and FAT. Use a partition of "
        "its own.",
        "boot-partition": "A file on the boot partition, or another one that decides a trial, can "
        "not be read or written: the message names it. Is its file system mounted, and mounted "
        "writable?",
        "boot-refused": "The boot loader's settings are not as they should be. `ota setup "
        "--repair` mends them.",
        "boot-unreadable": "A file that CBoot boots can not be read. Its disk may be failing: see "
        "the kernel log.",
        "cboot": "This Jetson can not be served: the message says why. ota-boot(7) tells which "
        "can.",
        "custom-cfg-damaged": "The part of `ota` in GRUB's `custom.cfg` has no end. Mend or remove "
        "it, then run `ota setup`.",
        "custom-cfg-not-read": "GRUB's `grub.cfg` does not read `custom.cfg`. Make it do so.",
        "env-damaged": "The boot loader's environment is missing or damaged. Run `ota setup "
        "--repair`.",
        "env-disagrees": "Another reader finds other values in the environment than were written. "
        "Run `ota setup --repair`.",
        "env-full": "The environment has no room for all variables. Run `ota setup --repair`.",
        "extlinux": "`/boot/extlinux/extlinux.conf` does not say what boots, or names files that "
        "are missing. Correct it in the image, or on the running system.",
        "kernel-argument": "GRUB can not pass on a kernel argument. Change it in "
        "`/etc/ota/cmdline` of the image or on the running system.",
        "no-boot-loader": "No boot loader that `ota` knows was found. See `bootloader` in "
        "`ecu_info.yml`.",
        "no-default": "The boot loader has no default slot. Run `ota setup --repair`.",
        "no-kernel": "The slot holds no kernel to boot. Install one into it.",
        "not-armed": "What the update armed is not armed any more. Run the update again.",
        "not-ready": "The slot has no complete boot files. Run `ota setup`, or update the slot.",
        "nothing-armed": "`ota wait` finds no update that is armed or on trial, or one that the "
        "last boot did not try. `ota status` tells how the last one ended.",
        "nothing-boots": "CBoot says that no slot is bootable. The hint has the command that makes "
        "the running one bootable again.",
        "nvbootctrl": "`nvbootctrl` is missing, failed, hung, or printed no sense. Run it by hand, "
        "and see the kernel log.",
        "only-bootable-slot": "The default slot would not boot, so the other one is not replaced. "
        "Run `ota setup --repair`.",
        "read-back": "The boot partition does not hold what was written. Its disk may be failing: "
        "see the kernel log.",
        "running-not-next": "The running slot is not what boots next. `ota status` tells what to "
        "do.",
        "slots-disagree": "CBoot says that another slot was booted than is mounted on `/`. Correct "
        "`root=` in `extlinux.conf` of the slot that the message names.",
        "trial-mark": "The name of a transaction, which came from the ECU above, does not fit into "
        "the mark of a trial. Update the `ota` there.",
    },
    16: {
        "ecu-failed": "An ECU could not do its part, and none was switched. Mend that ECU and run "
        "the same command again.",
    },
    17: {
        "ecus-differ": "Some ECUs are switched or confirmed, and others not, or it is not known. "
        "`ota status` shows them all; run the same command again when all are reachable.",
    },
    18: {
        "failed-before": "This very image fell back on this device before. `--retry-failed` tries "
        "it again.",
        "fell-back": "The last trial boot ended in the old system. `ota status` tells why.",
        "given-up": "The joint confirmation of several ECUs was given up. See `ota status`.",
        "health-check": "A health check failed. A reboot returns to the old system.",
        "not-all-healthy": "Not all ECUs of an update are healthy: all return to their old "
        "systems. See `ota status`.",
        "not-waiting": "The ECU does not wait for the confirmation of this update (any more). See "
        "`ota status`.",
    },
    19: {
        "access-denied": "The server answers 401 or 403. Check the cookies and the client "
        "certificate, and whether they have expired.",
        "client-certificate": "The server does not accept the client certificate. Give the right "
        "`--cert` and `--key`.",
    },
    69: {
        "broken-off": "The download was broken off by another failure. Run it again.",
        "cut-short": "The connection broke again and again. What was fetched is kept: run it "
        "again.",
        "ecu-lost": "The connection to an ECU broke in the middle. Run the same command again.",
        "ecu-silent": "An ECU was connected and fell silent. Is its network there, and is it "
        "overloaded?",
        "ecu-timeout": "An ECU does not answer in time. Is it running?",
        "ecu-unreachable": "An ECU can not be reached by SSH. Is it running, and is `ip_addr` in "
        "`ecu_info.yml` right?",
        "rebooting": "This machine is going down. Ask again when it is up.",
        "server-certificate": "The certificate of the server is not accepted. Check the host name "
        "and the clock; a CA of your own needs `--cacert`.",
        "server-error": "The server answers with a 5xx status. Run it again later.",
        "tls": "The server does not speak TLS 1.2 or newer. Check the port.",
        "too-slow": "Next to nothing came for `no_progress_timeout`. What was fetched is kept: run "
        "it again.",
        "unreachable": "The server or proxy can not be reached. Check the network, then run it "
        "again.",
    },
    75: {
        "busy": "Something else is at work on the same. Run it again later.",
        "decided": "It is decided already that the new system stays. `ota commit` tells all ECUs; "
        "then `ota rollback --all` goes back.",
        "joint-open": "An earlier update of several ECUs is neither confirmed nor taken back. "
        "Reboot them, or run `ota rollback --all`.",
        "locked": "Another `ota` changes the device. Wait until it is done.",
        "not-ended": "The update had no end within `--timeout`. Ask again.",
        "trial-unconfirmed": "`ota setup` waits for the end of a trial. `ota commit` confirms it, "
        "`ota rollback` returns to the old system.",
        "unconfirmed-trial": "The running system is on trial. `ota commit` confirms it, "
        "`ota rollback` returns to the old one.",
    },
    77: {
        "needs-root": "Only root may do this here. Run it with sudo.",
    },
    78: {
        "bad-anchor": "A file in `/etc/ota/certs` is no certificate. Replace or remove it.",
        "bad-revoked": "A line of `revoked.txt` is no sha256 fingerprint. Correct it.",
        "bad-value": "A configuration file has a key or value that makes no sense. The message "
        "has file and line.",
        "bad-yaml": "A configuration file is not YAML. The message has file and line.",
        "configuration": "Something that was configured or given by name can not be used. The "
        "message names it.",
        "ecu-circle": "ECUs list each other as secondaries. Correct their `ecu_info.yml`.",
        "history-damaged": "`history.jsonl` can not be read. Remove it: the next update begins it "
        "anew.",
        "host-key-changed": "The host key of an ECU is not the known one. It was set up anew, or "
        "somebody else answers: find out, then correct `known_hosts`.",
        "host-key-unknown": "The host key of an ECU is not known. Compare its fingerprint and add "
        "it to `/boot/ota/known_hosts`.",
        "identity-file": "Our SSH key for an ECU can not be read. Make it with `ssh-keygen`, or "
        "run this as root.",
        "key-refused": "An ECU refuses our SSH key. See `ota-ssh-gate`(1).",
        "no-gateway": "The proxy would ask servers in plain http. Set `gateway: true` in "
        "`proxy_info.yml`, or name the next proxy as `upper_ota_proxy`.",
        "no-temporary": "No temporary directory can be made. Make room in `/tmp`, or set `TMPDIR`.",
        "not-ota": "What answers at the address of an ECU is not `ota`. See its authorized_keys.",
        "ota-missing": "There is no `ota` on an ECU. Install it there.",
        "ota-too-old": "The `ota` of an ECU is too old to be asked. Update it there.",
        "other-ecu": "Another ECU answers than is configured. Correct `secondaries`, or `ecu_id` "
        "there.",
        "other-schema": "The `ota` of an ECU speaks another version of the protocol. Update the "
        "older of both by itself.",
        "proxy-on-localhost": "The ECUs below can not reach a proxy on localhost. Set `ip_addr` in "
        "`ecu_info.yml`.",
        "slots-overlap": "Both slots, or a slot and the boot partition, have one place. Correct "
        "`slots:` in `ecu_info.yml`.",
        "state-damaged": "`state.json` is damaged. `ota setup --repair` writes a new one.",
        "tree-changed": "The tree changed while an image was built of it. Build it again when "
        "nothing writes there.",
        "unreadable-anchor": "A file in `/etc/ota/certs` can not be read. Mend or remove it.",
    },
    129: _INTERRUPTED,
    130: _INTERRUPTED,
    143: _INTERRUPTED,
}  # fmt: skip

_ABOUT: Tuple[str, ...] = (
    "A failure has an exit code, which tells a script what kind of thing went wrong, and a slug, "
    "which tells what it was: `error.slug` of the document that `--json` prints (see "
    "`ota-events`(7)) and `slug` of the findings of `ota doctor`. Both keep their meaning from "
    "version to version, messages do not. Slugs may be added: take one that you do not know as its "
    "exit code says.",
    "A hint comes with every failure, and is closer to the case than what is said here. "
    "`footprint` tells whether anything was changed: `nothing`, `standby` (only the slot that is "
    "not running), `output` (what is being made) or `boot` (perhaps the boot loader's settings).",
    "What an ECU below tells has the slug and the exit code from there.",
)


def slugs() -> List[str]:
    """All slugs, each once."""
    return sorted({slug for known in FAILURES.values() for slug in known})


def errors_page(name: str) -> str:
    """ota-errors(7)."""
    parts = [roff.header("ota-errors", 7, name), roff.section("name")]
    parts.append("ota\\-errors \\- every failure of ota: exit code, slug, and what to do")
    parts.append(roff.section("description"))
    parts += [roff.paragraph(text) for text in _ABOUT]
    parts.append(roff.section("failures"))
    for code, known in FAILURES.items():
        parts.append(f'.SS "{code}: {roff.escape(EXIT_CODES[code].replace("`", ""))}"')
        parts.append(roff.items(known.items()))
    parts += [roff.section("see also"), roff.escape("ota(1), ota-events(7), ota-doctor(1)")]
    return roff.page(parts)
