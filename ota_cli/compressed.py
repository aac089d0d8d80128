"""Verified bytes that are needed once more, at the end: kept small until then."""

from __future__ import annotations

from typing import Iterator, Mapping

#: Below this, compression saves nothing worth mentioning.
_LARGE_BYTES = 64 * 1024


class CompressedFiles(Mapping[str, bytes]):
    """Files by name, large ones compressed: the tables of a large image are mostly text."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._small = {name: data for name, data in files.items() if len(data) < _LARGE_BYTES}
        self._packed = {
            name: _pack(data) for name, data in files.items() if name not in self._small
        }

    def __getitem__(self, name: str) -> bytes:
        return self._small[name] if name in self._small else b"".join(_unpacked(self._packed[name]))

    def pieces(self, name: str) -> Iterator[bytes]:
        """What `name` holds, a part at a time."""
        if name in self._small:
            yield self._small[name]
        else:
            yield from _unpacked(self._packed[name])

    def __iter__(self) -> Iterator[str]:
        yield from self._small
        yield from self._packed

    def __len__(self) -> int:
        return len(self._small) + len(self._packed)


def _pack(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=1).compress(data)


def _unpacked(data: bytes) -> Iterator[bytes]:
    import zstandard

    yield from zstandard.ZstdDecompressor().read_to_iter(data)
