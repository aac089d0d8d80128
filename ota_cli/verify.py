"""Comparing a slot with the signed image it was filled from, by reading every byte of it that may
be right.

What the update itself put there is left out: persistent files, the device's lines of
`/etc/fstab`, and `/.ota`.
"""

from __future__ import annotations

import itertools
import json
import os
from array import array
from contextlib import closing
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, Iterator, List, NamedTuple, Optional

from .compressed import CompressedFiles
from .core import claims as jwt
from .core.certs import CertStore, SignerPolicy
from .core.delta import same_place
from .core.lines import MAX_TABLE_BYTES
from .core.local import LocalFile, LocalTree
from .core.plan import Plan, Source
from .core.tree import implied_directories
from .core.trust import SignedClaims, verify_claims, verify_image
from .entries import EMPTY_DIGEST, Digest, FileEntry
from .errors import ImageDamaged, NeedsRoot, NotTrusted, OtaError, SlotUnusable
from .events import Ahead, Emit, Meter, Phase, PhaseStarted
from .host.content import digest_files
from .host.files import read_limited
from .host.index import INDEX, Indexed, write_index
from .host.tree import is_own_file, remove_all, scan, stat_at
from .metadata import Finisher
from .model import Image
from .survey import METADATA

CARRIED = "carried.json"
NO_IMAGE = "no-image"
UPDATE_AGAIN = "update the slot again; only what differs is downloaded"
REPAIR_IT = "`ota verify --repair` fills it again from its image; only what differs is written"
_CONTENT = "content"
_MISSING = "missing"
_UNREADABLE = "can not be read"
_NOT_IN_THE_IMAGE = "not in the image"


class Difference(NamedTuple):
    """One path of a slot that is not what its image says, and what about it."""

    path: str
    what: str


class Compared(NamedTuple):
    """What came of reading a slot: how it differs, and how many files were compared."""

    differences: List[Difference]
    files: int


def write_metadata(slot: Path, image: Image, carried: Iterable[str]) -> None:
    """Keeps the image's signed bytes, and what was carried over, in the slot's `/.ota`.

    A file of the image that is right stays: a slot that is filled again from its own image has
    that at every instant. Raises OSError.
    """
    directory = slot / METADATA
    right = {name for name in image.metadata if holds(slot, name, image.metadata.pieces(name))}
    for old in list(os.scandir(directory)):
        if old.name not in (INDEX, *right):
            remove_all(old.path)
    for name in image.metadata.keys() - right:
        _write(directory / name, image.metadata.pieces(name))
    _write(directory / CARRIED, [json.dumps(sorted(carried)).encode()])


def write_slot_index(
    slot: Path, image: Image, plan: Plan, before: LocalTree, carried: Iterable[str]
) -> None:
    """Remembers what was just verified in the slot, for the next time.

    Kept files are taken as they were `before` the fill: where that is not right any more, they
    are read next time. Raises OSError.
    """
    left_out, files, local = frozenset(carried), image.tables.regulars, before.files
    kept = bytearray(len(files))
    for row in plan.steps.rows(Source.KEPT):
        kept[row] = 1

    def indexed() -> Iterator[Indexed]:
        for row, there in enumerate(files.paths.matched(local.paths)):
            path = files.paths[row]
            if not is_in(path, left_out):
                stat = local.stat(there) if kept[row] else stat_at(slot, path)
                yield Indexed(path, stat, files.digest(row))

    write_index(slot / METADATA, indexed())


def stored_image(slot: Path, store: CertStore, policy: SignerPolicy) -> Image:
    """The image a slot was filled from, verified anew from its `/.ota`.

    Raises SlotUnusable when there is none, NotTrusted and ImageDamaged as for a fetched one; it is
    the slot that has to be mended where it is damaged, whatever the publisher has.
    """
    try:
        return _stored_image(slot, store, policy)
    except ImageDamaged as error:
        raise ImageDamaged(_damaged(error), hint=UPDATE_AGAIN, slug=error.slug) from None
    except NotTrusted as error:
        if error.slug != "bad-signature":
            raise
        raise NotTrusted(_damaged(error), hint=UPDATE_AGAIN, slug=error.slug) from None


def _damaged(error: OtaError) -> str:
    return f"what the slot keeps of its image is damaged: {error.message}"


def _stored_image(slot: Path, store: CertStore, policy: SignerPolicy) -> Image:
    token = _read(slot, "metadata.jwt")
    envelope = jwt.parse_envelope(token)
    certificate = _read(slot, envelope.certificate.name)
    return completed(slot, verify_claims(envelope, certificate, store, policy))


def completed(slot: Path, signed: SignedClaims) -> Image:
    """The image of `signed`, with the tables in the `/.ota` of a slot.

    Raises SlotUnusable where they are not there, ImageDamaged where they are others.
    """
    names = [ref.name for ref in signed.claims.table_refs]
    return verify_image(signed, CompressedFiles((name, _read(slot, name)) for name in names))


def compare(slot: Path, image: Image, emit: Emit, *, unlock: bool = True) -> Compared:
    """All differences between a slot and `image`, in path order.

    `unlock`: see `digest_files`; False for the running slot.
    """
    emit(PhaseStarted(Phase.COMPARE, "comparing the slot with its signed image"))
    local = scan(slot, emit)
    carried = carried_paths(slot)
    found = list(_files(slot, image, local, emit, unlock))
    unread = sum(each.what in (_MISSING, _UNREADABLE) for each in found)
    found += [*_others(image, local), *_nodes(image, local)]
    found += [*_extra(image, local), *_xattrs(slot, image, local)]
    found += _links((e for e in image.tables.regulars if not is_in(e.path, carried)), local)
    differences = sorted(each for each in found if not _is_explained(each, carried))
    return Compared(differences, len(image.tables.regulars) - unread)


def require_equal(slot_name: str, differences: List[Difference], *, has_run: bool) -> None:
    """Raises `not_equal` when there are `differences`."""
    if not differences:
        return
    hint = REPAIR_IT
    if has_run:
        hint = f"a system that ran has changed files: `--trust-record` boots it as it is, or {hint}"
    raise not_equal(slot_name, differences, hint)


def not_equal(slot_name: str, differences: List[Difference], hint: str) -> ImageDamaged:
    """What is wrong with a slot that has `differences`; the first few are named."""
    shown = "; ".join(f"{each.path}: {each.what}" for each in differences[:3])
    return ImageDamaged(
        f"slot {slot_name} differs from its signed image in {places(differences)}: {shown}",
        hint=hint,
        slug="slot-differs",
    )


def places(differences: List[Difference]) -> str:
    """How many they are, in words."""
    return "1 place" if len(differences) == 1 else f"{len(differences)} places"


def _files(
    slot: Path, image: Image, local: LocalTree, emit: Emit, unlock: bool
) -> Iterator[Difference]:
    regulars, files = image.tables.regulars, local.files
    rows = regulars.paths.matched(files.paths)
    may_match = same_place(regulars, range(len(regulars)), files)  # the others differ already
    there = array("I", (row for _, row in may_match if files.size(row)))
    total = sum(map(files.size, there))
    emit(Ahead(((Phase.COMPARE, total),)))
    meter = Meter(emit, Phase.COMPARE, total)
    sizes = ((files.paths[row], files.size(row)) for row in there)
    with closing(digest_files(slot, sizes, emit, meter.add, unlock=unlock)) as digests:
        for entry, row in zip(regulars, rows):
            if row < 0:
                yield Difference(entry.path, _MISSING)
                continue
            file = files[row]
            is_other_size = entry.size not in (None, file.size)
            digest = next(digests) if file.size and not is_other_size else EMPTY_DIGEST
            what = _CONTENT if is_other_size else _wrong_with(file, digest, entry)
            if what:
                yield Difference(entry.path, what)


def _wrong_with(file: LocalFile, digest: Optional[Digest], entry: FileEntry) -> str:
    if digest != entry.digest:
        return _CONTENT if digest is not None else _UNREADABLE
    if file.mode != entry.mode:
        return "mode"
    is_other = os.geteuid() == 0 and (file.uid, file.gid) != (entry.uid, entry.gid)
    return "owner" if is_other else ""


def _links(regulars: Iterable[FileEntry], local: LocalTree) -> Iterator[Difference]:
    """Names that should be one inode and are not, or share one and should not."""
    group_of: Dict[int, str] = {}
    inode_of: Dict[str, int] = {}
    for entry in regulars:
        file = local.files.find(entry.path)
        if file is None:
            continue
        group = entry.inode or entry.path
        is_own = group_of.setdefault(file.inode, group) == group
        if not is_own or inode_of.setdefault(group, file.inode) != file.inode:
            yield Difference(entry.path, "hard link")


def _others(image: Image, local: LocalTree) -> Iterator[Difference]:
    owners = os.geteuid() == 0
    for directory in image.tables.directories:
        there = local.others.get(directory.path)
        if there is None or there.kind != "d":
            yield Difference(directory.path, _MISSING)
        elif there.mode != directory.mode:
            yield Difference(directory.path, "mode")
        elif owners and (there.uid, there.gid) != (directory.uid, directory.gid):
            yield Difference(directory.path, "owner")
    for link in image.tables.symlinks:
        there = local.others.get(link.path)
        if there is None or there.kind != "l":
            yield Difference(link.path, _MISSING)
        elif there.target != link.target:
            yield Difference(link.path, "target")


def _nodes(image: Image, local: LocalTree) -> Iterator[Difference]:
    owners = os.geteuid() == 0
    for node in image.tables.attributes.nodes if image.tables.attributes else ():
        there = local.others.get(node.path)
        number = 0 if node.kind == "p" else os.makedev(node.major, node.minor)
        if node.kind != "p" and not owners:
            continue  # only root makes device nodes
        if there is None or (there.kind, there.device) != (node.kind, number):
            yield Difference(node.path, _MISSING)
        elif there.mode != node.mode:
            yield Difference(node.path, "mode")
        elif owners and (there.uid, there.gid) != (node.uid, node.gid):
            yield Difference(node.path, "owner")


def _xattrs(slot: Path, image: Image, local: LocalTree) -> Iterator[Difference]:
    """Capabilities, ACLs and the like of files and directories."""
    finisher = Finisher(slot, local, image.tables.attributes, owners=os.geteuid() == 0)
    directories = (entry.path for entry in image.tables.directories)
    for path in itertools.chain(image.tables.regulars.paths, directories):
        if local.files.paths.find(path) is None and path not in local.others:
            continue
        try:
            is_right = finisher.has_right_xattrs(path)
        except OSError as error:
            yield Difference(path, f"extended attributes: {error.strerror}")
            continue
        if not is_right:
            yield Difference(path, "extended attributes")


def _extra(image: Image, local: LocalTree) -> Iterator[Difference]:
    tables = image.tables
    wanted = implied_directories(tables)
    wanted |= {entry.path for entry in tables.directories}
    wanted |= {entry.path for entry in tables.symlinks}
    wanted |= {node.path for node in tables.attributes.nodes} if tables.attributes else set()
    for path in itertools.chain(local.files.paths, local.others):
        if path not in wanted and tables.regulars.paths.find(path) is None:
            yield Difference(path, _NOT_IN_THE_IMAGE)


def carried_paths(slot: Path) -> FrozenSet[str]:
    """What in a filled slot is not the image's. Raises SlotUnusable where that is not known."""
    try:
        found = json.loads(_read(slot, CARRIED))
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        raise SlotUnusable(
            f"{slot / METADATA / CARRIED} is damaged", hint=UPDATE_AGAIN, slug=NO_IMAGE
        )
    return frozenset(found)


def _is_explained(found: Difference, carried: FrozenSet[str]) -> bool:
    """True for persistent paths, what is below them, and the directories made to lead there."""
    if found.what == _NOT_IN_THE_IMAGE and any(p.startswith(f"{found.path}/") for p in carried):
        return True
    return is_in(found.path, carried)


def is_in(path: str, carried: FrozenSet[str]) -> bool:
    """Whether `path` is one of `carried`, or below one."""
    while path:
        if path in carried:
            return True
        path = path[: path.rindex("/")]
    return False


def _read(slot: Path, name: str) -> bytes:
    try:
        return read_limited(slot / METADATA / name, MAX_TABLE_BYTES)
    except PermissionError as error:
        raise NeedsRoot(f"{slot / METADATA / name} can not be read: {error.strerror}") from None
    except OSError as error:
        raise SlotUnusable(
            f"{slot} holds no complete image: {METADATA}/{name}: {error.strerror}",
            hint="update the slot again",
            slug=NO_IMAGE,
        ) from None


def holds(slot: Path, name: str, pieces: Iterable[bytes]) -> bool:
    """Whether the `/.ota` of a slot has a file, of one name, that says what `pieces` do."""
    path = slot / METADATA / name
    if not os.path.lexists(path) or not is_own_file(path):
        return False
    try:
        with open(path, "rb") as stream:
            same = all(stream.read(len(piece)) == piece for piece in pieces)
            return same and not stream.read(1)
    except OSError:  # a sector that can not be read: it is written anew, elsewhere
        return False


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
        stream.writelines(pieces)
