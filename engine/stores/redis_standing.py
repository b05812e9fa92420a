"""Coming to a server: what it is, whether it is the store we knew, and what it may have lost meanwhile.

Law of this file: nothing is written on a connection before this was asked on it, and it is asked again
every half minute, since settings change under way. A server that restarted, lost data, or keeps less than
it did when the store was opened is never taken for the old one: logs get new epochs, or writes stop.

An *era* is a time in which the server can have lost nothing. It ends with a restart that does not follow
from a file that was synced before each answer, and when a batch that a writer was answered is not there.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from laneway.engine.stores.redis_scripts import script
from laneway.engine.stores.redis_server import Server
from laneway.engine.stores.redis_wire import Refused, Wire
from laneway.routing.errors import ConfigError, StoreError

__all__ = ["KEPT_S", "Mark", "Standing", "fresh_name", "look"]

_log: Final = logging.getLogger(__name__)
_CHECK_S: Final = 30.0
KEPT_S: Final = 30 * 86_400
"""So long the server keeps a writer's last answer; by then a writer that still waits for it is gone."""
_TRUSTED_S: Final = KEPT_S - 86_400


@dataclass(slots=True)
class Mark:
    """Up to where a writer was answered.

    Attributes:
        writer: its name, one for each store object.
        answered: number of its last batch that was answered and is kept, or 0.
        at: when that was, in seconds of the loop.
    """

    writer: str
    answered: int = 0
    at: float = 0.0


class Standing:
    """What is known of one server, shared by the connections of one store.

    Args:
        prefix: of all keys.
        assume_durable: see `Server.lacks`.
    """

    def __init__(self, prefix: str, assume_durable: bool) -> None:
        self.prefix = prefix
        self.id = ""
        self.lacks: str | None = None
        self.server: Server | None = None
        self._assumed = assume_durable
        self._due_at = 0.0

    @property
    def store(self) -> str:
        """Key of the store's own record."""
        return f"{self.prefix}:store"

    def is_due(self) -> bool:
        """Whether it is time to ask again."""
        return asyncio.get_running_loop().time() >= self._due_at

    async def make(self, wire: Wire, mark: Mark) -> None:
        """Ask who is there, on a connection that was just opened or is due.

        Raises ConfigError (a store must not be kept there), StoreError (not now), Broken.
        """
        where = wire.address.label
        server = await look(wire)
        server.check(where)
        lacks = server.lacks(self._assumed)
        if lacks and self.lacks == "":
            raise StoreError(f"{where} keeps less than when the store was opened: {lacks}; or restart this engine")
        loop = asyncio.get_running_loop()
        answered = mark.answered if loop.time() - mark.at < _TRUSTED_S else 0
        enter = script("enter")
        (answer, *loaded) = await wire.ask(
            ("EVAL", enter.text, 1, self.store, self.prefix, mark.writer, answered, server.run, int(not lacks),
             fresh_name(), fresh_name()),
            ("SCRIPT", "LOAD", script("write").text),
            ("SCRIPT", "LOAD", script("read").text),
        )  # fmt: skip
        for reply in (answer, *loaded):
            if isinstance(reply, Refused):
                raise _unusable(where, reply)
        name, verdict = answer[0].decode(), answer[2].decode()
        if verdict != "KEPT":
            mark.answered = 0
        self._tell(where, name, verdict)
        self.id, self.server, self._due_at = name, server, loop.time() + _CHECK_S
        if self.lacks is None:
            self.lacks = lacks
            if lacks:
                _log.warning("%s is a volatile store: %s", where, lacks)

    def _tell(self, where: str, name: str, verdict: str) -> None:
        """Log what became of the data, if something did."""
        if verdict == "LOST" or (verdict == "NEW" and self.id):
            _log.error("%s lost data that it had answered for; sessions and documents go on in new epochs", where)
        elif verdict == "UNPROVED":
            _log.warning(
                "%s was restarted and cannot prove that it lost nothing; sessions and documents go on in new epochs",
                where,
            )


async def look(wire: Wire) -> Server:
    """Ask a server about itself; that its settings may not be read is no error here. Raises Broken, StoreError."""
    info, *settings = await wire.ask(
        ("INFO",),
        ("CONFIG", "GET", "appendfsync"),
        ("CONFIG", "GET", "no-appendfsync-on-rewrite"),
    )
    if isinstance(info, Refused):
        raise _unusable(wire.address.label, info)
    return Server.of(_fields(info), _pairs(settings))


def fresh_name() -> str:
    """Return a name that was never used: of a store, an era or an epoch."""
    return secrets.token_hex(8)


def _fields(info: bytes) -> Mapping[str, str]:
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def _pairs(settings: list[Any]) -> Mapping[str, str]:
    """Return what CONFIG GET answered; a refusal gives nothing."""
    found: dict[str, str] = {}
    for reply in settings:
        if not isinstance(reply, Refused):
            texts = [item.decode("utf-8", "replace") for item in reply]
            found |= dict(zip(texts[::2], texts[1::2], strict=True))
    return found


def _unusable(where: str, refused: Refused) -> ConfigError | StoreError:
    if refused.code in ("NOAUTH", "WRONGPASS"):
        return ConfigError(
            f"{where} asks for a password and store.url has none; write redis://[USER]:PASSWORD@HOST, in "
            "LANEWAY_STORE__URL or the settings file rather than on a command line"
        )
    if refused.code == "NOPERM":
        return ConfigError(
            f"{where} does not let this user work ({refused.text}); give it the rights that are listed in "
            "docs/operations.md: `user laneway on >PASSWORD ~laneway:* +@read +@write ...`"
        )
    if refused.code == "FORMAT":
        return ConfigError(f"{where} holds a store of another version of laneway; name another store.prefix")
    if refused.code == "LOADING":
        return StoreError(f"{where} still loads its data from disk; it will answer when it is done")
    return StoreError(f"{where} refused to begin: {refused.text}")
