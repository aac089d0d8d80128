"""The written parts of the man pages."""

from __future__ import annotations

from typing import Dict, Tuple

from . import roff

OVERVIEW = (
    "`ota` brings a signed image of a whole root file system, kernel included, into the inactive "
    "one of two slots, out of files the device already has; only content it lacks is downloaded, "
    "from any server that can do HTTPS GET. The new system is booted on trial and becomes the "
    "default only when it has confirmed itself; otherwise the old one boots again.",
    "The result of a verb goes to standard output, everything else to standard error. A failure "
    "says what failed, on what, why, what to do, and whether anything on the device was changed. "
    "With `--json` there is exactly one document on standard output, also on failure.",
)

LOGS = (
    "What changes the state of a device is told to its journal (`journalctl -t ota`), whoever ran "
    "`ota` and with whatever options: that a slot is being filled, staged, armed, on trial, "
    "confirmed, taken back, fell back or is marked bad, and how a command failed that had begun to "
    "change it. The fields `OTA_STATE`, `OTA_SLOT`, `OTA_VERSION`, `OTA_TRANSACTION`, "
    "`OTA_COMMAND`, and of a failure `OTA_ERROR`, `OTA_EXIT_CODE` and `OTA_HINT`, are for "
    "`journalctl OTA_STATE=fell_back` and the like. With `--root DIR` that is the journal that "
    "listens at `DIR/run/systemd/journal/socket`. It is never waited for: without a journal, or "
    "with one that is stuck, nothing is told.",
    "Where the journal reads standard error, as of a systemd unit, each line says how important it "
    "is (`sd-daemon`(3)).",
    "`--log-file` appends everything that happens, progress and what `-q` leaves out included, "
    "with the time and the process id of each line. The file is made for its owner only; one that "
    "can not be opened, a symlink for instance, is exit code 78, before anything is done. One that "
    "can not be written any more is warned of, once. What is longer than 4000 characters is "
    "cut. No log has cookies, keys, passwords or the query of a URL.",
)

FILES = (
    ("/boot/ota/ecu_info.yml", "Identity, slots and boot loader; see `ecu_info.yml`(5)."),
    ("/boot/ota/proxy_info.yml", "Proxies; see `proxy_info.yml`(5)."),
    ("/etc/ota/ota.yml", "Defaults for options; see `ota.yml`(5)."),
    ("/etc/ota/certs/*.pem", "Anchors and intermediates images are verified with."),
    ("/etc/ota/certs/revoked.txt", "sha256 fingerprints of certificates that are refused."),
    ("/etc/ota/health.d/", "Executables that must succeed before a trial boot is confirmed."),
    ("/etc/ota/cmdline", "In an image: kernel arguments in place of the running ones."),
    ("/boot/ota/state.json", "What the device remembers of its slots and the last update."),
    ("/boot/ota/history.jsonl", "How the last 200 updates ended; see `ota-history`(1)."),
    ("/var/cache/ota/", "Objects that `ota proxy` keeps; may be removed when it does not run."),
    ("/boot/ota/known_hosts", "Host keys of the ECUs below."),
    ("/boot/ota/joint-decided", "There until all ECUs know that their update is confirmed."),
    ("/run/ota-healthy", "How many seconds more a healthy trial boot has to wait for others."),
    ("/run/ota-ecus.json", "Since when ECUs below do not answer."),
    ("/run/ota.lock", "Held by the one `ota` that changes the device."),
)

SECURITY = (
    "Trusted are the anchors in `/etc/ota/certs` of the running system, what is on the boot "
    "partition, and root on the device; an ECU above as far as `ota-ssh-gate`(1) says. The server, "
    "the network, proxies and every byte of an image are not, until the signature of the image "
    "and the digests it names hold. A signed image may do what root may.",
    "Keys are EC P-256. The anchor is a CA certificate of your own (`openssl req -x509 -newkey ec "
    "-pkeyopt ec_paramgen_curve:P-256`), whose key belongs on no connected machine; it issues the "
    "signer's certificate, directly or through intermediates. The signer's key is what has to be "
    "kept safe where images are signed (`ota image sign`).",
    "To rotate the signer, issue another certificate below the same anchor; devices need nothing. "
    "To rotate the anchor, ship an image, signed below the old one, that has the new one under "
    "another file name; sign below the new one when all devices run that, then remove the old file "
    "on the devices: `/etc/ota` is kept from the running system, so an image adds anchors and "
    "takes none away.",
    "To revoke a certificate, put its sha256 fingerprint into `/etc/ota/certs/revoked.txt` on the "
    "devices; `allowed_signers` of `ota.yml`(5) names those who may sign at all. A short life of "
    "the signer's certificate bounds what a lost key can do, `--expires` of `ota image build` how "
    "long an image can be installed. The clock counts as no earlier than the newest image that was "
    "confirmed here.",
    "Cookies and keys are given by file name and never shown, remembered or handed on; `--cookie` "
    "and a password in a URL are seen in process lists.",
)

VERB_NOTES: Dict[str, Tuple[str, ...]] = {
    "update": (
        "An image that runs already is not brought again: exit 0. Interrupted anywhere, the old "
        "system boots; the same command goes on where it stopped.",
        "As an ordinary user, on slots that are directories, owners are not applied; other slots "
        "need root.",
        "Where `ecu_info.yml` lists secondaries, all ECUs bring the image into their standby slots "
        "at the same time, and wait for each other. Only when all are ready the secondaries are "
        "armed, this ECU last. When one fails, what was armed is taken back and the exit code is "
        "16; one of which that is not certain is named, with exit code 17. The ECUs below fetch "
        "from the server themselves, with `cacert` and `limit_rate` of their own `ota.yml`, and "
        "without cookies. `--no-format` and `--no-self-confirm` are about this ECU alone.",
        "`--dry-run` asks the ECUs below as well, and fails as the update would where one does not "
        "answer.",
        "Where more than one ECU tries the new system they are confirmed together; see "
        "`ota-commit`(1).",
        "`--reboot` begins with the lowest: each ECU reboots when those below it are back and "
        "healthy, this one last. When one does not come back healthy within `fleet_deadline` of "
        "`ota.yml`, what is still armed is taken back, the others return, this ECU does not "
        "reboot, and the exit code is 16.",
    ),
    "check": (
        "With ECUs below, exit 0 means that all of them run the image. When one can not be asked "
        "and none of the others has an update, the exit code is 16.",
        "The bytes to download are exact for images of this program; images of other writers do "
        "not say how large their compressed files are, then the figure is a limit (`exact` is "
        "false in the document).",
        "An image for which the standby slot or the boot partition has no room is available all "
        "the same; a warning says so, here and with `ota update --dry-run`.",
    ),
    "commit": (
        "Run by `ota-commit.service` at boot. Exit 18 when a health check fails, or when the last "
        "update fell back. Where `/boot` is full it warns that what came of the trial is not on "
        "record, and goes on: what boots is switched in place. Once there is room, run it again.",
        "Of an update of several ECUs each that passed its health checks is `healthy` and waits. "
        "The ECU that the update was begun on asks the others every few seconds; when all are "
        "healthy it confirms itself, which is the decision, and then tells the others to. One that "
        "can not be told is named, exit 17, and told by the next `ota commit`, which a boot with "
        "`/boot/ota/joint-decided` runs by itself. When one falls back, or not all are healthy "
        "within `fleet_deadline` of `ota.yml`, nothing is confirmed and all return by a reboot: "
        "exit 18; what was healthy stays staged. Where the ECU that the update was begun on did "
        "not need it itself, run this there when the others have rebooted.",
    ),
    "activate": (
        "With `--all` or `--ecu` the ECUs boot what one `ota update --stage-only` staged on them, "
        "or none does; one that runs its image already stays as it is.",
    ),
    "switch-slot": (
        "With `--all` or `--ecu` the ECUs switch together, or none does, as with `ota update`.",
    ),
    "rollback": (
        "With `--all` what is armed or on trial is taken back on all ECUs; where nothing is, all "
        "go back to their previous good slots, or none does.",
        "Running an unconfirmed trial: reboots into the old slot. Armed but not booted: disarms. "
        "Confirmed: the previous good slot is booted, on trial like any other.",
    ),
    "proxy": (
        "It serves GET, for files of the named servers, to this ECU and the secondaries of "
        "`ecu_info.yml`, in plain http. It asks the servers over TLS where `proxy_info.yml` says "
        "`gateway` (or there is none), and the next proxy otherwise; it adds the cookies given "
        "here, clients need none.",
        "An object that several ask for at once is fetched once. Objects are kept by the sha256 "
        "that `ota` names in its requests, metadata never; `X-Cache` in an answer says `hit`, "
        "`miss` or `none`. Half of the room on the file system is used before old objects go, "
        "three quarters never exceeded. Nobody needs to trust the proxy or its cache: clients "
        "verify what they get.",
    ),
    "ssh-gate": (
        "Make a key on the ECU above (`ssh-keygen -t ed25519 -N '' -f KEY`), name it as "
        "`identity_file` there, and add its public half to `authorized_keys` of this ECU, in one "
        'line: `restrict,command="ota ssh-gate" ssh-ed25519 AAAA...`. Such a key can do what an '
        "ECU above may ask, nothing else. A request names no paths, and no signature, certificate "
        "or digest is left unchecked for it. But it hands on `--allow-downgrade`, "
        "`--retry-failed` and `--trust-record`: who has the key can bring back an older image, if "
        "it was signed for this ECU, and switch between those that are there.",
        "The ECU above takes nobody's host key on trust: `ssh-keyscan` prints the line for its "
        "`/boot/ota/known_hosts`. Files of ssh's own configuration are not read.",
    ),
    "status": (
        "An ECU that does not answer within 20 s, can not be reached, or is only known by "
        "`available_ecu_ids` is shown with the reason; `unreachable_since` counts from when "
        "`ota status` first missed it, run as root.",
    ),
    "verify": (
        "Persistent files, and what the update itself wrote, are not compared; see `ota-image`(5). "
        "While it looks, no other `ota` changes the slot. Slots that are no "
        "directories need root; so do owners, which are not compared for others. The ECUs below "
        "are not asked.",
        "What a line may say of a path: `content`, `mode`, `owner`, `target` of a symlink, "
        "`hard link`, `extended attributes`, `missing`, `not in the image` or `can not be read`. "
        "Exit 12 when there are any, 14 when the slot holds no complete image, 10 when its image "
        "is not trusted any more.",
        "`--repair` fills the standby slot again from the image whose signed metadata it holds, as "
        "an update would: what its system changed while it ran is undone, and persistent files are "
        "carried over anew. Content is taken from that slot and from the running one. What is in "
        "neither is fetched from `--version URL`, where that very image is published; without it "
        "the repair is refused with exit 12 and the slug `content-missing`, and another image "
        "there with exit 11, before anything is changed. Where nothing differs nothing is written.",
        "A slot that was good is good again afterwards, what the boot loader falls back to; one "
        "that was staged is staged. Nothing is armed, and what boots next stays. One that is armed "
        "is refused, exit 14, until `ota rollback` has taken that back; an image that fell back "
        "here with exit 18, while a trial is not confirmed with 75, and a slot that has no image "
        "with 14. Interrupted anywhere, the running system boots, and the same command goes on "
        "where it stopped; `ota update` does as well, with any image.",
        "In the document, `result` has `slot`, `version`, `image_id`, `equal`, `files` "
        "(how many were compared), and `differences`, each with `path` and `what`. With `--repair` "
        "they are what was found before it, and there are `repaired` (whether anything was to be "
        "done), `state` (of the slot now), `bytes`, `seconds` and `carried` as of `ota update`.",
    ),
    "history": (
        "It is kept in `/boot/ota/history.jsonl`, which both slots see; the last 200 ends are. It "
        "needs no root. Lines that are damaged are left out with a warning.",
        "In the document, each of `result.updates` has `txn`, `kind` (`update`, `rollback`, "
        "`switch-slot` or `repair`), `outcome` (`committed`, `fell_back` or `withdrawn`; "
        "`repaired` of a repair), `version`, `from`, "
        "`to`, `started`, `ended`, `reason`, and `attempts`: trials that never reached user space.",
        "`ended` is when `ota` noticed; of a trial that fell back unnoticed, when the system that "
        "runs was booted.",
    ),
    "image serve": ("For development only: its certificate is made anew at each start.",),
    "image build": (
        "The same tree gives the same bytes. `created` is set by `ota image sign`, from "
        "`SOURCE_DATE_EPOCH` where that is set.",
    ),
}

_ECU_INFO = (
    ("format_version", "`1`."),
    ("ecu_id", "The name of this ECU; required. Without a file it is `autoware`."),
    ("ip_addr", "Address that local servers bind to; default `localhost`, where ECUs below can not "
     "reach the proxy of this one."),
    ("secondaries", "List of the ECUs below, each with `ecu_id`, `ip_addr` (an address or a host "
     "name) and optionally `ssh_user`, `ssh_port` and `identity_file` (our key, an absolute path). "
     "`ota status` asks them and `ota update` updates them; they may have their own. Their host "
     "keys are taken from `/boot/ota/known_hosts`, which both slots see, or without that file from "
     "the system's."),
    ("available_ecu_ids", "All ECUs below and including this one; default this one."),
    ("bootloader", "`auto` (default), `grub`, `cboot` (Jetson Xavier, also `jetson-cboot`), or "
     "`directory` (a marker file, for containers)."),
    ("slots", "`a` and `b`, each one of `device: PARTUUID=...` (or `UUID=`, `LABEL=`, `/dev/...`), "
     "`file: PATH` (a disk-image file), `directory: PATH`. Without it the slots are the partition "
     "on `/` and the one other partition of the same disk and size."),
    ("compatible", "Refuse images that name another value."),
)  # fmt: skip

_PROXY_INFO = (
    ("upper_ota_proxy", "`http://HOST:PORT` of the proxy to fetch through."),
    ("enable_local_ota_proxy", "Start the local proxy for an update of ECUs below this one; "
     "default true without a file, false with one."),
    ("gateway", "Whether the local proxy asks servers with https; default true without a file, "
     "false with one. Without it the local proxy needs `upper_ota_proxy`: it asks no server in "
     "plain http unless `--insecure-http` is given."),
    ("enable_local_ota_proxy_cache", "Whether the local proxy keeps what it fetched, in "
     "`/var/cache/ota`."),
    ("local_ota_proxy_listen_addr", "Where the local proxy listens; default `ip_addr`."),
    ("local_ota_proxy_listen_port", "Its port; default 8082."),
)  # fmt: skip

_OTA_YML = (
    ("server", "Base URL: `--version NAME` then means `<server>/NAME/`; `{ecu_id}` is allowed."),
    ("cacert, cert, key", "TLS: certificates of the server, client certificate and its key."),
    ("limit_rate", "Bytes per second, like `500K` or `2M`."),
    ("connections", "Requests in flight; default 32."),
    ("no_progress_timeout", "Give up after so many seconds without a byte, or with less than "
     "16 bytes per second; default 600."),
    ("persist", "Paths (globs allowed) kept from the running slot besides the image's own list; "
     "default `/etc/ota /etc/machine-id /etc/hostname /etc/hosts /etc/netplan "
     "/etc/ssh/ssh_host_*`."),
    ("allowed_signers", "Common names or sha256 fingerprints; default: any under an anchor."),
    ("health_timeout", "Seconds for each health check; default 60."),
    ("commit_deadline", "Seconds in which a trial boot must confirm itself; default 600. It "
     "counts from when the update is armed on, not for a slot that is armed already."),
    ("fleet_deadline", "The same for one that is healthy and waits for other ECUs; default 1800."),
    ("require_all", "Of an update begun on this ECU, confirm all ECUs together; default true."),
    ("verify_local", "`full` (default) reads and hashes all local content. `stat` takes files of "
     "the standby slot whose size, times and inode are those of its index as they are, but for "
     "those in `/boot`. It is used only while nobody but `ota` had the slot since it was filled: "
     "one that was booted or mounted since, or not unmounted cleanly, is read whole. A "
     "device or file that holds the wanted image already is then not looked through at all: only "
     "what boots is read, and `ota update` is a matter of seconds. What a failing disk did to its "
     "other files shows in the trial alone, or in `ota verify`."),
    ("verify_writes", "`true` reads back from the disk what an update copied from elsewhere in the "
     "device, and what it had fetched before it was interrupted, not only what it downloads and "
     "what boots. `false` does not; `--verify-writes` does all the same. Default: only before "
     "Linux 5.8, which does not tell of writes of copies that failed. Persistent files are not "
     "read back."),
)  # fmt: skip


def pages(name: str) -> Dict[str, str]:
    """The pages of section 5 by file name."""
    return {
        "ecu_info.yml.5": _keys(
            name, "ecu_info.yml", "identity of an ECU",
            "`/boot/ota/ecu_info.yml` (or `.yaml`). A missing file means the defaults; a broken "
            "one is an error with file and line, never another identity.", _ECU_INFO,
        ),
        "proxy_info.yml.5": _keys(
            name, "proxy_info.yml", "proxies of an ECU",
            "`/boot/ota/proxy_info.yml` (or `.yaml`). Unknown keys are a warning, wrong types an "
            "error.", _PROXY_INFO,
        ),
        "ota.yml.5": _keys(
            name, "ota.yml", "defaults for the options of ota",
            "`/etc/ota/ota.yml` (or `.yaml`). Flags win over `OTA_<KEY>` environment variables, "
            "these over this file. Unknown keys are an error with file and line; `/etc/ota` is "
            "carried over to each new system, so a key must be known to the `ota` of every image "
            "that is yet to be installed: one that does not know it can not confirm itself and "
            "falls back.",
            _OTA_YML,
        ),
    }  # fmt: skip


def _keys(name: str, title: str, about: str, text: str, keys: Tuple[Tuple[str, str], ...]) -> str:
    sections = (("description", (text,)), ("keys", (list(keys),)))
    return roff.guide(name, title, 5, about, sections, "ota(1)")
