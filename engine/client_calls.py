"""Calls of tools that wait for their results: asked for by one event, answered by another.

Law of this file: whoever receives the session's events shows them here first; a result finds its
caller by the call's id, and the end of the receiving ends every wait.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from laneway.engine.codec import pack_body
from laneway.engine.delivery import Event
from laneway.routing.errors import DeadlineExceeded, LanewayError

__all__ = ["CallDesk"]

_RESULT: Final = "TOOL_CALL_RESULT"


class CallDesk:
    """The calls of one client under way.

    Args:
        send: sends one event (kind, body, entity and run as keywords) and returns once it is accepted.
    """

    def __init__(self, send: Callable[..., Awaitable[object]]) -> None:
        self._send = send
        self._waiting: dict[str, asyncio.Future[Event]] = {}

    async def call(
        self, name: str, arguments: Mapping[str, Any], call_id: str | None, idempotency_key: str, timeout_s: float
    ) -> Mapping[str, Any]:
        """Ask for one call and wait for its result. Raises a refusal, DeadlineExceeded, or what `fail` is given."""
        call_id = call_id or f"call-{os.urandom(8).hex()}"
        body: dict[str, Any] = {"name": name, "arguments": dict(arguments), "call_id": call_id}
        if idempotency_key:
            body["idempotency_key"] = idempotency_key
        result: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = result
        try:
            async with asyncio.timeout(timeout_s):
                await self._send("TOOL_CALL", pack_body(body), entity=call_id, run=call_id)
                return (await result).data
        except TimeoutError as error:
            raise DeadlineExceeded(f"tool {name!r} did not answer within {timeout_s:g} s") from error
        finally:
            if self._waiting.get(call_id) is result:
                del self._waiting[call_id]

    @property
    def waits(self) -> bool:
        """True if some call has no result yet."""
        return bool(self._waiting)

    def take(self, event: Event) -> None:
        """Look at a received event: if it is the result that somebody waits for, hand it over. O(1)."""
        if self._waiting and event.kind == _RESULT:
            waiting = self._waiting.get(event.entity)
            if waiting is not None and not waiting.done():
                waiting.set_result(event)

    def fail(self, error: LanewayError) -> None:
        """Nothing will be received any more: every wait raises `error`."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(error)
                waiting.exception()  # its caller may not have come to wait for it yet
