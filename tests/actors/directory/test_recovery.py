"""Going through what was left in a store; what it means for sessions is in test_directory and test_fronts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from laneway.actors.directory.recovery import UNREADABLE, Recovery
from laneway.actors.homes.deeds import Life
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import Fenced, Overloaded, StoreError
from tests.simulation.loop import run


class _Sessions:
    """A directory and its homes: notes what is opened and put to sleep."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.rested: list[str] = []
        self.awake: set[str] = set()
        self.busy: set[str] = set()
        self.trouble: dict[str, Exception] = {}
        self.left: set[str] = set()
        self.under_way = self.most = 0

    def find(self, tenant: str, session: str) -> Any:
        return session if session in self.awake else None

    async def open(self, tenant: str, session: str) -> Any:
        self.opened.append(session)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.1)
        self.under_way -= 1
        if session in self.trouble:
            raise self.trouble[session]
        return SimpleNamespace(name=session, ingress=SimpleNamespace(pending=int(session in self.busy)), links=())

    async def rest(self, home: Any) -> None:
        self.rested.append(home.name)

    async def orphan(self, key: str, lost: Any) -> bool:
        return key.rpartition("/")[2] in self.left


async def _recovery(sessions: _Sessions, count: int, *, several: bool) -> Recovery:
    store = MemoryStore()
    for number in range(count):
        await store.claim(f"t/session/{number:02d}")
    await store.claim("t/doc/d")
    homes: Any = sessions if several else None
    return Recovery(store, homes, find=sessions.find, open=sessions.open, rest=sessions.rest)


def test_each_session_is_taken_up_once() -> None:
    """One after the other where nobody else is; with others some side by side. Those without work rest again."""

    async def main() -> None:
        for several, at_once in ((False, 1), (True, 8)):
            sessions = _Sessions()
            sessions.busy, sessions.awake = {"03", "07"}, {"05"}
            told: list[tuple[int, int]] = []
            recovery = await _recovery(sessions, 20, several=several)
            assert await recovery.run(lambda done, total, told=told: told.append((done, total))) == 2
            assert sessions.opened == [f"{number:02d}" for number in range(20)]
            assert sessions.most == at_once
            assert sorted({*sessions.opened} - {*sessions.rested}) == ["03", "05", "07"]
            assert told == [(number, 20) for number in range(1, 21)]
        assert await (await _recovery(_Sessions(), 0, several=True)).run() == 0

    run(main())


def test_only_what_certain_lives_left_is_opened() -> None:
    """The others are not even claimed."""

    async def main() -> None:
        sessions = _Sessions()
        sessions.left = {"04"}
        recovery = await _recovery(sessions, 10, several=True)
        await recovery.run(left_by={Life("b", "1")})
        assert sessions.opened == ["04"]

    run(main())


def test_what_cannot_be_taken_up_is_passed_over() -> None:
    """Damaged, at home elsewhere, or no place left for it (that one counts as work to do)."""

    async def main() -> None:
        sessions = _Sessions()
        sessions.trouble = {
            "01": StoreError("damaged", reason=UNREADABLE),
            "02": Fenced("elsewhere", reason="ELSEWHERE"),
            "03": Overloaded("full"),
        }
        assert await (await _recovery(sessions, 5, several=True)).run() == 1
        assert len(sessions.opened) == 5

    run(main())


def test_a_store_that_fails_ends_it_with_nothing_left_running() -> None:
    """The error is passed on once the others under way were ended."""

    async def main() -> None:
        for error in (StoreError("away"), Fenced("this life is over")):
            sessions = _Sessions()
            sessions.trouble = {f"{number:02d}": error for number in range(2, 20)}
            with pytest.raises(type(error)):
                await (await _recovery(sessions, 20, several=True)).run()
            assert len(set(sessions.opened)) < 20
            assert sessions.opened.count("02") == (4 if isinstance(error, StoreError) else 1)

    run(main())


def test_a_passing_failure_costs_a_pause() -> None:
    """Of many sessions some meet one; the others are not begun anew for it."""

    async def main() -> None:
        sessions = _Sessions()
        asked = 0

        async def flaky(tenant: str, session: str) -> Any:
            nonlocal asked
            if session == "02":
                asked += 1
                if asked < 4:
                    raise StoreError("a read failed")
            return await sessions.open(tenant, session)

        recovery = await _recovery(sessions, 5, several=False)
        recovery._open = flaky
        assert await recovery.run() == 0
        assert sessions.opened == [f"{number:02d}" for number in range(5)]

    run(main())
