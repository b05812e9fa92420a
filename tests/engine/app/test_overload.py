"""The level of an engine: measured, acted on, counted, and back again."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from laneway import Config, Engine
from laneway.actors.ports import Context
from laneway.engine.app.overload import Overload
from laneway.engine.telemetry.counters import Counters
from laneway.engine.telemetry.lag import LagTicker, Starvation
from laneway.routing.envelope import Envelope
from laneway.routing.errors import LocalProtocolError, Overloaded
from laneway.routing.overload import OverloadPolicy
from laneway.routing.shedding import Shedding
from tests.simulation.loop import SimLoop, VirtualClock, run


class _Watched:
    """A level over a virtual loop, and work that holds that loop."""

    def __init__(self, policy: OverloadPolicy | None) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.counters = Counters()
        self.shedding = Shedding()
        self.ticker = LagTicker(VirtualClock(loop), self.counters, Starvation(""))
        self.overload = Overload(self.ticker, self.shedding, policy, self.counters)
        self.ticker.start()

    async def hog(self, each_s: float, times: int) -> list[int]:
        """Hold the loop again and again, with a moment for others in between."""
        seen = []
        for _ in range(times):
            self.loop.advance(each_s)
            await asyncio.sleep(0.001)
            seen.append(self.overload.level)
        return seen


def test_a_handler_that_holds_the_loop_raises_the_level_and_it_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    """Every change is counted and logged once: raised at once as a warning, lowered one by one."""
    caplog.set_level(logging.INFO, "laneway.engine.app.overload")

    async def main() -> None:
        watched = _Watched(OverloadPolicy())
        await asyncio.sleep(1)
        assert watched.overload.level == 0
        assert max(await watched.hog(0.4, 12)) == 2
        levels = []
        for _ in range(300):
            await asyncio.sleep(0.1)
            levels.append(watched.shedding.level)
        assert levels == sorted(levels, reverse=True)
        assert (levels[0], levels[-1]) == (2, 0)
        assert set(levels) == {2, 1, 0}
        assert max(await watched.hog(1.0, 12)) == 3
        await watched.ticker.close()
        begun = {labels["level"]: count for name, labels, count in watched.counters.recorded() if "level" in labels}
        assert begun == {"0": 1, "1": 1, "2": 1, "3": 1}

    run(main())
    rows = [(record.levelname, record.getMessage()[:26]) for record in caplog.records]
    assert [severity for severity, _ in rows][:3] == ["WARNING", "INFO", "INFO"]
    assert rows[0][1] == "overload level 2, was 0, t"
    assert "new sessions are refused" in caplog.records[0].getMessage()


def test_one_long_pause_is_not_acted_on() -> None:
    """A minute away, as after a suspend: the next looks are on time again."""

    async def main() -> None:
        watched = _Watched(OverloadPolicy())
        assert set(await watched.hog(60.0, 1)) == {0}
        await asyncio.sleep(2)
        assert watched.overload.level == 0
        await watched.ticker.close()
        assert {name for name, _, _ in watched.counters.recorded()} == {"loop.lag", "loop.starved"}

    run(main())


def test_switched_off_it_only_measures() -> None:
    """With `overload.enabled = false` the lag is in the metrics and the level stays 0."""

    async def main() -> None:
        watched = _Watched(None)
        assert set(await watched.hog(1.0, 12)) == {0}
        await watched.ticker.close()
        assert watched.counters.snapshot()["loop.lag"]["sum"] > 3

    run(main())


def test_a_level_can_be_held() -> None:
    """For a drill: what is measured changes nothing until it is let go."""

    async def main() -> None:
        watched = _Watched(OverloadPolicy())
        watched.overload.hold(3)
        await asyncio.sleep(60)
        assert watched.overload.level == 3
        watched.overload.hold(None)
        assert watched.overload.level == 0
        with pytest.raises(LocalProtocolError):
            watched.overload.hold(4)
        await watched.ticker.close()

    run(main())


def test_an_engine_whose_loop_is_held_sheds_and_recovers() -> None:
    """The real thing, on real time: a handler that does not let go of the loop; then it stops."""

    async def main() -> None:
        config = Config.model_validate({"overload": {"lag_s": [0.02, 0.04, 0.06], "calm_s": 0.05}})
        async with Engine(config) as engine:
            holding = True

            async def work(env: Envelope, context: Context) -> None:
                while holding:
                    time.sleep(0.1)  # noqa: ASYNC251 - it is the fault
                    await asyncio.sleep(0)

            engine.pool("work", ["MY_WORK"], work)
            async with engine.session("s") as session:
                await session.send_event("MY_WORK")
                async with asyncio.timeout(30):
                    while engine.overload.level < 3:  # noqa: ASYNC110 - nobody else tells
                        await asyncio.sleep(0.01)
                with pytest.raises(Overloaded) as caught:
                    await session.send("a run")
                assert caught.value.reason == "LEVEL_3"
                assert caught.value.retry_after_ms == 3000
                assert "laneway_overload_level 3" in engine.metrics()
                holding = False
                async with asyncio.timeout(60):
                    while engine.overload.level:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                metrics = engine.metrics()  # now: a busy machine may raise it again
            assert "laneway_overload_level 0" in metrics
            changes = metrics.partition('laneway_overload_changes_total{level="3"} ')[2]
            assert int(changes.split()[0]) >= 1

    asyncio.run(main())
