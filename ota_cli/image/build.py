"""`ota image build`: a root file system becomes an image (FORMATS section 1, DESIGN 10).

The same tree gives the same bytes, wherever and whenever it is built: everything is sorted,
hard-link groups are numbered in that order, and the date is set by the signature.
An interrupted build never looks like an image: the old entry points go first, `image.json`
comes last.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, Optional, Tuple

from ..core import tables
from ..core.attributes import format_attributes, parse_attributes
from ..core.claims import ENTRY_POINT
from ..core.text import printable
from ..entries import Digest, FileEntry
from ..errors import Busy, ConfigError
from ..events import Ahead, Emit, Meter, Phase, PhaseStarted
from ..host.content import CHUNK_BYTES, copy_hashed, digest_files
from ..host.files import is_directory, write_durably
from ..model import Attributes
from . import draft
from .walk import Found, Tree, walk

#: A blob pays from this size and ratio on; the field's generator uses the same.
BLOB_MIN_BYTES = 16 * 1024
BLOB_MIN_RATIO = 1.25
ZSTD_LEVEL = 10

#: How opening a file fails that is not there any more; a disk that fails is called so.
_GONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

#: A table that devices would refuse is refused here: too long a line, an owner beyond the limit.
_READERS: Dict[str, Callable[[bytes, str], object]] = {
    draft.DIRECTORIES: tables.parse_directories,
    draft.SYMLINKS: tables.parse_symlinks,
    draft.REGULARS: tables.parse_regulars,
    draft.PERSISTENTS: tables.parse_persistents,
    draft.ATTRIBUTES: parse_attributes,
}


@dataclass(frozen=True)
class BuildOptions:
    """What the publisher decides. `persist`: paths devices keep. `ignore`: gitignore text."""

    version: Optional[str] = None
    compatible: Optional[str] = None
    expires: Optional[datetime] = None
    persist: Tuple[str, ...] = ()
    ignore: Optional[str] = None
    all_kernels: bool = False


@dataclass(frozen=True)
class BuildReport:
    """An image that is built and not yet signed. Bytes: of all content, and to be served."""

    files: int
    content_bytes: int
    stored_bytes: int


def build(rootfs: Path, output: Path, options: BuildOptions, emit: Emit) -> BuildReport:
    """Makes an image of `rootfs` in `output`, a new, empty, or earlier image directory.

    Raises ConfigError, ImageDamaged for names that can not be expressed, NoSpace, SlotUnusable,
    and Busy.
    """
    _check_places(rootfs, output)
    emit(PhaseStarted(Phase.BUILD, f"reading {rootfs}"))
    tree = walk(rootfs, options.ignore, options.all_kernels, emit)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with _held(output):
            _start_afresh(output)
            emit(PhaseStarted(Phase.BUILD, "hashing and compressing"))
            meter = _meter(tree, emit)
            digests = _digests(rootfs, tree, meter, emit)
            blobs = _write_contents(rootfs, output, tree, digests, meter)
            stored = _write_tables(output, tree, digests, blobs, options)
    except OSError as error:
        raise draft.write_failure(output, error) from error
    total = sum(found.size for found in tree.regulars)
    return BuildReport(len(tree.regulars), total, stored)


def _check_places(rootfs: Path, output: Path) -> None:
    """Nothing is removed but what an earlier build made."""
    if not is_directory(rootfs):
        raise ConfigError(f"{rootfs} is not a directory")
    inner, outer = os.path.realpath(output), os.path.realpath(rootfs)
    if inner == outer or _is_below(inner, outer):
        raise ConfigError(f"{output} lies inside {rootfs}", hint="write the image elsewhere")
    if _is_below(outer, inner):
        raise ConfigError(f"{rootfs} lies inside {output}", hint="write the image elsewhere")
    if is_directory(output):
        _check_output(output)
    elif os.path.lexists(output):
        raise ConfigError(f"{output} is not a directory")


def _is_below(inner: str, outer: str) -> bool:
    return inner.startswith(os.path.join(outer, ""))


def _check_output(output: Path) -> None:
    try:
        names = os.listdir(output)
    except OSError as error:
        raise ConfigError(f"{output} can not be read: {error.strerror}") from None
    if names and not _is_ours(names):
        raise ConfigError(f"{output} is not empty and holds no image", hint="give a new directory")


def _is_ours(names: List[str]) -> bool:
    """Whether an image was made or begun there. `rootfs` tells nothing: containers and build
    trees have one as well, and ours is removed before a new image is made."""
    return not {ENTRY_POINT, draft.DRAFT, draft.COMPRESSED}.isdisjoint(names)


@contextmanager
def _held(output: Path) -> Iterator[None]:
    """Two builds at once would take each other's files away. Raises Busy."""
    descriptor = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f"another `ota image build` writes to {output}") from None
        yield
    finally:
        os.close(descriptor)


def _start_afresh(output: Path) -> None:
    """Removes an earlier image, its entry points first."""
    (output / draft.COMPRESSED).mkdir(parents=True, exist_ok=True)
    for name in (ENTRY_POINT, draft.DRAFT):
        if (output / name).exists():
            (output / name).unlink()
    for name in (draft.ROOTFS, draft.COMPRESSED):
        if (output / name).is_dir():
            shutil.rmtree(output / name)
        _make_directory(output / name)


def _make_directory(path: Path) -> None:
    """Readable for the web server, whatever the umask."""
    path.mkdir()
    path.chmod(0o755)


def _meter(tree: Tree, emit: Emit) -> Meter:
    """Of all content, which is hashed first and then stored."""
    sizes = {found.group or found.path: found.size for found in tree.regulars}
    total = 2 * sum(sizes.values())
    emit(Ahead(((Phase.BUILD, total),)))
    return Meter(emit, Phase.BUILD, total)


def _digests(rootfs: Path, tree: Tree, meter: Meter, emit: Emit) -> Dict[str, Digest]:
    """sha256 of every file; names of one file are read once."""
    first_of: Dict[object, str] = {}
    for found in tree.regulars:
        first_of.setdefault(found.group or found.path, found.path)
    sizes = {found.path: found.size for found in tree.regulars}
    chosen = {path: sizes[path] for path in first_of.values()}
    digests = digest_files(rootfs, chosen.items(), emit, meter.add)
    known = {path: digest for path, digest in zip(chosen, digests) if digest is not None}
    unread = next((path for path in chosen if path not in known), None)
    if unread is not None:
        raise ConfigError(
            f"{rootfs}{printable(unread)} can not be read",
            hint="root file systems are usually read as root",
        )
    return {found.path: known[first_of[found.group or found.path]] for found in tree.regulars}


def _write_contents(
    rootfs: Path, output: Path, tree: Tree, digests: Dict[str, Digest], meter: Meter
) -> Dict[Digest, int]:
    """Every file's plain content by path, and the blobs that pay; returns the blobs' sizes."""
    for entry in tree.directories:
        _make_directory(output / draft.ROOTFS / entry.path[1:])
    names: Dict[Digest, List[Found]] = {}
    for found in tree.regulars:
        names.setdefault(digests[found.path], []).append(found)

    def store(item: Tuple[Digest, List[Found]]) -> Tuple[Digest, Optional[int]]:
        digest, group = item
        size = _store(rootfs, output, digest, group)
        meter.add(group[0].size)
        return digest, size

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        sizes = dict(pool.map(store, names.items()))
    return {digest: size for digest, size in sizes.items() if size is not None}


def _store(rootfs: Path, output: Path, digest: Digest, group: List[Found]) -> Optional[int]:
    """One content: plain under every name, compressed if that pays (then the blob's size)."""
    first = output / draft.ROOTFS / group[0].path[1:]
    _copy(rootfs, group[0], digest, first)
    for other in group[1:]:
        os.link(first, output / draft.ROOTFS / other.path[1:])
    if group[0].size < BLOB_MIN_BYTES:
        return None
    blob = output / draft.COMPRESSED / f"{digest.hex()}.zst"
    size = _compress(first, blob, group[0].size)
    if group[0].size < size * BLOB_MIN_RATIO:
        blob.unlink()
        return None
    return size


def _copy(rootfs: Path, found: Found, digest: Digest, target: Path) -> None:
    """The content of one file; ConfigError unless it still is what was hashed and listed."""
    source = f"{rootfs}{found.path}"
    with open(target, "xb", buffering=0) as copy:
        os.fchmod(copy.fileno(), 0o644)
        try:
            copied = copy_hashed(source, copy.fileno())
        except OSError as error:
            if error.errno not in _GONE:
                raise
            copied = None
    if copied is None or (copied.digest, copied.size) != (digest, found.size):
        raise ConfigError(
            f"{printable(source)} changed while the image was built",
            hint="build from a tree that nobody writes to",
            slug="tree-changed",
        )


def _compress(source: Path, target: Path, size: int) -> int:
    import zstandard

    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    with open(source, "rb") as plain, open(target, "xb") as packed:
        os.fchmod(packed.fileno(), 0o644)
        _, written = compressor.copy_stream(
            plain, packed, size=size, read_size=CHUNK_BYTES, write_size=CHUNK_BYTES
        )
    return int(written)


def _write_tables(
    output: Path, tree: Tree, digests: Dict[str, Digest], blobs: Dict[Digest, int],
    options: BuildOptions,
) -> int:  # fmt: skip
    """The tables and, last of all, the draft; returns the bytes a server would hand out."""
    entries, link_counts = _entries(tree, digests, blobs)
    attributes = Attributes(tree.mtimes_ns, tree.xattrs, tuple(tree.nodes), blobs)
    total = sum(found.size for found in tree.regulars)
    files = {
        draft.DIRECTORIES: tables.format_directories(tree.directories),
        draft.SYMLINKS: tables.format_symlinks(tree.symlinks),
        draft.REGULARS: tables.format_regulars(entries, link_counts),
        draft.PERSISTENTS: tables.format_persistents(options.persist),
        draft.ATTRIBUTES: format_attributes(attributes),
        draft.TOTAL_SIZE: str(total).encode(),
    }
    for name, read in _READERS.items():
        read(files[name], name)
    for name, data in files.items():
        write_durably(output / name, data)
    decided = draft.Draft(options.version, options.compatible, options.expires, total)
    write_durably(output / draft.DRAFT, draft.format_draft(decided))
    unique = {entry.digest: entry.size or 0 for entry in entries}
    return sum(blobs.get(digest, size) for digest, size in unique.items())


def _entries(
    tree: Tree, digests: Dict[str, Digest], blobs: Dict[Digest, int]
) -> Tuple[List[FileEntry], Dict[str, int]]:
    """The regular files; a group is one only when several of its names are in the image."""
    counts: Dict[object, int] = {}
    for found in tree.regulars:
        counts[found.group] = counts.get(found.group, 0) + 1
    numbers: Dict[object, str] = {}
    entries = []
    for found in tree.regulars:
        inode = None
        if found.group is not None and counts[found.group] > 1:
            inode = numbers.setdefault(found.group, str(len(numbers) + 1))
        digest = digests[found.path]
        entries.append(
            FileEntry(
                found.path, found.mode, found.uid, found.gid, digest, found.size, inode,
                digest in blobs,
            )
        )  # fmt: skip
    return entries, _link_counts(entry.inode for entry in entries)


def _link_counts(inodes: Iterable[Optional[str]]) -> Dict[str, int]:
    counts: Dict[str, int] = {}
    for inode in inodes:
        if inode is not None:
            counts[inode] = counts.get(inode, 0) + 1
    return counts
