"""A host's signs of life, in virtual time, over the registry that runs in the actor."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from laneway.engine.runtime.beats import Beats
from laneway.routing.errors import LanewayError
from laneway.routing.membership import POOL, Member, Membership, View
from tests.engine.runtime.near import TERMS, NearRegistry
from tests.simulation.loop import run


class Host:
    """Somebody who beats, and keeps what it is told."""

    def __init__(self, near: NearRegistry, name: str, incarnation: str = "1", version: str = "1") -> None:
        self.views: list[View] = []
        self.errors: list[LanewayError] = []
        member = Member(name, incarnation, POOL, "127.0.0.1:1", version=version)
        self.beats = Beats(near.client(version), member, TERMS, saw=self.views.append, over=self.errors.append)
        self.beats.start()

    @property
    def sees(self) -> list[str]:
        return [member.name for member in self.beats.view.members]


def simulate(main: Callable[[NearRegistry], Awaitable[None]]) -> None:
    async def body() -> None:
        near = NearRegistry()
        await main(near)
        await near.close()

    run(body())


def test_who_joins_and_leaves_is_seen_at_once() -> None:
    """Not at the next beat: a beat is answered as soon as there is something new."""

    async def main(near: NearRegistry) -> None:
        first, second = Host(near, "a"), Host(near, "b")
        await asyncio.sleep(0.1)
        assert first.sees == second.sees == ["a", "b"]
        await asyncio.sleep(3.0)
        await second.beats.close()
        await asyncio.sleep(0.05)
        assert first.sees == ["a"]
        calls = len(near.calls)
        await asyncio.sleep(10.0)
        assert 15 <= len(near.calls) - calls <= 22, "a quiet cluster costs a call each beat_s"
        await first.beats.close()

    simulate(main)


def test_who_is_silent_is_told_that_it_is_over() -> None:
    """Once; it does not beat again by itself. Others have seen it go."""

    async def main(near: NearRegistry) -> None:
        other, silent = Host(near, "a"), Host(near, "b")
        await asyncio.sleep(3.0)
        near.actor._table.leave("b", "1")  # as after lost_s of silence
        await asyncio.sleep(1.0)
        assert [error.code for error in silent.errors] == ["HOST_LOST"]
        assert other.sees == ["a"]
        anew = Host(near, "b", "2")
        await asyncio.sleep(0.1)
        assert other.sees == ["a", "b"]
        assert len(silent.errors) == 1
        for host in (other, silent, anew):
            await host.beats.close()

    simulate(main)


@pytest.mark.parametrize("how", ["down", "hangs"])
def test_a_registry_that_fails_takes_nobody_away(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """However long: the last view stands; restarted, it hears everybody before it is believed."""

    async def main(near: NearRegistry) -> None:
        caplog.set_level("INFO")
        hosts = [Host(near, name) for name in "abc"]
        await asyncio.sleep(3.0)
        before = hosts[0].beats.view
        setattr(near, how, True)
        await asyncio.sleep(60.0)
        assert hosts[0].beats.view is before
        assert "the registry does not answer a" in caplog.text
        assert "answers a again" not in caplog.text
        setattr(near, how, False)
        await near.close()
        near.restart()
        await asyncio.sleep(10.0)
        assert "the registry answers a again" in caplog.text
        for host in hosts:
            assert host.errors == []
            for view in host.views[host.views.index(before) :]:
                assert [member.name for member in view.members] == ["a", "b", "c"]
        assert hosts[0].beats.view.settled
        assert hosts[0].beats.view.number > before.number
        for host in hosts:
            await host.beats.close()

    simulate(main)


def test_a_registry_that_begins_anew_on_a_slow_clock_is_believed() -> None:
    """Its views have higher numbers than any that a host has seen, whatever its clock says."""

    async def main(near: NearRegistry) -> None:
        hosts = [Host(near, name) for name in "abc"]
        await asyncio.sleep(3.0)
        before = hosts[0].beats.view.number
        await near.close()
        near.restart()
        near.actor._table = Membership(TERMS.lost_s, asyncio.get_running_loop().time(), number=7)
        await hosts[2].beats.close()
        await asyncio.sleep(10.0)
        for host in hosts[:2]:
            assert host.sees == ["a", "b"]
            assert host.beats.view.settled
            numbers = [view.number for view in host.views]
            assert numbers == sorted(numbers)
            assert numbers[-1] > before
            await host.beats.close()

    simulate(main)


def test_who_died_while_the_registry_was_away_is_missing_once_the_view_is_settled() -> None:
    """Not before."""

    async def main(near: NearRegistry) -> None:
        lives, dies = Host(near, "a"), Host(near, "b")
        await asyncio.sleep(3.0)
        near.down = True
        await dies.beats.close()
        await near.close()
        near.restart()
        near.down = False
        await asyncio.sleep(1.0)
        assert lives.sees == ["a", "b"]
        assert not lives.beats.view.settled
        await asyncio.sleep(2.0)
        assert lives.sees == ["a"]
        await lives.beats.close()

    simulate(main)


def test_another_version_and_a_stopped_cluster_are_told() -> None:
    """By errors that say whether to begin anew."""

    async def main(near: NearRegistry) -> None:
        stranger, host = Host(near, "old", version="0"), Host(near, "a")
        await asyncio.sleep(0.1)
        assert [error.code for error in stranger.errors] == ["CONFIG"]
        await near.client().stop("stopped by an operator")
        await asyncio.sleep(0.05)
        assert [error.code for error in host.errors] == ["DRAINING"]
        for each in (stranger, host):
            await each.beats.close()

    simulate(main)


def test_a_failure_of_ray_that_nobody_foresaw_does_not_end_the_beats(caplog: pytest.LogCaptureFixture) -> None:
    """It counts as a beat that did not arrive, and is in the log: a host that fell silent could not know it is over."""

    async def main(near: NearRegistry) -> None:
        caplog.set_level("INFO")
        host = Host(near, "a")
        await asyncio.sleep(0.1)
        near.breaks = True
        await asyncio.sleep(1.0)
        assert "answers a again" not in caplog.text
        near.breaks = False
        await asyncio.sleep(5.0)
        assert "the registry answers a again" in caplog.text
        assert (host.sees, host.errors) == (["a"], [])
        await host.beats.close()

    simulate(main)
    assert "the connection to Ray is gone" in caplog.text


def test_closing_takes_bounded_time_and_may_be_repeated() -> None:
    """Also while the registry hangs, and before the start."""

    async def main(near: NearRegistry) -> None:
        host = Host(near, "a")
        await asyncio.sleep(0.1)
        near.hangs = True
        begun = asyncio.get_running_loop().time()
        await host.beats.close()
        assert asyncio.get_running_loop().time() - begun <= TERMS.lost_s / 2 + 0.01
        await host.beats.close()
        never = Beats(near.client(), Member("n", "1", POOL, ""), TERMS, saw=print, over=print)
        await never.close()

    simulate(main)


def test_a_callback_that_fails_does_not_end_the_beats(caplog: pytest.LogCaptureFixture) -> None:
    """It is in the log; silence would cost the host its life."""

    async def main(near: NearRegistry) -> None:
        def fails(view: View) -> None:
            raise ValueError("a mistake")

        beats = Beats(near.client(), Member("a", "1", POOL, "", version="1"), TERMS, saw=fails, over=print)
        beats.start()
        await asyncio.sleep(5.0)
        assert [name for name, *_ in near.actor._table.view().members] == ["a"]
        await beats.close()

    simulate(main)
    assert "could not take a view" in caplog.text
