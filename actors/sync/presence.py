"""Who is here: the awareness states of one document's clients, with clocks and timeouts.

Law of this file: a state is taken only with a higher clock (or as a removal with the same clock), so
that messages may come late, twice or out of order. What is not renewed for `timeout_s` is removed
and told as removed. Pure: time comes in.

Source: y-protocols awareness.js; 30 s is its outdatedTimeout, clients renew every 15 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from laneway.actors.sync.lib0 import Reader, refuse, var_bytes, varuint
from laneway.actors.sync.values import parse_json

__all__ = ["PresenceTable"]

_ABSENT: Final = "null"


@dataclass(slots=True)
class _Entry:
    clock: int
    state: str
    session: str
    heard: float


class PresenceTable:
    """Awareness of one document.

    Args:
        timeout_s: seconds without a message after which a client is gone.
        max_clients: clients known at once; more are refused.
        state_chars: longest state (JSON text) of one client.
    """

    __slots__ = ("_entries", "_max_clients", "_state_chars", "_timeout_s")

    def __init__(self, timeout_s: float = 30.0, max_clients: int = 256, state_chars: int = 4096) -> None:
        self._timeout_s = timeout_s
        self._max_clients = max_clients
        self._state_chars = state_chars
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def receive(self, payload: bytes, session: str, now: float) -> list[int]:
        """Take one awareness payload and return the clients in it that are to be told about.

        That is every client whose entry was renewed or changed. Raises PeerProtocolError and takes
        nothing if any entry is malformed or too large.
        """
        told = []
        for client, clock, state in self._parse(payload):
            entry = self._entries.get(client)
            if entry is None:
                if state == _ABSENT:
                    continue
                self._entries[client] = _Entry(clock, state, session, now)
            elif clock > entry.clock or (clock == entry.clock and state == _ABSENT != entry.state):
                entry.clock, entry.state, entry.session, entry.heard = clock, state, session, now
            else:
                continue
            told.append(client)
        return told

    def _parse(self, payload: bytes) -> list[tuple[int, int, str]]:
        reader = Reader(payload)
        rows = []
        for _ in range(reader.count(3)):
            client, clock, state = reader.varuint(), reader.varuint(), reader.text()
            if len(state) > self._state_chars:
                refuse("TOO_LARGE", f"a presence state is over {self._state_chars} characters")
            parse_json(state.encode())
            rows.append((client, clock, state))
        reader.end()
        if len(self._entries.keys() | {client for client, _, _ in rows}) > self._max_clients:
            refuse("TOO_MANY_ITEMS", f"over {self._max_clients} clients present in one document")
        return rows

    def encode(self, clients: Iterable[int] | None = None) -> bytes:
        """Return the payload that tells about these clients, or about everybody present."""
        if clients is None:
            clients = [client for client, entry in self._entries.items() if entry.state != _ABSENT]
        rows = [(client, self._entries[client]) for client in clients if client in self._entries]
        body = (varuint(client) + varuint(row.clock) + var_bytes(row.state.encode()) for client, row in rows)
        return varuint(len(rows)) + b"".join(body)

    @staticmethod
    def entry(client: int, clock: int, state: str) -> bytes:
        """Return the payload that tells one client's state (JSON text; "null": it left)."""
        return varuint(1) + varuint(client) + varuint(clock) + var_bytes(state.encode())

    def states(self) -> dict[int, str]:
        """Return the states (JSON text) of who is present."""
        return {client: entry.state for client, entry in self._entries.items() if entry.state != _ABSENT}

    def leave(self, session: str, now: float) -> list[int]:
        """Remove the clients last heard through this session; returns them."""
        return self._remove([client for client, entry in self._entries.items() if entry.session == session], now)

    def poll(self, now: float) -> list[int]:
        """Remove who has been silent too long and return them; forget who was removed that long ago."""
        silent = [client for client, entry in self._entries.items() if now - entry.heard >= self._timeout_s]
        for client in [client for client in silent if self._entries[client].state == _ABSENT]:
            del self._entries[client]
        return self._remove(silent, now)

    def _remove(self, clients: Iterable[int], now: float) -> list[int]:
        gone = []
        for client in clients:
            entry = self._entries.get(client)
            if entry is not None and entry.state != _ABSENT:
                entry.state, entry.heard = _ABSENT, now
                gone.append(client)
        return gone

    def deadline(self) -> float | None:
        """When `poll` has something to do next; None if never."""
        if not self._entries:
            return None
        return min(entry.heard for entry in self._entries.values()) + self._timeout_s
