"""The unary calls: one question, one answer, beside the sessions.

Law of this file: a table of names; each checks its scope first; answers are plain data. What belongs
to another tenant is neither shown nor counted, unless the caller is an admin.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from laneway.actors.pools.gauges import fields_of
from laneway.actors.ports import DeadLetter, Principal
from laneway.engine.app.tap import TapFilter
from laneway.engine.codec import unpack_envelope
from laneway.routing.errors import AccessError, LanewayError, PeerProtocolError

if TYPE_CHECKING:
    from laneway.engine.app.engine import Engine

__all__ = ["Calls"]

_MAX_IDS: Final = 1000


class Calls:
    """Answers `Call` frames; implements the edge's `Gateway.call`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._table: dict[str, Callable[[Mapping[str, Any], Sequence[bytes], Principal], Awaitable[Any]]] = {
            "tools": self._tools,
            "publish": self._publish,
            "status": self._status,
            "metrics": self._metrics,
            "tail": self._tail,
            "dlq": self._dlq,
        }

    async def __call__(self, name: str, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        """Answer one call. Raises AccessError, or PeerProtocolError for an unknown name or bad fields."""
        call = self._table.get(name)
        if call is None:
            known = ", ".join(sorted(self._table))
            raise PeerProtocolError(f"there is no call {name[:64]!r}; known: {known}", reason="UNKNOWN_CALL")
        return await call(header, items, principal)

    async def _tools(self, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        return [
            {"name": spec.name, "description": spec.description, "schema": dict(spec.schema)}
            for spec in self._engine.tools.specs(principal)
        ]

    async def _publish(self, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        topic = header.get("topic")
        if not isinstance(topic, str) or len(items) != 1:
            raise PeerProtocolError("publish needs a `topic` and exactly one item, its body", reason="BAD_TYPE")
        return await self._engine.entry.publish(principal.tenant, topic, items[0])

    async def _status(self, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        _require_admin(principal)
        dispatcher, directory = self._engine.statistics()
        return {
            "dispatcher": fields_of(dispatcher),
            "sessions": fields_of(directory),
            "tools": {name: fields_of(tool) for name, tool in self._engine.builtins.tools().items()},
            "counters": self._engine.telemetry.counters.snapshot(),
        }

    async def _metrics(self, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        _require_admin(principal)
        return self._engine.metrics()

    async def _tail(self, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        _require_admin(principal)
        after, engine = header.get("after"), header.get("engine", "")
        if not (after is None or type(after) is int) or not isinstance(engine, str):
            raise PeerProtocolError("`after` is a number and `engine` a text, of a former answer", reason="BAD_TYPE")
        return self._engine.tap.page(TapFilter.read(header), after, engine)

    async def _dlq(self, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        _require_admin(principal)
        action, ids = header.get("action", "list"), header.get("ids", [])
        if not isinstance(ids, list) or len(ids) > _MAX_IDS or not all(type(one) is int for one in ids):
            raise PeerProtocolError(f"`ids` is a list of at most {_MAX_IDS} numbers", reason="BAD_TYPE")
        if action == "list":
            return [_letter(letter) for letter in await self._engine.store.dead()]
        if action not in ("drop", "redrive"):
            raise PeerProtocolError("`action` is list, drop or redrive", reason="BAD_TYPE")
        letters = await self._engine.store.exhume(ids)
        if action == "redrive":
            await self._redrive(letters)
        return [_letter(letter) for letter in letters]

    async def _redrive(self, letters: Sequence[DeadLetter]) -> None:
        """Offer dead letters again, oldest first; what is refused, and all after it, goes back."""
        engine = self._engine
        waiting = sorted(letters)
        try:
            while waiting:
                env = unpack_envelope(waiting[0].packed, engine.clock.now(), engine.kinds)
                await engine.entry.redrive(env)
                del waiting[0]
        except LanewayError:
            for letter in waiting:
                await engine.store.bury(letter)
            raise


def _require_admin(principal: Principal) -> None:
    if "admin" not in principal.scopes:
        raise AccessError("this call needs the scope `admin`")


def _letter(letter: DeadLetter) -> dict[str, Any]:
    row = letter._asdict()
    row["bytes"] = len(row.pop("packed"))
    return row
