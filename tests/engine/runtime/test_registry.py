"""The registry's actor and the way to it, without Ray; on Ray it is in test_ray_cluster.py."""

from __future__ import annotations

import asyncio

import pytest

from laneway.engine.runtime.registry import Registry, namespace_of
from laneway.routing.errors import ConfigError, Draining, RuntimeUnavailable
from laneway.routing.membership import FRONT, POOL, Member
from tests.engine.runtime.near import TERMS, NearRegistry
from tests.simulation.loop import run

FIRST = Member("a", "1", POOL, "127.0.0.1:1", "node", 7, ("nlp", "tools"), "1")


def test_members_cross_as_plain_data_and_come_back_whole() -> None:
    """With the terms of the cluster, which are the registry's."""

    async def main() -> None:
        near = NearRegistry()
        registry = near.client()
        assert await registry.admit() == TERMS
        answer = await registry.beat(FIRST, -1)
        assert answer.error is None
        assert answer.view.members == (FIRST,)
        raw = await near.actor.beat(tuple(FIRST), -1)
        assert type(raw[1][0]) is tuple
        await asyncio.sleep(0.3)
        roll = await registry.roll()
        assert (roll.version, roll.settled) == ("1", False)
        assert roll.heard[0][0] == FIRST
        assert roll.heard[0][1] == pytest.approx(0.3)
        await near.close()

    run(main())


def test_silence_is_noticed_also_when_nobody_beats() -> None:
    """An operator who looks later does not see the dead."""

    async def main() -> None:
        near = NearRegistry()
        await near.client().beat(FIRST, -1)
        await asyncio.sleep(3.0)
        assert (await near.client().roll()).heard == ()
        await near.close()

    run(main())


def test_other_versions_and_latecomers_are_refused_with_a_sentence() -> None:
    """When they ask to join."""

    async def main() -> None:
        near = NearRegistry()
        with pytest.raises(ConfigError, match=r"has laneway 0\.9, its cluster has 1"):
            await near.client("0.9").admit()
        await near.client().stop("stopped by an operator")
        with pytest.raises(Draining, match="by an operator"):
            await near.client().admit()
        answer = await near.client().beat(FIRST._replace(role=FRONT), -1)
        assert isinstance(answer.error, Draining)
        await near.close()

    run(main())


def test_a_registry_that_is_not_there_is_made_only_by_who_makes_registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the secret that was in force; a pool host only waits for it."""

    async def main() -> None:
        made = []
        monkeypatch.setattr(Registry, "_create", lambda self, terms: made.append(terms))
        near = NearRegistry()
        host, front = near.client(), near.client()
        await front.create(TERMS._replace(secret="another one was first"))
        for registry in (host, front):
            await registry.admit()

        async def absent(method: str, *arguments: object, timeout_s: float | None) -> object:
            raise RuntimeUnavailable("there is none", reason="ABSENT")

        near.call = absent  # type: ignore[method-assign]
        for registry in (host, front):
            with pytest.raises(RuntimeUnavailable):
                await registry.beat(FIRST, -1)
        assert [terms.secret for terms in made] == ["another one was first", TERMS.secret]
        await near.close()

    asyncio.run(main())


def test_clusters_have_namespaces_of_their_own() -> None:
    """So that two of them share a Ray."""
    assert namespace_of("blue") == "laneway/blue"
