"""The last events that passed, for `laneway tail`: a bounded ring of one-line summaries.

Law of this file: watching never slows or changes what is watched: events are noted as the lists in which
they come, no large bodies, and looked at only by a reader; one that was overtaken is told how many it missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from laneway.routing.envelope import (
    ENTITY,
    KIND,
    LANE,
    PRODUCER,
    RUN,
    SESSION,
    TENANT,
    TRACE,
    Envelope,
    envelope_id,
)
from laneway.routing.errors import PeerProtocolError
from laneway.routing.lanes import LANE_NAMES

__all__ = ["FIRST", "Tap", "TapFilter"]

FIRST: Final = 500
"""How many events a beginning shows at most."""

_KEPT: Final = 2000
_PAGE_BYTES: Final = 49_152
"""Of the rows of one answer, whose frame header holds 65,536."""
_ROW_BYTES: Final = 200
"""Of a row beside its names and ids: its keys, numbers and trace id."""
_MAX_WANTED: Final = 16
_MAX_CHARS: Final = 128
_DIRECTIONS: Final = ("in", "out")
_TRACE_ID: Final = slice(3, 35)
_LARGE_BYTES: Final = 1_024
"""Bodies that are longer on the average are let go: with the others, 2 MiB are held at most."""
_Note = tuple[int, float, str, tuple[Any, ...], list[int] | None]
"""Number of the first, time, direction, events, and bytes of their bodies if those were let go."""
_Seen = tuple[int, float, str, Envelope, int]
"""Number, time, direction, event, bytes of its body."""


class TapFilter(NamedTuple):
    """Which events to show; an empty field admits all.

    Attributes:
        kinds, sessions, runs, tenants: any of these; a last ``*`` stands for any ending.
        lanes, direction: by name. min_bytes: least size of the body.
    """

    kinds: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    lanes: tuple[str, ...] = ()
    direction: str = ""
    min_bytes: int = 0

    @classmethod
    def read(cls, header: Mapping[str, Any]) -> TapFilter:
        """Take the fields of this name from a call. Raises PeerProtocolError for one that is wrong."""
        lists = {name: _names(name, header.get(name, ())) for name in ("kinds", "sessions", "runs", "tenants", "lanes")}
        direction = header.get("direction") or ""
        if not set(lists["lanes"]) <= set(LANE_NAMES):
            raise PeerProtocolError(f"`lanes` knows {', '.join(LANE_NAMES)}", reason="BAD_TYPE")
        if direction not in ("", *_DIRECTIONS):
            raise PeerProtocolError(f"`direction` is {' or '.join(_DIRECTIONS)}", reason="BAD_TYPE")
        least = header.get("min_bytes", 0)
        if type(least) is not int or least < 0:
            raise PeerProtocolError("`min_bytes` is a number from 0 on", reason="BAD_TYPE")
        return cls(**lists, direction=direction, min_bytes=least)

    def admits(self, direction: str, env: Envelope, size: int) -> bool:
        """Say whether an event is to be shown."""
        return (
            size >= self.min_bytes
            and (not self.direction or direction == self.direction)
            and (not self.lanes or LANE_NAMES[env[LANE]] in self.lanes)
            and _one_of(self.kinds, env[KIND])
            and _one_of(self.sessions, env[SESSION])
            and _one_of(self.runs, env[RUN])
            and _one_of(self.tenants, env[TENANT])
        )


class Tap:
    """Summaries of the last 2,000 events, numbered from 1.

    Args:
        wall: UNIX seconds.
        engine: names this start of the engine; numbers of another one mean nothing here.
    """

    def __init__(self, wall: Callable[[], float], engine: str = "") -> None:
        self._wall = wall
        self._engine = engine
        self._notes: deque[_Note] = deque()
        self._held = self._last = 0

    def __call__(self, direction: str, envs: Sequence[Envelope]) -> None:
        """Note events; `direction` is "in" or "out". O(events), about 0.05 us each."""
        some: tuple[Any, ...] = tuple(envs)
        first, sizes = self._last + 1, None
        self._last += len(some)
        if len(some) > _KEPT:
            some, first = some[-_KEPT:], self._last + 1 - _KEPT
        if sum([len(env[11]) for env in some]) > _LARGE_BYTES * len(some):
            some, sizes = tuple([env[:11] for env in some]), [len(env[11]) for env in some]
        notes = self._notes
        notes.append((first, self._wall(), direction, some, sizes))
        self._held += len(some)
        while self._held - len(notes[0][3]) >= _KEPT:
            self._held -= len(notes.popleft()[3])

    def page(self, wanted: TapFilter, after: int | None = None, engine: str = "") -> dict[str, Any]:
        """Return the next events that `wanted` admits, oldest first, about 150. O(what is new).

        Args:
            after: `last` of the former page; None = begin with the newest 500 that are kept.
            engine: `engine` of the former page; if it is another, reading begins anew, at the oldest.

        The answer: `events`; `last`: where to go on; `more`: there is another page now; `missed`: how many
        events, of whatever kind, passed since `after` and are not kept any more; `engine`.
        """
        oldest = self._oldest
        if after is None:
            after = self._beginning(wanted)
        elif engine and engine != self._engine:
            after = 0
        rows: list[dict[str, Any]] = []
        size, last, more = 0, self._last, False
        for seen in self._seen(max(oldest, after + 1)):
            if not _admitted(wanted, seen):
                continue
            size += _size_bytes(seen[3])
            if size > _PAGE_BYTES:
                more = True
                break
            last = seen[0]
            rows.append(_row(*seen))
        return {
            "engine": self._engine,
            "last": last if more else self._last,
            "more": more,
            "missed": max(0, oldest - after - 1),
            "events": rows,
        }

    def _beginning(self, wanted: TapFilter) -> int:
        """Return the number before the newest events that are to be shown at first."""
        newest = deque((seen[0] for seen in self._seen(self._oldest) if _admitted(wanted, seen)), FIRST)
        return (newest[0] if newest else self._last + 1) - 1

    @property
    def _oldest(self) -> int:
        return self._last - min(self._held, _KEPT) + 1

    def _seen(self, begin: int) -> Iterator[_Seen]:
        """Give what is kept from number `begin` on."""
        for first, at, direction, envs, sizes in self._notes:
            for index in range(max(0, begin - first), len(envs)):
                env = envs[index]
                yield first + index, at, direction, env, len(env[11]) if sizes is None else sizes[index]


def _admitted(wanted: TapFilter, seen: _Seen) -> bool:
    _, _, direction, env, size = seen
    return wanted.admits(direction, env, size)


def _size_bytes(env: Envelope) -> int:
    """Return what a row takes at the most; ids and names are ASCII or counted as if they were not."""
    names = env[KIND], env[TENANT], env[SESSION], env[RUN], env[ENTITY], env[PRODUCER]
    return _ROW_BYTES + sum(len(name) if name.isascii() else 4 * len(name) for name in names)


def _one_of(wanted: tuple[str, ...], given: str) -> bool:
    return not wanted or any(given == each or (each.endswith("*") and given.startswith(each[:-1])) for each in wanted)


def _names(field: str, given: object) -> tuple[str, ...]:
    if isinstance(given, list | tuple) and len(given) <= _MAX_WANTED:
        names = tuple(each for each in given if isinstance(each, str) and 0 < len(each) <= _MAX_CHARS)
        if len(names) == len(given):
            return names
    raise PeerProtocolError(
        f"`{field}` is a list of at most {_MAX_WANTED} texts of 1 to {_MAX_CHARS} characters", reason="BAD_TYPE"
    )


def _row(number: int, at: float, direction: str, env: Envelope, size: int) -> dict[str, Any]:
    return {
        "n": number,
        "at": at,
        "direction": direction,
        "id": envelope_id(env),
        "kind": env[KIND],
        "tenant": env[TENANT],
        "session": env[SESSION],
        "run": env[RUN],
        "entity": env[ENTITY],
        "lane": LANE_NAMES[env[LANE]],
        "trace_id": env[TRACE][_TRACE_ID],
        "bytes": size,
    }
