"""Keeping a compressed body as it came: what a killed run can go on from."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Optional

from .net_staging import WORTH_KEEPING_BYTES, Staging


class Spool:
    """A body as it came, kept in a file for the next run; better none than trouble with it.

    It grows by `WORTH_KEEPING_BYTES` at a time: less costs as much as it saves.
    """

    def __init__(self, staging: Staging, name: str) -> None:
        self._staging = staging
        self._name = name
        self._waiting: Optional[bytearray] = bytearray()
        self._descriptor = -1

    def take_up(self) -> Optional[int]:
        """The body that an earlier run left, to be read; what follows is added to it."""
        descriptor = self._staging.leftover(self._name)
        if descriptor is not None:
            self._descriptor = descriptor
        return descriptor

    def add(self, chunk: bytes) -> None:
        """Keeps the next bytes."""
        if self._waiting is not None:
            self._waiting += chunk
            if len(self._waiting) >= WORTH_KEEPING_BYTES:
                self._write()

    def _write(self) -> None:
        if self._waiting is None:
            return
        with suppress(OSError):  # there is room for the content, or writing that will tell
            if self._staging.keeps_bodies:
                if self._descriptor < 0:
                    self._descriptor = self._staging.create(self._name)
                if os.write(self._descriptor, self._waiting) == len(self._waiting):
                    self._waiting.clear()
                    return
        self.drop()

    def close(self) -> None:
        """Leaves what is kept for the next run."""
        if self._descriptor >= 0:
            self._write()
        self._close()

    def drop(self) -> None:
        """Removes it; nothing is kept any more."""
        self._waiting = None
        if self._descriptor >= 0:
            self._close()
            self._staging.remove(self._name)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
