"""Bugs to plant in the engine, so that it can be shown that the simulation finds them.

Law of this file: each plant breaks one promise in one place, as a slip in the code would, rarely enough that
most of a run is right. A checker that never failed proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final
from unittest.mock import patch

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.sessions.attachment import Attachment
from laneway.actors.sessions.intake import Intake
from laneway.actors.sessions.links import Links
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.envelope import KIND, PRODUCER, RUN, TENANT, Envelope
from laneway.routing.replay import ReplayRing
from tests.simulation.disk import Archive, Marks

__all__ = ["PLANTS", "planted"]

_EACH: Final = 7


def _every(number: int) -> Callable[[], bool]:
    """True at every so many calls."""
    calls = iter(range(1, 10**9))
    return lambda: next(calls) % number == 0


@contextmanager
def _lost() -> Iterator[None]:
    """A dispatcher that forgets an accepted event now and then."""
    forgets, enqueue = _every(_EACH), Dispatcher.enqueue_batch

    def forgetful(self: Dispatcher, envs: Sequence[Envelope], on_done: Any = None) -> None:
        kept = [env for env in envs if env[KIND] != "ECHO" or not forgets()]
        if kept:
            enqueue(self, kept, on_done)

    with patch.object(Dispatcher, "enqueue_batch", forgetful):
        yield


@contextmanager
def _doubled() -> Iterator[None]:
    """A session that takes what is sent again for news."""
    with patch.object(Intake, "seen", lambda self, env: "new"):
        yield


@contextmanager
def _reordered() -> Iterator[None]:
    """A dispatcher that lets an event overtake the one before it."""
    holds, enqueue = _every(_EACH), Dispatcher.enqueue_batch
    held: dict[tuple[int, str], tuple[list[Envelope], Any]] = {}

    def overtaken(self: Dispatcher, envs: Sequence[Envelope], on_done: Any = None) -> None:
        for env in envs:
            place = (id(self), env[PRODUCER])
            if env[KIND] == "ECHO" and place not in held and holds():
                held[place] = ([env], on_done)
                continue
            enqueue(self, [env], on_done)
            if env[KIND] == "ECHO" and place in held:
                enqueue(self, *held.pop(place))

    with patch.object(Dispatcher, "enqueue_batch", overtaken):
        yield


@contextmanager
def _foreign() -> Iterator[None]:
    """A directory that hands what a run says to the same session of another tenant now and then."""
    strays, emit, emit_now = _every(_EACH * 3), SessionDirectory.emit, SessionDirectory.emit_now

    def astray(env: Envelope) -> Envelope:
        if not env[RUN] or env[TENANT] != "t0" or not strays():
            return env
        return (*env[:TENANT], "t1", *env[TENANT + 1 :])  # type: ignore[return-value]

    def later(self: SessionDirectory, env: Envelope) -> Any:
        return emit(self, astray(env))

    def now(self: SessionDirectory, env: Envelope) -> bool:
        return emit_now(self, astray(env))

    with patch.object(SessionDirectory, "emit", later), patch.object(SessionDirectory, "emit_now", now):
        yield


@contextmanager
def _epoch() -> Iterator[None]:
    """Links that resume from a cursor of another numbering as if it were this one."""
    point = Links._resume_point

    def trusting(self: Links, hello: Any) -> Any:
        if hello.cursor is not None:
            hello = replace(hello, cursor=hello.cursor._replace(epoch=self._epoch))
        return point(self, hello)

    with patch.object(Links, "_resume_point", trusting):
        yield


@contextmanager
def _gap() -> Iterator[None]:
    """Links that leave dropped events out without the GAP that covers them."""
    frames = Attachment.frames

    async def uncovered(self: Attachment) -> Sequence[Any]:
        return [frame for frame in await frames(self) if not any(env[KIND] == "GAP" for env in frame.envelopes)]

    with patch.object(Attachment, "frames", uncovered):
        yield


@contextmanager
def _zombie() -> Iterator[None]:
    """A store that lets everybody write who ever had a claim."""

    def trusting(self: MemoryStore, claim: Any) -> Any:
        return self._logs[claim.key]

    with patch.object(MemoryStore, "_held", trusting):
        yield


@contextmanager
def _bound() -> Iterator[None]:
    """Rings that hold four times the bytes they were given."""
    init = ReplayRing.__init__

    def generous(self: ReplayRing, max_events: int, max_bytes: int, *rest: Any) -> None:
        init(self, max_events, max_bytes * 4, *rest)

    with patch.object(ReplayRing, "__init__", generous):
        yield


@contextmanager
def _boot() -> Iterator[None]:
    """A store that goes on in the same epoch although it cannot know what a power failure took."""
    after = Archive.after_power_loss

    async def trusting(self: Archive, marks: Marks, epoch: str) -> Archive:
        return await after(self, marks, self.epoch)

    with patch.object(Archive, "after_power_loss", trusting):
        yield


PLANTS: Final[dict[str, Callable[[], Any]]] = {
    "lost": _lost,
    "doubled": _doubled,
    "reordered": _reordered,
    "foreign": _foreign,
    "epoch": _epoch,
    "gap": _gap,
    "zombie": _zombie,
    "bound": _bound,
    "boot": _boot,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Run with this bug in the engine; without a name, as it is."""
    if not name:
        yield
        return
    with PLANTS[name]():
        yield
