"""`/v1/stream` as a WebSocket: one message is one frame.

Law of this file: the subprotocol says in which form, binary msgpack or JSON text, and a message of
the other sort is an error; everything else is `stream.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from laneway.engine.edge.hosting import Hosting
from laneway.engine.edge.jsonframes import JsonFrames
from laneway.engine.edge.websocket import WebSocket
from laneway.engine.frames import Frame, Frames
from laneway.engine.values import refuse
from laneway.routing.envelope import Envelope

__all__ = ["SUBPROTOCOLS", "SessionSocket"]

_BINARY: Final = "laneway.v1"
_TEXT: Final = "laneway.v1.json"
SUBPROTOCOLS: Final = (_BINARY, _TEXT)


class SessionSocket:
    """Serves sessions over WebSocket."""

    def __init__(self, hosting: Hosting, packed: Frames, json: JsonFrames) -> None:
        self._hosting = hosting
        self._packed = packed
        self._json = json

    async def __call__(self, socket: WebSocket) -> None:
        """Serve one socket; raises what ended it."""
        wire = _TextWire(socket, self._json) if socket.subprotocol == _TEXT else _BinaryWire(socket, self._packed)
        reason = await self._hosting.serve(self._hosting.stream(wire, socket.principal, "websocket"))
        if reason is not None:
            raise reason


class _BinaryWire:
    """Frames as binary messages."""

    def __init__(self, socket: WebSocket, frames: Frames) -> None:
        self._socket = socket
        self._frames = frames

    async def read(self) -> Frame | None:
        message = await self._socket.receive()
        if isinstance(message, str):
            refuse("TEXT_MESSAGE", f"{_BINARY} takes binary messages; text is {_TEXT}")
        return None if message is None else self._frames.decode(message)

    async def write(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        await self._socket.send(self._frames.encode(header, envelopes))


class _TextWire:
    """Frames as text messages."""

    def __init__(self, socket: WebSocket, frames: JsonFrames) -> None:
        self._socket = socket
        self._frames = frames

    async def read(self) -> Frame | None:
        message = await self._socket.receive()
        if isinstance(message, bytes):
            refuse("BINARY_MESSAGE", f"{_TEXT} takes text messages; binary is {_BINARY}")
        return None if message is None else self._frames.decode(message.encode())

    async def write(self, header: Mapping[str, Any], envelopes: Sequence[Envelope]) -> None:
        await self._socket.send(self._frames.encode(header, envelopes).decode())
