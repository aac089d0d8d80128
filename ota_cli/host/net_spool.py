"""Keeping a compressed body as it came: what a killed run can go on from."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Optional

from .net_staging import WORTH_KEEPING_BYTES, Staging


class Spool:
    """A body as it came, kept in a file for the next run; better none than trouble with it.

    The first bytes wait in memory until the body is worth a file.
    """

    def __init__(self, staging: Staging, name: str) -> None:
        self._staging = staging
        self._name = name
        self._head: Optional[bytearray] = bytearray()
        self._descriptor = -1

    def take_up(self) -> Optional[int]:
        """The body that an earlier run left, to be read; what follows is added to it."""
        descriptor = self._staging.leftover(self._name)
        if descriptor is not None:
            self._head = None
            self._descriptor = descriptor
        return descriptor

    def add(self, chunk: bytes) -> None:
        """Keeps the next bytes."""
        if self._descriptor >= 0:
            self._write(chunk)
        elif self._head is not None:
            self._head += chunk
            if len(self._head) >= WORTH_KEEPING_BYTES:
                self._begin(bytes(self._head))

    def _begin(self, head: bytes) -> None:
        self._head = None
        if self._staging.keeps_bodies:
            with suppress(OSError):
                self._descriptor = self._staging.create(self._name)
                self._write(head)

    def _write(self, chunk: bytes) -> None:
        try:
            if self._staging.keeps_bodies and os.write(self._descriptor, chunk) == len(chunk):
                return
        except OSError:
            pass  # there is room for the content, or writing that will tell
        self.drop()

    def close(self) -> None:
        """Leaves what is kept for the next run."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def drop(self) -> None:
        """Removes it; nothing is kept any more."""
        self._head = None
        if self._descriptor >= 0:
            self.close()
            self._staging.remove(self._name)
