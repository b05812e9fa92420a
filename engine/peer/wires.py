"""One bidi stream of bytes, the same from both ends.

Law of this file: what grpc.aio throws becomes ConnectionError with the reason it gives, and the
cancellation of a call is told apart from the cancellation of the task that reads it. One reader and one
writer at a time: concurrent writes end a grpc.aio stream.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

import grpc.aio

__all__ = ["AcceptedWire", "DialledWire", "Wire"]

_OVER: Final = "the stream is over"


class Wire(Protocol):
    """One stream of frames."""

    async def read(self) -> bytes | None:
        """Return the next frame, None at the end. Raises ConnectionError if it breaks."""
        ...

    async def write(self, frame: bytes) -> None:
        """Hand a frame over; returns when the other side's window had room. Raises ConnectionError if it broke."""
        ...

    def end(self) -> None:
        """End the stream from this side; idempotent."""
        ...


class AcceptedWire:
    """The stream of a call that came in; its handler returns once `over` is set.

    Args:
        context: the call's.
    """

    __slots__ = ("_context", "over")

    def __init__(self, context: Any) -> None:
        self._context = context
        self.over = asyncio.Event()

    async def read(self) -> bytes | None:
        """See `Wire`."""
        try:
            frame = await self._context.read()
        except grpc.aio.BaseError as error:
            raise ConnectionError(_OVER) from error
        return None if frame is grpc.aio.EOF else frame

    async def write(self, frame: bytes) -> None:
        """See `Wire`."""
        try:
            await self._context.write(frame)
        except grpc.aio.BaseError as error:
            raise ConnectionError(_OVER) from error

    def end(self) -> None:
        """See `Wire`."""
        self.over.set()


class DialledWire:
    """The stream of a call that went out.

    Args:
        call: a grpc.aio stream-stream call.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Any) -> None:
        self._call = call

    async def read(self) -> bytes | None:
        """See `Wire`."""
        try:
            frame = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise ConnectionError(f"{error.code().name}: {error.details()}") from error
        except asyncio.CancelledError:
            if _is_ours():
                raise
            raise ConnectionError("the call was cancelled") from None
        return None if frame is grpc.aio.EOF else frame

    async def write(self, frame: bytes) -> None:
        """See `Wire`."""
        try:
            await self._call.write(frame)
        except (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError) as error:
            raise ConnectionError(_OVER) from error
        except asyncio.CancelledError:
            if _is_ours():
                raise
            raise ConnectionError("the call was cancelled") from None

    def end(self) -> None:
        """See `Wire`."""
        self._call.cancel()


def _is_ours() -> bool:
    """Return whether the running task itself is to be cancelled, not only the call it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
