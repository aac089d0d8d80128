"""Bytes of an image that are needed once more, at the end: kept small until then."""

from __future__ import annotations

from typing import Dict, Iterable, Iterator, Mapping, Tuple

#: Below this, compression saves nothing worth mentioning.
_LARGE_BYTES = 64 * 1024


class CompressedFiles(Mapping[str, bytes]):
    """Files by name, large ones compressed: the tables of a large image are mostly text."""

    def __init__(self, files: Iterable[Tuple[str, bytes]] = ()) -> None:
        """Takes `files` one after the other: none of them has to stay as it is."""
        self._small: Dict[str, bytes] = {}
        self._packed: Dict[str, bytes] = {}
        for name, data in files:
            if len(data) < _LARGE_BYTES:
                self._small[name] = data
            else:
                self._packed[name] = _pack(data)

    def __getitem__(self, name: str) -> bytes:
        return self._small[name] if name in self._small else _unpack(self._packed[name])

    def chosen(self, names: Iterable[str], more: Mapping[str, bytes]) -> CompressedFiles:
        """Those of `names`, and `more`."""
        found = CompressedFiles(more.items())
        for name in names:
            if name in self._small:
                found._small[name] = self._small[name]
            else:
                found._packed[name] = self._packed[name]
        return found

    def pieces(self, name: str) -> Iterator[bytes]:
        """What `name` holds, a part at a time."""
        if name in self._small:
            yield self._small[name]
        else:
            yield from _unpacked(self._packed[name])

    def sizes(self) -> Iterator[int]:
        """The bytes of each."""
        import zstandard

        yield from map(len, self._small.values())
        yield from map(zstandard.frame_content_size, self._packed.values())

    def __contains__(self, name: object) -> bool:
        return name in self._small or name in self._packed

    def __iter__(self) -> Iterator[str]:
        yield from self._small
        yield from self._packed

    def __len__(self) -> int:
        return len(self._small) + len(self._packed)


def _pack(data: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(level=1).compress(data)


def _unpack(data: bytes) -> bytes:
    """All of it, in one piece of memory: its size is in its head."""
    import zstandard

    return zstandard.ZstdDecompressor().decompress(data)


def _unpacked(data: bytes) -> Iterator[bytes]:
    import zstandard

    yield from zstandard.ZstdDecompressor().read_to_iter(data)
