"""What a handler says elsewhere is taken in order, acknowledged as it is taken, and bounded."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.hosts.sayings import Sayings, Tellings
from laneway.routing.errors import HandlerFailed, LanewayError, PeerProtocolError, SlowConsumer
from tests.actors.hosts.stage import ReadyTaker, Taker


class Bench:
    """Sayings of one delivery and what they tell; it is the delivery as well."""

    name = "d"

    def __init__(self, taker=None):
        self.taker = taker or Taker()
        self.told, self.quiets, self.tasks, self.tellings = [], 0, [], Tellings()
        ready = getattr(self.taker, "emit_ready", None)
        self.sayings = Sayings(self, self.taker, ready, self.tellings, self._spawn)

    def _spawn(self, work, name):
        self.tasks.append(asyncio.create_task(work, name=name))
        return self.tasks[-1]

    def tell_taken(self, size, error):
        self.told.append((size, None if error is None else error.code))

    def quiet(self):
        self.quiets += 1


def test_what_is_said_is_taken_in_order_and_acknowledged(rig):
    """One task takes all there is; it is told at a quarter of the window, and soon after the last."""

    async def main():
        bench = Bench()
        assert not bench.sayings.busy
        for counter in range(1, 5):
            bench.sayings.add([rig.event(counter)], 10_000)
        assert bench.sayings.busy
        await asyncio.sleep(0.1)
        assert [env[1] for env in bench.taker.envs] == [1, 2, 3, 4]
        assert bench.told == [(20_000, None), (40_000, None)]
        assert (bench.sayings.busy, bench.quiets, len(bench.tasks)) == (False, 1, 1)
        bench.sayings.add([rig.event(5)], 10)
        await asyncio.sleep(0)
        assert bench.told[-1] == (40_000, None)
        await asyncio.sleep(0.02)
        assert bench.told[-1] == (40_010, None)

    rig.run(main())


def test_what_is_taken_at_once_costs_no_task(rig):
    """Only from the first event that has to wait; the order is kept."""

    async def main():
        bench = Bench(ReadyTaker(2))
        bench.sayings.add([rig.event(1), rig.event(2)], 20_000)
        assert (bench.taker.envs, bench.told) == ([rig.event(1), rig.event(2)], [(20_000, None)])
        assert (bench.sayings.busy, bench.tasks) == (False, [])
        bench.sayings.add([rig.event(counter) for counter in (3, 4, 5)], 30)
        bench.sayings.add([rig.event(6)], 10)
        assert [env[1] for env in bench.taker.envs] == [1, 2, 3, 4]
        await asyncio.sleep(0.1)
        assert [env[1] for env in bench.taker.envs] == [1, 2, 3, 4, 5, 6]
        assert (bench.told[-1], bench.quiets, len(bench.tasks)) == ((20_040, None), 1, 1)

    rig.run(main())


def test_what_is_over_is_not_told(rig):
    """Nobody waits for it: a stop drops what would be told later, and closing the front drops all."""

    async def main():
        benches = [Bench(ReadyTaker()) for _ in range(2)]
        for bench in benches:
            bench.sayings.add([rig.event(1)], 10)
        benches[0].sayings.stop()
        benches[1].tellings.cancel()
        await asyncio.sleep(0.1)
        assert [bench.told for bench in benches] == [[], []]
        benches[1].sayings.add([rig.event(2)], 10)
        await asyncio.sleep(0.1)
        assert benches[1].told == [(20, None)]

    rig.run(main())


@pytest.mark.parametrize(
    ("error", "code"),
    [(SlowConsumer("nobody reads"), SlowConsumer.code), (KeyError("bug"), HandlerFailed.code)],
    ids=["known", "foreign"],
)
@pytest.mark.parametrize("taker", [Taker, ReadyTaker])
def test_what_the_session_refuses_is_told_once_and_nothing_follows(rig, error, code, taker):
    """The rest is dropped, and so is what comes before the host has heard of it."""

    async def main():
        bench = Bench(taker())
        bench.taker.error = error
        bench.sayings.add([rig.event(1)], 10)
        bench.sayings.add([rig.event(2)], 10)
        await asyncio.sleep(0.1)
        bench.taker.error = None
        bench.sayings.add([rig.event(3)], 10)
        await asyncio.sleep(0.1)
        assert (bench.told, bench.quiets, bench.taker.envs) == ([(0, code)], len(bench.tasks), [])
        assert isinstance(bench.sayings.error, LanewayError)

    rig.run(main())


def test_nothing_reaches_the_session_after_the_stop(rig):
    """Neither what waited nor what was being taken."""

    async def main():
        bench = Bench()
        bench.taker.shut()
        bench.sayings.add([rig.event(1)], 10)
        await asyncio.sleep(0.1)
        bench.sayings.add([rig.event(2)], 10)
        bench.sayings.stop()
        bench.taker.let_go()
        await asyncio.sleep(0.1)
        assert (bench.taker.envs, bench.told, bench.quiets) == ([], [], 0)

    rig.run(main())


def test_a_stop_from_within_takes_no_more(rig):
    """Taking an event may end the delivery; the task then ends by itself."""

    async def main():
        bench = Bench()

        class Ending(Taker):
            async def emit_all(self, envs):
                await super().emit_all(envs)
                bench.sayings.stop()

        bench = Bench(Ending())
        bench.sayings.add([rig.event(1)], 10)
        bench.sayings.add([rig.event(2)], 10)
        await asyncio.sleep(0.1)
        assert [env[1] for env in bench.taker.envs] == [1]
        assert (bench.told, bench.quiets) == ([], 0)

    rig.run(main())


def test_a_host_that_runs_ahead_of_its_window_breaks_the_rules(rig):
    """It may be ahead by the window and the largest event."""

    async def main():
        bench = Bench()
        bench.taker.shut()
        bench.sayings.add([rig.event(1)], 65_536)
        bench.sayings.add([rig.event(2)], 1_310_721)
        with pytest.raises(PeerProtocolError, match="ahead"):
            bench.sayings.add([rig.event(3)], 1)
        bench.sayings.stop()
        await asyncio.sleep(0)

    rig.run(main())


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 20_000), st.booleans()), max_size=30),
    st.sampled_from([Taker, ReadyTaker, partial(ReadyTaker, 2)]),
)
def test_every_saying_is_taken_once_and_every_byte_acknowledged(batches, taker):
    """However they come and however slowly the session takes them."""
    from tests.simulation.loop import run

    async def main():
        bench, number, total = Bench(taker()), 0, 0
        for count, size, pause in batches:
            numbers = range(number + 1, number + count + 1)
            number += count
            total += size
            bench.sayings.add([("p", each, *[""] * 11) for each in numbers], size)
            if pause:
                bench.taker.shut()
                await asyncio.sleep(0.1)
            bench.taker.let_go()
        await asyncio.sleep(0.1)
        assert [env[1] for env in bench.taker.envs] == list(range(1, number + 1))
        assert [size for size, _ in bench.told] == sorted({size for size, _ in bench.told})
        assert not batches or bench.told[-1] == (total, None)

    run(main())
