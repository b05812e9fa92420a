"""What an engine does by itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from laneway.engine.app.upkeep import Upkeep
from laneway.routing.errors import LocalProtocolError, StoreError
from tests.simulation.loop import run


class Sessions:
    """A directory of sessions whose store fails when told."""

    def __init__(self) -> None:
        self.unreadable = {("acme", "s1"): "bad magic"}
        self.swept = 0
        self.failing: Exception | None = None

    async def recover(self) -> int:
        if self.failing is not None:
            raise self.failing
        return 3

    async def sweep(self) -> None:
        self.swept += 1
        if self.failing is not None:
            raise self.failing


class Counts:
    """A probe that remembers names."""

    def __init__(self) -> None:
        self.names: list[tuple[str, dict[str, str]]] = []

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        self.names.append((name, labels))


def made(sessions: Any, probe: Any, sweep: Callable[[], None] = lambda: None, durable: bool = True) -> Upkeep:
    return Upkeep(sessions, durable=durable, sweep=sweep, probe=probe)


def test_recovery_tells_how_many_had_work_and_what_could_not_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """Once; a store that forgets is not asked."""

    async def main() -> None:
        upkeep = made(Sessions(), Counts())
        with pytest.raises(LocalProtocolError, match="not running"):
            await upkeep.recovered()
        upkeep.start()
        assert not upkeep.done
        assert await upkeep.recovered() == 3
        assert upkeep.done
        await upkeep.close()
        await upkeep.close()
        forgetful = made(Sessions(), Counts(), durable=False)
        forgetful.start()
        assert await forgetful.recovered() == 0
        await forgetful.close()

    with caplog.at_level(logging.ERROR):
        asyncio.run(main())
    assert "s1 of tenant acme" in caplog.text
    assert "bad magic" in caplog.text


def test_a_recovery_that_fails_is_told_to_who_waits() -> None:
    """With the store's own error; the engine goes on."""

    async def main() -> None:
        sessions = Sessions()
        sessions.failing = StoreError("gone")
        upkeep = made(sessions, Counts())
        upkeep.start()
        with pytest.raises(StoreError, match="gone"):
            await upkeep.recovered()
        await upkeep.close()

    asyncio.run(main())


def test_no_failed_sweep_is_the_last_one() -> None:
    """Each failure is counted by its code, and what else is swept is swept all the same."""

    async def main() -> None:
        sessions, counts, swept = Sessions(), Counts(), []
        upkeep = made(sessions, counts, lambda: swept.append(1))
        upkeep.start()
        await upkeep.recovered()
        for failing in (StoreError("gone"), RuntimeError("odd"), None):
            sessions.failing = failing
            await asyncio.sleep(5.0)
        await upkeep.close()
        assert sessions.swept == len(swept) == 3
        assert counts.names == [
            ("engine.sweep_failed", {"code": "STORE_FAILED"}),
            ("engine.sweep_failed", {"code": "RuntimeError"}),
        ]

    run(main())
