"""A host's lives, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from laneway.engine.runtime.lives import Lives, new_incarnation
from laneway.engine.runtime.program import HostFacts, Presence
from laneway.routing.errors import ConfigError, LanewayError, RuntimeUnavailable
from laneway.routing.membership import POOL, View
from tests.engine.runtime.near import NearRegistry
from tests.simulation.loop import run

FACTS = HostFacts("near", "host/nlp/0", "", "nlp", "node7", "127.0.0.1", 42, "", "1", b"spec")


class Tenant:
    """A program that keeps what it is told."""

    def __init__(self, *, fails: Exception | None = None, starts_in_s: float = 0.0) -> None:
        self.fails, self.starts_in_s = fails, starts_in_s
        self.facts: HostFacts | None = None
        self.told: list[str] = []

    async def start(self, facts: HostFacts) -> Presence:
        self.facts = facts
        await asyncio.sleep(self.starts_in_s)
        if self.fails is not None:
            raise self.fails
        return Presence(POOL, f"127.0.0.1:{len(facts.incarnation)}", ("nlp",))

    def saw(self, view: View) -> None:
        self.told.append("saw")

    def dropped(self, error: LanewayError) -> None:
        self.told.append(f"dropped {error.code}")

    async def drain(self, deadline_s: float) -> None:
        self.told.append(f"drain {deadline_s:g}")

    async def close(self) -> None:
        self.told.append("close")

    def statistics(self) -> Mapping[str, Any]:
        return {"load": 0.5}


@contextlib.asynccontextmanager
async def living(
    make: Callable[[], Tenant], start_s: float = 5.0, stopped: Callable[[LanewayError], None] = print
) -> AsyncIterator[tuple[Lives, NearRegistry]]:
    near = NearRegistry()
    lives = Lives(make, FACTS, near.client(), start_s=start_s, stopped=stopped)
    task = asyncio.ensure_future(lives.run())
    try:
        yield lives, near
    finally:
        lives.stop()
        await task
        await near.close()


def test_a_program_becomes_a_member_and_leaves_at_the_end() -> None:
    """It knows its host, its incarnation and the cluster's secret."""

    async def main() -> None:
        tenants: list[Tenant] = []
        stops: list[LanewayError] = []

        def make() -> Tenant:
            tenants.append(Tenant())
            return tenants[-1]

        async with living(make, stopped=stops.append) as (lives, near):
            member = await lives.ready()
            facts = tenants[0].facts
            assert facts is not None
            assert (facts.secret, facts.spec, facts.incarnation) == ("s3cret", b"spec", member.incarnation)
            assert (member.name, member.node, member.pid, member.pools) == ("host/nlp/0", "node7", 42, ("nlp",))
            await asyncio.sleep(0.1)
            assert near.actor._table.view().members == (member,)
            assert lives.statistics() == {"load": 0.5, "state": "ready", "failure": ""}
            await lives.drain(3.0)
            await near.client().stop("by an operator")
            await asyncio.sleep(1.0)
            assert [error.message for error in stops] == ["by an operator"]
            assert (await lives.ready()) == member, "who stops a cluster drains its hosts first"
        assert tenants[0].told[-2:] == ["drain 3", "close"]
        assert near.actor._table.view().members == ()

    run(main())


def test_a_dropped_host_begins_anew() -> None:
    """Another incarnation, another program; the former was told and closed before."""

    async def main() -> None:
        tenants: list[Tenant] = []

        def make() -> Tenant:
            assert all(tenant.told[-1] == "close" for tenant in tenants)
            tenants.append(Tenant())
            return tenants[-1]

        async with living(make) as (lives, near):
            former = await lives.ready()
            await asyncio.sleep(0.1)
            await near.actor.leave(former.name, former.incarnation)
            await asyncio.sleep(0.1)
            now = await lives.ready()
            assert now.incarnation != former.incarnation
            assert len(tenants) == 2
            assert tenants[0].told[-2:] == ["dropped HOST_LOST", "close"]
            await asyncio.sleep(0.1)
            assert near.actor._table.view().members == (now,)

    run(main())


def test_a_wrong_set_up_stays_failed_and_says_so() -> None:
    """It is not tried again; the message names host, node and cause."""

    async def main() -> None:
        made = []

        def make() -> Tenant:
            made.append(1)
            return Tenant(fails=ConfigError("no such model; choose another"))

        async with living(make) as (lives, _):
            with pytest.raises(ConfigError, match=r"host host/nlp/0 on node node7 \(127\.0\.0\.1\).*choose another"):
                await lives.ready()
            await asyncio.sleep(60.0)
            assert len(made) == 1
            state = lives.statistics()
            assert state["state"] == "failed"
            assert "choose another" in state["failure"]
        with pytest.raises(ConfigError):
            await lives.ready()

    run(main())


def test_another_failure_is_told_and_tried_again() -> None:
    """Until it works, with growing pauses."""

    async def main() -> None:
        made = []

        def make() -> Tenant:
            made.append(asyncio.get_running_loop().time())
            return Tenant(fails=OSError("the store is away") if len(made) < 6 else None)

        async with living(make) as (lives, _):
            with pytest.raises(RuntimeUnavailable, match="OSError: the store is away"):
                await lives.ready()
            await asyncio.sleep(30.0)
            assert (await lives.ready()).name == "host/nlp/0"
            pauses = [after - before for before, after in itertools.pairwise(made)]
            assert pauses == sorted(pauses)
            assert len(made) == 6

    run(main())


def test_a_start_that_takes_too_long_is_given_up() -> None:
    """Also one that waits for a registry that does not answer."""

    async def main() -> None:
        async with living(lambda: Tenant(starts_in_s=100.0), start_s=2.0) as (lives, _):
            with pytest.raises(RuntimeUnavailable, match="had not started after 2 s"):
                await lives.ready()

    run(main())


def test_a_host_that_was_stopped_is_not_ready() -> None:
    """Whoever asks is told."""

    async def main() -> None:
        async with living(Tenant) as (lives, _):
            await lives.ready()
        with pytest.raises(RuntimeUnavailable, match="was stopped"):
            await lives.ready()

    run(main())


def test_incarnations_are_never_the_same() -> None:
    """Random, and short enough to read."""
    assert len({new_incarnation() for _ in range(1_000)}) == 1_000
    assert len(new_incarnation()) == 16
