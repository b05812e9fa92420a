"""A TCP proxy that can be cruel: cut with a reset, stall one direction, throttle, refuse.

It stands between a client and an engine on loopback; what it does to bytes a real network does.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType

__all__ = ["Proxy"]

_BLOCK_BYTES = 4096
_LINGER_RESET = struct.pack("ii", 1, 0)


class _Pipe:
    """One proxied connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)

    def reset(self) -> None:
        """Close both sides with RST, as a dying router does."""
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            writer.transport.abort()


class Proxy:
    """Forwards 127.0.0.1:port to a target.

    Attributes:
        down_bytes: forwarded from target to client so far; up_bytes: the other way.
        connections: accepted so far. cuts: connections reset by `cut`, `cut_after` and `swallow`.
    """

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self._target = (target_host, target_port)
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = {"up": asyncio.Event(), "down": asyncio.Event()}
        self.resume()
        self._refusing = False
        self._bytes_per_s = 0
        self._cut_after: int | None = None
        self._swallowing = False
        self.down_bytes = 0
        self.up_bytes = 0
        self.connections = 0
        self.cuts = 0
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.resume()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def open(self) -> int:
        """Connections there are now."""
        return len(self._pipes)

    @property
    def target(self) -> str:
        """What a client connects to."""
        return f"127.0.0.1:{self.port}"

    def retarget(self, port: int) -> None:
        """Send new connections to another port (the engine was restarted)."""
        self._target = (self._target[0], port)

    def cut(self) -> int:
        """Reset every connection; returns how many."""
        pipes = list(self._pipes)
        for pipe in pipes:
            pipe.reset()
        self.cuts += len(pipes)
        return len(pipes)

    def cut_after(self, down_bytes: int) -> None:
        """Reset everything once that many more bytes went to clients."""
        self._cut_after = self.down_bytes + down_bytes

    def swallow(self) -> None:
        """Reset everything instead of forwarding what next comes for a client: an answer that is lost."""
        self._swallowing = True

    def stall(self, *, up: bool = True, down: bool = True) -> None:
        """Forward nothing in these directions until `resume`; connections stay open, as with a frozen peer."""
        for way, stalled in (("up", up), ("down", down)):
            if stalled:
                self._flowing[way].clear()

    def resume(self) -> None:
        """End a stall."""
        for flowing in self._flowing.values():
            flowing.set()

    def throttle(self, bytes_per_s: int) -> None:
        """Limit each direction of each connection; 0 = no limit."""
        self._bytes_per_s = bytes_per_s

    def refuse(self, refusing: bool = True) -> None:
        """Reset new connections at once (the network is away)."""
        self._refusing = refusing

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            if self._refusing:
                raise ConnectionRefusedError
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _Pipe(writer, writer).reset()
            return
        pipe = _Pipe(writer, up_writer)
        self._pipes.add(pipe)
        try:
            await asyncio.gather(self._pump(reader, up_writer, down=False), self._pump(up_reader, writer, down=True))
        except asyncio.CancelledError:
            return  # closing: asyncio.start_server's own callback would log a cancelled handler
        finally:
            self._pipes.discard(pipe)
            pipe.reset()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, down: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while block := await reader.read(_BLOCK_BYTES):
                await self._flowing["down" if down else "up"].wait()
                if down and self._swallowing:
                    self._swallowing = False
                    self.cut()
                    return
                if self._bytes_per_s:
                    await asyncio.sleep(len(block) / self._bytes_per_s)
                writer.write(block)
                await writer.drain()
                self._count(len(block), down=down)
            writer.close()

    def _count(self, size: int, *, down: bool) -> None:
        if not down:
            self.up_bytes += size
            return
        self.down_bytes += size
        if self._cut_after is not None and self.down_bytes >= self._cut_after:
            self._cut_after = None
            self.cut()
