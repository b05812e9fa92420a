"""Cancels that are kept for a while, because a cancel may arrive before what it is meant for.

Law of this file: a cancel names a run or one event (by its id, or a tool call by its call id) of one
session; it is remembered for 60 s, the oldest forgotten first beyond the bound. A cancel of all runs
of a session is not remembered: it means what there is, not what comes.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Final, NamedTuple

from laneway.routing.envelope import ENTITY, KIND, RUN, SESSION, TENANT, Envelope, envelope_id

__all__ = ["Cancel", "RememberedCancels"]

_KEEP_S: Final = 60.0
_MAX_KEPT: Final = 4096
"""About 1 MiB of ids; more in a minute than that is an attack, and the oldest have served."""


class Cancel(NamedTuple):
    """One request: which events of a session are to end, and why.

    Attributes:
        run: only events of this run; empty with an empty `event_id` means every run of the session,
            so events that belong to no run (document edits, publications) go on.
        event_id: only the event of this id, or the tool call of this call id.
        reason: a sentence for the one who waits.
    """

    tenant: str
    session: str
    run: str = ""
    event_id: str = ""
    reason: str = ""

    def meant_for(self, env: Envelope) -> bool:
        """True if this event is to end."""
        if env[SESSION] != self.session or env[TENANT] != self.tenant:
            return False
        if self.event_id:
            return self._names(env) and (not self.run or env[RUN] == self.run)
        return env[RUN] == self.run if self.run else bool(env[RUN])

    def _names(self, env: Envelope) -> bool:
        return envelope_id(env) == self.event_id or (env[KIND] == "TOOL_CALL" and env[ENTITY] == self.event_id)


class RememberedCancels:
    """Bounded memory of cancels; all operations O(1) amortised.

    Args:
        keep_s: seconds a cancel is remembered. max_kept: cancels remembered at once.
    """

    __slots__ = ("_keep_s", "_kept", "_max_kept", "_sessions", "forgotten")

    def __init__(self, keep_s: float = _KEEP_S, max_kept: int = _MAX_KEPT) -> None:
        self.forgotten = 0
        self._keep_s = keep_s
        self._max_kept = max_kept
        self._kept: OrderedDict[tuple[str, str, str, str], tuple[float, Cancel]] = OrderedDict()
        self._sessions: Counter[tuple[str, str]] = Counter()  # (tenant, session) -> how many of those are theirs

    def alive(self, now: float) -> int:
        """Forget those whose time is over; returns how many are left."""
        self._expire(now)
        return len(self._kept)

    def add(self, cancel: Cancel, now: float) -> None:
        """Remember it, if it names a run or an event; counts in `forgotten` what had to make room."""
        if not (cancel.run or cancel.event_id):
            return
        key = (cancel.tenant, cancel.session, "" if cancel.event_id else cancel.run, cancel.event_id)
        self._sessions[key[:2]] += key not in self._kept
        self._kept[key] = (now + self._keep_s, cancel)
        self._kept.move_to_end(key)
        self._expire(now)
        if len(self._kept) > self._max_kept:
            self._forget_oldest()
            self.forgotten += 1

    def concern(self, envs: Iterable[Envelope], now: float) -> bool:
        """True if some are remembered for the session of one of these events. O(events), amortised."""
        if not self._kept:
            return False
        self._expire(now)
        return not self._sessions.keys().isdisjoint([env[TENANT : SESSION + 1] for env in envs])

    def find(self, env: Envelope, now: float) -> Cancel | None:
        """Return the cancel that was meant for this event, or None."""
        self._expire(now)
        if not self._kept:
            return None
        tenant, session, run = env[TENANT], env[SESSION], env[RUN]
        names = [envelope_id(env)]
        if env[KIND] == "TOOL_CALL" and env[ENTITY]:
            names.append(env[ENTITY])
        keys = [(tenant, session, "", name) for name in names]
        if run:
            keys.append((tenant, session, run, ""))
        for key in keys:
            kept = self._kept.get(key)
            if kept is not None and kept[1].meant_for(env):
                return kept[1]
        return None

    def _expire(self, now: float) -> None:
        while self._kept and next(iter(self._kept.values()))[0] <= now:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        (tenant, session, *_), _ = self._kept.popitem(last=False)
        self._sessions[tenant, session] -= 1
        if not self._sessions[tenant, session]:
            del self._sessions[tenant, session]
