"""A far server on loopback: a TCP relay that holds everything back for half a round trip."""

from __future__ import annotations

import asyncio
import threading
from typing import Optional

_PIECE = 256 * 1024


class Relay:
    """Listens on `port` while its `with` block runs, and passes on to `upstream_port`.

    Each direction is late by half of `round_trip_s`, and as wide as it was.
    """

    def __init__(self, upstream_port: int, round_trip_s: float) -> None:
        self._upstream_port = upstream_port
        self._late_s = round_trip_s / 2
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: Optional[asyncio.AbstractServer] = None
        self.port = 0

    def __enter__(self) -> Relay:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._relay, "127.0.0.1", 0, limit=_PIECE)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._late_s)  # the handshake of TCP
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream_port, limit=_PIECE)
        await asyncio.gather(self._pass(reader, back), self._pass(there, writer))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Every piece goes on when it is due; reading does not wait for that."""
        due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        sending = asyncio.ensure_future(self._send(due, writer))
        piece = b"."
        while piece:
            try:
                piece = await reader.read(_PIECE)
            except ConnectionError:
                piece = b""
            await due.put((self._loop.time() + self._late_s, piece))
        await sending

    async def _send(
        self, due: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        gone = False
        while True:
            when, piece = await due.get()
            if not piece:
                writer.close()
                return
            if not gone:
                await asyncio.sleep(when - self._loop.time())
                writer.write(piece)
                try:
                    await writer.drain()
                except ConnectionError:
                    gone = True  # what still comes is thrown away
