"""A Store on a Redis server, which several hosts may share: fenced by scripts, durable if the server is.

Law of this file: `durable` is what the server was seen to do (`appendonly yes`, `appendfsync always`),
never what is hoped; a server that loses what it answered is noticed, and then logs get new epochs and
older claims are over. Who keeps the law: `redis_standing.py` (which server is it, what did it lose),
`redis_writer.py` (every write exactly once), `redis_write.lua` (what a write may do).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgpack

from laneway.actors.ports import Claim, DeadLetter, Entry, Record
from laneway.engine.stores.continuity import fenced, hole
from laneway.engine.stores.redis_address import Address
from laneway.engine.stores.redis_chunks import chunked, entries_of
from laneway.engine.stores.redis_reader import Reader
from laneway.engine.stores.redis_standing import Standing, fresh_name, look
from laneway.engine.stores.redis_wire import Broken, Wire
from laneway.engine.stores.redis_writer import Writer
from laneway.routing.errors import ConfigError, StoreError

__all__ = ["RedisStore"]

_CLOSE_S: Final = 10.0
_PAGE_KEYS: Final = 1_000


class RedisStore:
    """A server that stands alone: no cluster, no replica, no eviction.

    Belongs to the loop that opened it.

    Args:
        url: `redis://[USER:PASSWORD@]HOST[:PORT][/DB]`, `rediss://` for TLS.
        prefix: of all its keys; stores with different ones share a server without seeing each other.
        assume_durable: vouch for what the server does not let us check; see docs/operations.md.
        connect_s: deadline of connecting; answer_s: of one exchange with the server.
        max_pending_bytes: bound of what waits to be written.
        max_dead: dead letters kept; max_dead_bytes: their packed events, in bytes.

    Raises ConfigError for a bad url or prefix.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "laneway",
        assume_durable: bool = False,
        connect_s: float = 3.0,
        answer_s: float = 5.0,
        max_pending_bytes: int = 67_108_864,
        max_dead: int = 10_000,
        max_dead_bytes: int = 67_108_864,
    ) -> None:
        if not prefix or "{" in prefix:
            raise ConfigError(f"store.prefix is {prefix[:40]!r}; it is at least one character, and none of them is {{")
        self._address = Address.parse(url)
        self._prefix = prefix
        self._assume_durable = assume_durable
        self._connect_s = connect_s
        self._answer_s = answer_s
        self._max_pending_bytes = max_pending_bytes
        self._max_dead = max_dead
        self._max_dead_bytes = max_dead_bytes
        self._standing = Standing(prefix, assume_durable)
        self._writer: Writer | None = None
        self._reader: Reader | None = None

    @property
    def durable(self) -> bool:
        """Whether the server syncs every write before it answers; before `open` True, which nobody may rely on."""
        return not self._standing.lacks

    @property
    def shared(self) -> bool:
        """True: every host that reaches the server may use it."""
        return True

    async def open(self) -> None:
        """Connect and see what the server is; a second call does nothing.

        Raises ConfigError (no redis package, refused credentials, a server that no store may be kept on)
        and StoreError (it cannot be reached, or not yet).
        """
        if self._writer is not None:
            return
        standing = Standing(self._prefix, self._assume_durable)
        writer = Writer(self._wire(), standing, max_pending_bytes=self._max_pending_bytes, answer_s=self._answer_s)
        try:
            await writer.open()
        except BaseException:
            await writer.close(0.0)
            raise
        self._standing, self._writer = standing, writer
        self._reader = Reader(self._wire(), standing, writer.enter, answer_s=self._answer_s)

    async def look(self) -> tuple[str, str]:
        """Return the server's version, and what it lacks for a durable store with the fix (empty if nothing).

        For `laneway doctor`: on a connection of its own, and nothing is written. Raises as `open`.
        """
        wire = self._wire()
        try:
            await wire.open()
            server = await look(wire)
            server.check(self._address.label)
        except Broken as error:
            raise StoreError(f"{self._address.label} ended the connection: {error}") from None
        finally:
            await wire.close()
        return server.version, server.lacks(self._assume_durable)

    async def close(self) -> None:
        """Write what waits and disconnect; idempotent. Raises StoreError if the server hangs."""
        writer, reader = self._writer, self._reader
        self._writer = self._reader = None
        if writer is None or reader is None:
            return
        await reader.close(_CLOSE_S)
        if not await writer.close(_CLOSE_S):
            raise StoreError(f"{self._address.label} did not take what waited within {_CLOSE_S:.0f} s: it hangs")

    # -- logs ---------------------------------------------------------------------------------

    async def claim(self, key: str) -> Claim:
        """Take the log over, creating it if need be."""
        _, generation, epoch, *flat = await self._write("claim", _tag(key), key, fresh_name())
        heads, floors = {}, {}
        for stream, seq, position, floor in zip(*[iter(flat)] * 4, strict=True):
            heads[stream], floors[stream] = (seq, position), floor
        return Claim(key, generation, epoch.decode(), heads, floors)

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        """Append all or nothing. Raises Fenced, LocalProtocolError (hole), StoreError."""
        chunks = chunked(claim.key, entries)
        answer = await self._write("append", _tag(claim.key), str(claim.generation), claim.epoch, chunks)
        self._check(claim, answer)

    async def read(self, key: str, stream: int, first: int, max_bytes: int = 262_144) -> list[Entry]:
        """Entries from `first` on, in order."""
        begin, chunks = await self._read("entries", _tag(key), stream, max(1, first), max(1, max_bytes))
        return entries_of(stream, chunks, int(begin), max_bytes)

    async def trim(self, claim: Claim, stream: int, below: int) -> None:
        """Forget entries with seq < below; at most one chunk of them (64 KiB) stays for as long as its neighbours."""
        answer = await self._write("trim", _tag(claim.key), str(claim.generation), claim.epoch, stream, below)
        self._check(claim, answer)

    async def keys(self, prefix: str) -> list[str]:
        """Sorted keys of the logs that begin with `prefix`; O(keys found), from an index, in pages."""
        least, greatest = b"[" + prefix.encode(), b"(" + prefix.encode() + b"\xff"
        found: list[str] = []
        while page := await self._read("keys", least, greatest, _PAGE_KEYS):
            found += [key.decode() for key in page]
            least = b"(" + page[-1]
            if len(page) < _PAGE_KEYS:
                break
        return found

    # -- values -------------------------------------------------------------------------------

    async def get(self, key: str) -> Record:
        """Read a value; Record(0, b"") if there is none or its ttl is over."""
        version, value = await self._read("value", key)
        return Record(0, b"") if version is None else Record(int(version), value)

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        """Write and return the new version, or 0 if `version` is no longer current.

        Versions grow over the whole store, and are not used again even if the server lost its data. The
        ttl is measured by the server, one clock for all hosts.
        """
        ttl_ms = 0 if ttl_s is None else max(1, round(ttl_s * 1000))
        written: int = await self._write("put", key, value, -1 if version is None else version, ttl_ms)
        return written

    async def delete(self, key: str) -> None:
        """Forget a value; nothing happens if there is none."""
        await self._write("delete", key)

    # -- dead letters -------------------------------------------------------------------------

    async def bury(self, letter: DeadLetter) -> int:
        """Keep a dead letter and return its id; the oldest leave beyond the bounds."""
        size, packed = len(letter.packed), msgpack.packb(letter[1:], use_bin_type=False)
        number: int = await self._write("bury", letter.tenant, size, packed, self._max_dead, self._max_dead_bytes)
        return number

    async def dead(self, tenant: str | None = None, limit: int = 100) -> list[DeadLetter]:
        """Newest first, at most `limit`."""
        if limit < 1:
            return []
        return _letters(await self._read("dead", limit, *([] if tenant is None else [tenant])))

    async def exhume(self, ids: Sequence[int]) -> list[DeadLetter]:
        """Remove and return dead letters; unknown ids are skipped."""
        return _letters(await self._write("exhume", list(ids)))

    # -- inside -------------------------------------------------------------------------------

    def _wire(self) -> Wire:
        return Wire(self._address, connect_s=self._connect_s, answer_s=self._answer_s)

    async def _write(self, *operation: Any) -> Any:
        if self._writer is None:
            raise StoreError(f"the store {self._address.label} is not open; await store.open() first")
        return await self._writer.submit(operation)

    async def _read(self, *arguments: bytes | str | int) -> Any:
        if self._reader is None:
            raise StoreError(f"the store {self._address.label} is not open; await store.open() first")
        return await self._reader.ask(*arguments)

    @staticmethod
    def _check(claim: Claim, answer: Any) -> None:
        """Raise what the server decided against a claim's append or trim."""
        if answer == b"OK":
            return
        if answer[0] == b"FENCED":
            raise fenced(claim.key, claim.generation, answer[1])
        _, stream, seq, position, next_seq, next_position = answer
        raise hole(claim.key, stream, (seq, position), next_seq, next_position)


def _tag(key: str) -> str:
    """Return a log's key as it stands between the braces that Redis hashes by."""
    return key.replace("%", "%25").replace("}", "%7D") if "}" in key or "%" in key else key


def _letters(flat: Sequence[Any]) -> list[DeadLetter]:
    found = []
    for number, packed in zip(flat[::2], flat[1::2], strict=True):
        tenant, session, code, message, attempts, event, at = msgpack.unpackb(packed, raw=True)
        who, where = tenant.decode(), session.decode()
        found.append(DeadLetter(int(number), who, where, code.decode(), message.decode(), attempts, event, at))
    return found
