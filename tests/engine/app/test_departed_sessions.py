"""Sessions that came once and never again: after their windows have passed, nothing in the engine is theirs."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter, deque
from collections.abc import Iterator
from types import FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from laneway import Config, Engine, EnvelopeView, Out
from laneway.actors.ports import Context
from laneway.actors.sessions.session import SessionHome
from laneway.engine.app import engine as composition
from laneway.engine.stores.memory import MemoryStore
from tests.simulation.loop import VirtualClock, run

_MARK = "visitor-"
"""Of sessions, runs, topics and texts; tenants and users are few, and known for as long as there is room."""
_VISITORS = 1_500
_CONFIG = {
    "session": {"idle_s": 20.0},
    "quotas": {"tenant": {"rate_per_s": 1_000.0}, "principal": {"runs": 100}},
}


async def _answer(event: EnvelopeView, context: Context) -> Out:
    return Out("CUSTOM", event.body)


async def _fail(event: EnvelopeView, context: Context) -> None:
    raise ValueError("as asked")


async def _long(event: EnvelopeView, context: Context) -> None:
    await asyncio.sleep(600.0)


async def _visit(engine: Engine, number: int) -> None:
    """Come once: an answer, one that waits for another, a cancelled run, a failed one, and go."""
    name = f"{_MARK}{number}"
    options = {
        "user": f"user{number % 100}",
        "tenant": f"tenant{number % 20}",
        "on_failure": lambda receipt, error: None,
    }
    async with engine.session(name, topics=[f"topic:{name}"], **options) as session:  # type: ignore[arg-type]
        asked = await session.send_event("ASKED", b"x")
        assert (await anext(session)).body == b"x"
        await session.send_event("ASKED", b"y", after=asked.id)
        assert (await anext(session)).body == b"y"
        await session.send_event("FAILS")
        await session.send_event("LONG", run=f"{name}-run")
        await session.interrupt(f"{name}-run")
        if number % 10 == 0:
            run_id = (await session.send(name)).run  # no model: ends in an error
            while not (event := await anext(session)).ends_run:
                assert event.run == run_id


def _held(root: object) -> Iterator[tuple[str, object]]:
    """Give everything that is reachable from an object, each with the way there."""
    seen, due = set[int](), deque[tuple[str, object]]([("engine", root)])
    while due:
        path, held = due.popleft()
        if isinstance(held, (str, bytes)):
            yield path, held
        elif id(held) not in seen and not isinstance(held, (type, ModuleType, FrameType, int, float)):
            seen.add(id(held))
            yield path, held
            due += [(f"{path}.{name}"[-100:], part) for name, part in _parts(held)]


def _parts(held: object) -> list[tuple[str, object]]:
    if isinstance(held, dict):
        return [(part, it) for key, value in list(held.items()) for part, it in (("key", key), (_word(key), value))]
    if isinstance(held, FunctionType):
        return [(held.__qualname__, cell) for cell in held.__closure__ or ()]
    fields = {name: getattr(held, name, None) for kind in type(held).__mro__ for name in _slots(kind)}
    fields |= getattr(held, "__dict__", {})
    return list(fields.items()) or [(type(held).__name__, part) for part in gc.get_referents(held)]


def _slots(kind: type) -> tuple[str, ...]:
    slots: Any = vars(kind).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _word(key: object) -> str:
    return key if isinstance(key, str) and _MARK not in key else "*"


def _theirs(engine: Engine) -> Counter[str]:
    """Return where there still is a name of a visitor, and how often.

    Not looked at: the tap's last 2,000 events, and the last one of each worker.
    """
    found: Counter[str] = Counter()
    for path, held in _held(engine):
        if any(known in path for known in (".tap.", "._starting", "._workers")):
            continue
        text = held.decode("latin-1") if isinstance(held, bytes) else held
        if isinstance(text, str) and _MARK in text:
            found[path] += 1
    return found


def test_of_sessions_that_never_return_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Not a home, an account, a quota, a cancel or a log: only what every engine keeps of the last few events."""

    caplog.set_level("CRITICAL", "laneway")  # what fails was asked for

    async def main() -> None:
        clock = VirtualClock(asyncio.get_running_loop())
        monkeypatch.setattr(composition, "SystemClock", lambda: clock)
        async with Engine(Config.model_validate(_CONFIG), store=MemoryStore(now=clock.now)) as engine:
            engine.pool("asked", ["ASKED"], _answer)
            engine.pool("long", ["LONG"], _long, concurrency=64)
            engine.pool("fails", ["FAILS"], _fail)
            for number in range(_VISITORS):
                await _visit(engine, number)
            await asyncio.sleep(3_700.0)
            async with engine.session("last") as session:  # somebody comes and goes now and then
                await session.send_event("ASKED", b"z")
                assert (await anext(session)).body == b"z"
            assert _theirs(engine) == {}
            gc.collect()
            homes = sum(isinstance(held, SessionHome) for held in gc.get_objects())
            assert homes == engine.statistics()[1].sessions == 1

    run(main())
