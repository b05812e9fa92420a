"""The same engine on a real local Ray: pools in other processes, hosts that die, tools and runs through them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from laneway import Config, Engine
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.config import LimitsConfig
from laneway.engine.runtime.lives import new_incarnation
from laneway.engine.runtime.ray_cluster import RayCluster
from laneway.engine.runtime.ray_host import laneway_version
from laneway.routing.errors import ConfigError, RuntimeUnavailable
from laneway.routing.membership import FRONT, Member
from tests.engine.app import hands
from tests.engine.peer.stage import eventually

pytestmark = pytest.mark.usefixtures("ray_address")
WITHIN_S = 200.0
"""Hosts come up slowly on a busy machine; nothing is asserted about how long it took."""


def on_ray(cluster: str, **settings: Any) -> Config:
    """A front that waits for its hosts, and takes nobody for dead because the machine is busy."""
    runtime = {"kind": "ray", "cluster": cluster, "beat_s": 0.2, "lost_s": 5.0, "ready_s": 120.0, **settings}
    return Config.model_validate({"runtime": runtime, "nlp": {"model": "tests.engine.app.hands:Talker"}})


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(WITHIN_S):
            await main

    asyncio.run(bounded())


async def said(session: EmbeddedSession, kind: str, entity: str = "") -> bytes:
    """The body of the next event of a kind."""
    async for event in session:
        if event.kind == kind and entity in ("", event.entity):
            return event.body
    raise AssertionError(f"the session ended without {kind}")


def pid_of(engine: Engine, host: str) -> int:
    return next(member.pid for member in engine.hosts if member.name == host)


def test_pools_run_elsewhere_and_nothing_else_changes() -> None:
    """Handlers, tools and the model run in processes of their own, all known from the start to the end of the engine;
    runs, tools and results are as ever."""

    async def main() -> None:
        engine = Engine(on_ray("elsewhere"))
        engine.tools.add(hands.where, effects=False, idempotent=True)
        engine.pool("here", ["HERE"], hands.here, hosts=2)
        assert not engine.hosts
        async with engine, engine.session("s") as session:
            told = {host.name: host.pools for host in engine.hosts if host.role == "pool"}
            assert told == {f"host/{name}": (name[:-2],) for name in ("here/0", "here/1", "nlp/0", "tools/0")}
            assert [host.pid for host in engine.hosts if host.role == "front"] == [os.getpid()]
            await session.send_event("HERE", entity="a")
            pids = {int(await said(session, "CUSTOM", "a"))}
            assert [event.kind async for event in session.ask("Hello")][-1] == "RUN_FINISHED"
            calls = [event async for event in session.ask("call where {}") if event.kind == "TOOL_CALL_RESULT"]
            pids.add(int(calls[0].data["content"]))
            await session.send("go on")
            pids.add(int(await said(session, "TEXT_MESSAGE_CONTENT")))
            await session.interrupt()
            await said(session, "RUN_FINISHED")
            assert pids >= {pid_of(engine, f"host/{pool}/0") for pool in ("tools", "nlp")}
            assert pids < {host.pid for host in engine.hosts} - {os.getpid()}
            assert len(pids) == 3
            # A run's last event is out before the host's answer ends its work.
            await eventually(lambda: engine.statistics()[0].pending == 0)
            assert engine.statistics()[0].failed == 0
        assert not engine.hosts

    run(main())


def test_a_killed_host_costs_a_run_and_no_event(tmp_path: Path) -> None:
    """What was handled there is handled again; a run that was going on ends with HOST_LOST, to be retried."""

    async def main() -> None:
        engine = Engine(on_ray("killed"))
        engine.pool("hold", ["HOLD"], "tests.engine.app.hands:hold", concurrency=2)
        async with engine, engine.session("work") as work, engine.session("talk") as talk:
            await work.send_event("HOLD", str(tmp_path / "done").encode(), entity="a")
            await talk.send("go on")
            first = int(await said(talk, "TEXT_MESSAGE_CONTENT"))
            held = pid_of(engine, "host/hold/0")
            for pid in (first, held):
                os.kill(pid, signal.SIGKILL)
            ended = await anext(event async for event in talk if event.ends_run)
            assert (ended.kind, ended.data["code"], ended.data["metadata"]["retryable"]) == (
                "RUN_ERROR",
                "HOST_LOST",
                True,
            )
            (tmp_path / "done").touch()
            assert int(await said(work, "CUSTOM", "a")) != held
            await talk.send("go on")
            assert int(await said(talk, "TEXT_MESSAGE_CONTENT")) != first
            await talk.interrupt()
            await said(talk, "RUN_FINISHED")

    run(main())


def test_an_effect_whose_host_was_lost_is_not_repeated(tmp_path: Path) -> None:
    """The call is carried to the host's next life, which finds that it began and says that nobody knows its outcome."""

    async def main() -> None:
        marks = tmp_path / "marks"
        engine = Engine(on_ray("struck"))
        engine.tools.add(hands.strike, effects=True)
        async with engine, engine.session("s") as session:
            asked = f"call strike {json.dumps({'path': str(marks)})}"
            results = [event.data async for event in session.ask(asked) if event.kind == "TOOL_CALL_RESULT"]
            assert "OUTCOME_UNKNOWN" in str(results)
            assert marks.read_text() == "struck\n"

    run(main())


def test_a_front_that_closes_ends_its_run_at_a_host() -> None:
    """The run is told DRAINED, to be retried, and every event is in the books."""

    async def main() -> None:
        config = on_ray("closing").model_copy(update={"limits": LimitsConfig(drain_s=0.5)})
        engine = Engine(config)
        async with engine, engine.session("s") as session:
            await session.send("go on")
            assert int(await said(session, "TEXT_MESSAGE_CONTENT")) == pid_of(engine, "host/nlp/0")
            closing = asyncio.create_task(engine.close())
            ended = await anext(event async for event in session if event.ends_run)
            assert (ended.kind, ended.data["code"], ended.data["metadata"]["retryable"]) == (
                "RUN_ERROR",
                "DRAINED",
                True,
            )
            await closing
            books = engine.statistics()[0]
            assert (books.pending, books.accepted) == (0, books.handled + books.failed + books.cancelled)

    run(main())


def test_tenants_on_the_same_hosts_do_not_meet() -> None:
    """Sessions of one name, at one host: each hears its own results only, and an interrupt ends its own run only."""

    async def main() -> None:
        engine = Engine(on_ray("tenants"))
        engine.pool("who", ["WHO"], hands.who)
        async with engine, engine.session("s", tenant="a") as one, engine.session("s", tenant="b") as other:
            for session in (one, other):
                await session.send_event("WHO", entity="e")
            assert (await said(one, "CUSTOM", "e"), await said(other, "CUSTOM", "e")) == (b"a", b"b")
            for session in (one, other):
                await session.send("go on")
                await said(session, "TEXT_MESSAGE_CONTENT")
            await one.interrupt()
            await said(one, "RUN_FINISHED")
            await eventually(lambda: engine.statistics()[0].pending == 1)
            await other.interrupt()
            await said(other, "RUN_FINISHED")

    run(main())


def test_what_is_told_later_is_placed_later() -> None:
    """A pool that is added to a running engine gets its host; its events wait meanwhile."""

    async def main() -> None:
        async with Engine(on_ray("later")) as engine, engine.session("s") as session:
            engine.pool("here", ["HERE"], hands.here)
            await session.send_event("HERE", entity="a")
            assert int(await said(session, "CUSTOM", "a")) != os.getpid()
            assert "host/here/0" in {member.name for member in engine.hosts}

    run(main())


def test_what_cannot_be_made_on_a_host_is_said_at_the_start() -> None:
    """A closure has no import path, unless its pool stays in this process; a lack of CPUs names them."""

    async def main() -> None:
        async def closure(event: Any, context: Any) -> bytes:
            return b"mine"

        engine = Engine(on_ray("closures"))
        engine.pool("own", ["OWN"], closure)
        with pytest.raises(ConfigError, match=r"handler of pool 'own'.*module level"):
            await engine.start()
        await engine.close()
        hungry = Engine(on_ray("hungry", cpus=200.0, ready_s=5.0))
        with pytest.raises(RuntimeUnavailable, match="200"):
            await hungry.start()
        await hungry.close()

    run(main())


def test_a_front_that_has_just_died_keeps_no_other_from_starting() -> None:
    """It is a member until its silence is noticed: nobody waits for it longer, whatever its store was."""

    async def main() -> None:
        placement = {"nlp": "driver", "tools": "driver"}
        config = on_ray("ghost", placement=placement, lost_s=2.0)
        left = RayCluster(config.runtime, owned=False)
        await left.open()
        ghost = Member("front/dead", new_incarnation(), FRONT, "127.0.0.1:1", version=laneway_version())
        await left.registry.beat(ghost, -1)
        async with Engine(config) as engine:
            assert engine.cluster is not None
            assert [member.name for member in engine.cluster.hosts] == [engine.cluster.name]
        await left.registry.end()
        await left.close()

    run(main())


def test_a_front_that_was_dropped_is_not_ready_until_it_has_begun_anew() -> None:
    """It says why meanwhile, and serves on as a new incarnation."""

    async def main() -> None:
        async with Engine(on_ray("anew")) as engine:
            cluster = engine.cluster
            assert cluster is not None
            assert cluster.trouble is None
            former = next(member for member in cluster.hosts if member.name == cluster.name)
            await cluster._ray.registry.leave(*former[:2])
            while (trouble := cluster.trouble) is None:  # noqa: ASYNC110 - it lasts a moment only
                await asyncio.sleep(0)
            assert trouble.code == "RUNTIME_UNAVAILABLE"
            while cluster.trouble is not None:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
            async with engine.session("s") as session:
                assert [event.kind async for event in session.ask("Hello")][-1] == "RUN_FINISHED"

    run(main())
