"""Writing a body while checking it: nothing but what was asked for gets its name."""

from __future__ import annotations

import hashlib
import os
from typing import Callable, Iterator

import zstandard

from ..errors import ImageDamaged
from .net_retry import Again
from .net_spool import Spool
from .net_staging import WORTH_KEEPING_BYTES, Blob, Staging, disk_failure
from .net_unpack import Unpacker
from .room import no_space

#: More of a body than this, beyond its content, is no zstd of it (RFC 8878: blocks of 128 KiB).
_OVERHEAD_BYTES = 1024 * 1024
_PIECE_BYTES = 256 * 1024


class BlobFile:
    """A file that grows as `<hex digest>.part` and gets its name once size and sha256 are right.

    Nothing new is on disk before the first `feed`. `received`: bytes of the body so far.
    """

    def __init__(self, staging: Staging, blob: Blob, window_bytes: int) -> None:
        name = blob.digest.hex()
        self._blob = blob
        self._staging = staging
        self._part = f"{name}.part"
        self._hasher = hashlib.sha256()
        self._written = 0
        self._descriptor = -1
        self._unpacker = Unpacker(self._write, window_bytes) if blob.compressed else None
        self._spool = Spool(staging, f"{name}.body.part") if blob.compressed else None
        self.received = 0

    def take_up(self, check: Callable[[], None]) -> None:
        """Goes on from what an earlier run left of this body, if that is worth it.

        `check` is called again and again meanwhile, and may raise. Raises like `feed`.
        """
        if self._unpacker is None or self._spool is None:
            self._take_up_plain(check)
            return
        descriptor = self._spool.take_up()
        if descriptor is not None:
            for piece in self._pieces(descriptor, check):
                self._unpack(self._unpacker, piece)

    def _take_up_plain(self, check: Callable[[], None]) -> None:
        descriptor = self._staging.leftover(self._part)
        if descriptor is not None:
            self._descriptor = descriptor
            for piece in self._pieces(descriptor, check):
                self._check_room(len(piece))
                self._hasher.update(piece)
                self._written += len(piece)

    def _pieces(self, descriptor: int, check: Callable[[], None]) -> Iterator[bytes]:
        while True:
            check()
            try:
                piece = os.read(descriptor, _PIECE_BYTES)
            except OSError as error:
                raise self._wrong(f"what was there can not be read ({error.strerror})") from None
            if not piece:
                return
            self.received += len(piece)
            yield piece

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the body.

        Raises Again (wrong), MoreMemory (ask again with more), NoSpace, SlotUnusable.
        """
        self.received += len(chunk)
        if self._unpacker is None or self._spool is None:
            self._write(chunk)
        else:
            self._spool.add(chunk)
            self._unpack(self._unpacker, chunk)

    @property
    def is_complete(self) -> bool:
        """Whether the content is whole, whatever else may follow of the body."""
        return self.received > 0 and self._hasher.digest() == self._blob.digest

    def finish(self) -> None:
        """Gives the file its name. Raises Again (wrong), NoSpace, SlotUnusable."""
        if self._unpacker is not None:
            try:
                self._unpacker.finish()
            except zstandard.ZstdError as error:
                raise self._no_zstd(error) from None
        if self._blob.size is not None and self._written != self._blob.size:
            raise self._wrong(f"it has {self._written} bytes instead of {self._blob.size}")
        if self._hasher.digest() != self._blob.digest:
            raise self._wrong("its sha256 is another")
        path = self._staging.path(self._part)
        try:
            descriptor, self._descriptor = self._open(), -1
            os.close(descriptor)
            os.rename(path, self._staging.path(self._blob.digest.hex()))
        except OSError as error:
            raise disk_failure(path, error) from error
        if self._spool is not None:
            self._spool.drop()

    def close(self) -> None:
        """Leaves nothing but what the next run can go on from, and lets go of the memory now.

        It and its unpacker hold each other: the collector would come by too late.
        """
        self._unpacker = None
        if self._spool is not None:
            self._spool.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            if self._blob.compressed or self.received < WORTH_KEEPING_BYTES:
                self._staging.remove(self._part)

    def discard(self) -> None:
        """Like `close`, and leaves nothing."""
        if self._spool is not None:
            self._spool.drop()
        is_begun = self._descriptor >= 0
        self.close()
        if is_begun:
            self._staging.remove(self._part)

    def _unpack(self, unpacker: Unpacker, chunk: bytes) -> None:
        try:
            unpacker.feed(chunk)
        except zstandard.ZstdError as error:
            raise self._no_zstd(error) from None
        if self.received > self._written + self._written // 64 + _OVERHEAD_BYTES:
            raise self._wrong(f"{self.received} bytes hold only {self._written} of content")

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = self._staging.create(self._part)
        return self._descriptor

    def _write(self, data: bytes) -> None:
        self._check_room(len(data))
        self._hasher.update(data)
        try:
            descriptor = self._open()
            written = os.write(descriptor, data)
            while written < len(data):
                written += os.write(descriptor, memoryview(data)[written:])
        except OSError as error:
            raise disk_failure(self._staging.path(self._part), error) from error
        self._written += len(data)

    def _check_room(self, count: int) -> None:
        """The declared size bounds what is written; where there is none, the disk does."""
        size = self._blob.size
        if size is not None and self._written + count > size:
            raise self._wrong(f"it is larger than {size} bytes")
        if size is None and count > self._staging.free_bytes():
            raise no_space(self._staging.path(self._part))

    def _no_zstd(self, error: zstandard.ZstdError) -> Again:
        return self._wrong(f"it can not be decompressed ({error})")

    def _wrong(self, why: str) -> Again:
        failure = ImageDamaged(
            f"{self._blob.location} is not what the signed image says: {why}",
            hint="the image on the server is damaged or half uploaded; ask its publisher",
            slug="wrong-content",
        )
        return Again(failure, wrong=True)
