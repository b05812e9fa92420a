"""Hosts on a real local Ray, started once for this module."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.runtime.beats import Beats
from laneway.engine.runtime.lives import new_incarnation
from laneway.engine.runtime.named_actor import NamedActor
from laneway.engine.runtime.ray_cluster import RayCluster
from laneway.engine.runtime.ray_host import laneway_version
from laneway.engine.runtime.registry import REGISTRY, Registry, namespace_of
from laneway.engine.sections import RuntimeConfig
from laneway.routing.errors import ConfigError, LanewayError, RuntimeUnavailable
from laneway.routing.membership import FRONT, Member, View
from tests.e2e.serving import COMMAND, clean_environment

LODGER = "tests.engine.runtime.lodgers:Lodger"
WITHIN_S = 150.0
"""Hosts come up slowly on a busy machine; nothing is asserted about how long it took."""


class Front:
    """What a front does with its cluster: it beats, and waits for views."""

    def __init__(self, cluster: RayCluster, name: str = "front/a", version: str | None = None) -> None:
        own = Member(name, new_incarnation(), FRONT, "127.0.0.1:1", version=version or laneway_version())
        self.views: list[View] = []
        self.errors: list[LanewayError] = []
        self.changed = asyncio.Event()
        self.beats = Beats(cluster.registry, own, cluster.terms, saw=self._saw, over=self._over)

    def _saw(self, view: View) -> None:
        self.views.append(view)
        self.changed.set()

    def _over(self, error: LanewayError) -> None:
        self.errors.append(error)
        self.changed.set()

    async def until(self, holds: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    def member(self, name: str) -> Member | None:
        return next((member for member in self.beats.view.members if member.name == name), None)


@contextlib.asynccontextmanager
async def joined(name: str, **settings: Any) -> AsyncIterator[tuple[RayCluster, Front]]:
    """An owned cluster of its own name, with a front that beats; a busy machine costs nobody."""
    patient = {"beat_s": 0.2, "lost_s": 5.0, "ready_s": 120.0}
    cluster = RayCluster(RuntimeConfig(kind="ray", cluster=name, **{**patient, **settings}))
    await cluster.open()
    front = Front(cluster)
    front.beats.start()
    try:
        yield cluster, front
    finally:
        await front.beats.close()
        await cluster.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(200):
            await main

    asyncio.run(bounded())


async def gone(pid: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while Path(f"/proc/{pid}").exists():  # noqa: ASYNC110, ASYNC240 - it tells nobody, and looking takes no time
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("ray_address")
def test_hosts_are_placed_answer_and_are_gone_at_the_end() -> None:
    """Each in a process of its own, at normal priority, with the cluster's secret; at the end nothing is left."""

    async def main() -> None:
        async with joined("placed") as (cluster, front):
            names = await cluster.spawn("nlp", 2, LODGER, b"0")
            assert names == ["host/nlp/0", "host/nlp/1"]
            members = await cluster.ready(names)
            assert {member.pools for member in members} == {("nlp",)}
            pids = {member.pid for member in members}
            assert len(pids | {os.getpid()}) == 3
            await front.until(lambda: {"front/a", *names} <= {member.name for member in front.beats.view.members})
            told = await cluster.statistics(names[0])
            assert (told["state"], told["load"], told["nice"], told["spec"]) == ("ready", 0.25, 0, b"0")
            assert told["frozen"], "what Ray has loaded is not collected again and again"
            assert told["secret"] == cluster.terms.secret
            assert len(told["secret"]) == 64
            again = await cluster.spawn("nlp", 2, LODGER, b"0")
            assert again == names, "what runs is found, not made again"
            with pytest.raises(ConfigError, match="laneway cluster stop"):
                await cluster.spawn("nlp", 2, LODGER, b"other")
        for pid in pids:
            await gone(pid)
        connection = RayCluster(RuntimeConfig(kind="ray", cluster="placed"))
        assert await connection.hosts() == []
        with pytest.raises(RuntimeUnavailable, match="none was started there"):
            await connection.open(create=False)

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_a_killed_host_heals_by_itself() -> None:
    """A new incarnation at a new address is in everybody's view; nobody did anything for it."""

    async def main() -> None:
        async with joined("healed") as (cluster, front):
            (former,) = await cluster.ready(await cluster.spawn("nlp", 1, LODGER, b"0"))
            await front.until(lambda: front.member(former.name))
            os.kill(former.pid, signal.SIGKILL)
            await front.until(lambda: (front.member(former.name) or former).incarnation != former.incarnation)
            healed = front.member(former.name)
            assert healed is not None
            assert healed.address != former.address
            assert healed.pid != former.pid
            assert (await cluster.ready([former.name])) == [healed]

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_a_stopped_host_is_dropped_and_begins_anew() -> None:
    """A process that hung longer than lost_s takes a new incarnation in place, and its program starts again."""

    async def main() -> None:
        async with joined("dropped", lost_s=2.0) as (cluster, front):
            (former,) = await cluster.ready(await cluster.spawn("nlp", 1, LODGER, b"0"))
            await front.until(lambda: front.member(former.name))
            os.kill(former.pid, signal.SIGSTOP)
            try:
                await front.until(lambda: front.member(former.name) is None)
            finally:
                os.kill(former.pid, signal.SIGCONT)
            await front.until(lambda: front.member(former.name))
            now = front.member(former.name)
            assert now is not None
            assert now.incarnation != former.incarnation
            assert now.pid == former.pid

    run(main())


@pytest.mark.usefixtures("ray_address")
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("nowhere.at_all:Program", "no module nowhere"),
        ("tests.engine.runtime.lodgers:Missing", "has no Missing"),
        ("tests.engine.runtime.lodgers:not_a_program", "cannot be called"),
        ("tests.engine.runtime.lodgers:Misconfigured", "choose another"),
    ],
)
def test_a_program_that_cannot_start_is_a_config_error(program: str, words: str) -> None:
    """It names host, node and cause; the host that failed is ended, and Ray does not try for ever."""

    async def main() -> None:
        async with joined("failing") as (cluster, _):
            names = await cluster.spawn("nlp", 1, program, b"")
            with pytest.raises(ConfigError, match=f"host host/nlp/0 on node .*{words}"):
                await cluster.ready(names)
            assert await cluster.hosts() == []

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_a_program_that_takes_its_process_along_is_told_and_ended() -> None:
    """Ray would start it again for ever."""

    async def main() -> None:
        async with joined("dying") as (cluster, _):
            names = await cluster.spawn("nlp", 1, "tests.engine.runtime.lodgers:Dying", b"")
            with pytest.raises(RuntimeUnavailable, match=r"host/nlp/0 .* does not answer"):
                await cluster.ready(names)
            assert await cluster.hosts() == []

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_hosts_that_ray_cannot_place_are_told_with_what_it_has() -> None:
    """After ready_s, with the demand, the resources and the fix; nothing stays pending."""

    async def main() -> None:
        async with joined("pending", cpus=64, ready_s=1.0) as (cluster, _):
            names = await cluster.spawn("nlp", 2, LODGER, b"0")
            with pytest.raises(RuntimeUnavailable) as told:
                await cluster.ready(names)
            for words in ("host/nlp/0, host/nlp/1", "CPU 64", "together 128", "has CPU 4", "runtime.cpus"):
                assert words in told.value.message
            assert await cluster.hosts() == []

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_a_pool_is_scaled_both_ways() -> None:
    """New hosts are made like the others, surplus ones are drained before they are stopped."""

    async def main() -> None:
        async with joined("scaled") as (cluster, front):
            await cluster.ready(await cluster.spawn("nlp", 1, LODGER, b"0"))
            assert await cluster.scale("nlp", 2, drain_s=5.0) == ["host/nlp/0", "host/nlp/1"]
            await front.until(lambda: front.member("host/nlp/1"))
            assert (await cluster.statistics("host/nlp/1"))["spec"] == b"0"
            assert await cluster.scale("nlp", 1, drain_s=5.0) == ["host/nlp/0"]
            await front.until(lambda: front.member("host/nlp/1") is None)
            assert await cluster.hosts("nlp") == ["host/nlp/0"]
            with pytest.raises(RuntimeUnavailable, match="pool other has no hosts"):
                await cluster.scale("other", 1, drain_s=5.0)
            with pytest.raises(RuntimeUnavailable, match="no host host/nlp/7"):
                await cluster.drain("host/nlp/7", drain_s=5.0)

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_a_killed_registry_comes_back_with_its_secret_and_calls_nobody_lost() -> None:
    """Hosts beat again, and no view in between lacks one. One that is gone for good is made anew by a front."""

    async def main() -> None:
        import ray

        async with joined("registry", lost_s=2.0) as (cluster, front):
            (host,) = await cluster.ready(await cluster.spawn("nlp", 1, LODGER, b"0"))
            await front.until(lambda: front.member(host.name) and front.beats.view.settled)
            handle = ray.get_actor(REGISTRY, namespace=namespace_of("registry"))
            for no_restart in (False, True):
                seen = len(front.views)
                await asyncio.to_thread(ray.kill, handle, no_restart=no_restart)
                await front.until(lambda begin=seen: any(view.settled for view in front.views[begin:]))
                for view in front.views[seen:]:
                    assert [member.name for member in view.members] == ["front/a", host.name]
                assert front.member(host.name) == host, "its incarnation goes on"
                assert (await cluster.registry.admit()).secret == cluster.terms.secret
            assert front.errors == []

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_another_version_of_laneway_is_refused() -> None:
    """When it joins and when it beats, with a sentence."""

    async def main() -> None:
        async with joined("versions") as (cluster, _):
            with pytest.raises(ConfigError, match="same version everywhere"):
                await Registry("versions", "0.0.9").admit()
            stranger = Front(cluster, "front/old", version="0.0.9")
            stranger.beats.start()
            await stranger.until(lambda: stranger.errors)
            assert isinstance(stranger.errors[0], ConfigError)
            assert stranger.views == []
            await stranger.beats.close()

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_what_is_not_there_or_does_not_answer_in_time_is_a_typed_error() -> None:
    """With a reason that says which; ending what is not there is no error."""

    async def main() -> None:
        nobody = NamedActor("nobody", "laneway/nowhere")
        with pytest.raises(RuntimeUnavailable) as told:
            await nobody.call("ready", timeout_s=5.0)
        assert told.value.reason == "ABSENT"
        assert not await nobody.exists()
        await nobody.end(within_s=1.0)
        async with joined("slow") as (_, front):
            await front.until(lambda: front.beats.view.settled)
            held = NamedActor(REGISTRY, namespace_of("slow"))
            with pytest.raises(RuntimeUnavailable) as late:
                await held.call("beat", tuple(front.beats._member), front.beats.view.number, timeout_s=0.02)
            assert late.value.reason == "TIMEOUT"

    run(main())


def test_what_ray_raises_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps hosts goes on keeping them, and a close goes on closing."""

    def away(namespace: str) -> list[str]:
        raise OSError("the head of the cluster is away")

    async def main() -> None:
        cluster = RayCluster(RuntimeConfig(kind="ray", cluster="away"))
        monkeypatch.setattr("laneway.engine.runtime.ray_cluster._named_actors", away)
        with pytest.raises(RuntimeUnavailable, match="OSError: the head of the cluster is away"):
            await cluster.hosts()
        cluster._made.add("host/nlp/0")

        async def hangs() -> None:
            raise TimeoutError

        monkeypatch.setattr(cluster._connection, "close", hangs)
        await cluster.close()

    run(main())


def test_every_host_is_drained_whatever_the_others_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has gone meanwhile has ended; one that does not end is told when all others have."""
    ended: list[str] = []

    async def drain(self: RayCluster, name: str, *, drain_s: float) -> bool:
        if name.endswith("/0"):
            raise RuntimeUnavailable("it has gone", reason="ABSENT")
        if name.endswith("/1"):
            raise RuntimeUnavailable("its name is still taken", reason="TIMEOUT")
        await asyncio.sleep(0)
        ended.append(name)
        return True

    async def main() -> None:
        cluster = RayCluster(RuntimeConfig(kind="ray", cluster="drained"))
        monkeypatch.setattr(RayCluster, "drain", drain)
        await cluster._drain_all(["host/nlp/0", "host/nlp/2"], 1.0)
        with pytest.raises(RuntimeUnavailable, match="still taken"):
            await cluster._drain_all([f"host/nlp/{number}" for number in range(4)], 1.0)
        assert ended == ["host/nlp/2", "host/nlp/2", "host/nlp/3"]

    run(main())


@pytest.mark.usefixtures("ray_address")
def test_control_calls_are_answered_while_the_program_keeps_its_loop_busy(tmp_path: Path) -> None:
    """What needs the loop says that it does not turn, for as long as it does not."""
    held = tmp_path / "held"

    async def main() -> None:
        async with joined("busy") as (cluster, _):
            (name,) = await cluster.spawn("nlp", 1, "tests.engine.runtime.lodgers:Busy", str(held).encode())
            await cluster.ready([name])
            held.touch()
            try:
                while (await cluster.statistics(name))["state"] != "busy":  # it looks for the file in its own time
                    pass
            finally:
                held.unlink()
            while (await cluster.statistics(name))["state"] == "busy":
                pass

    run(main())


def test_an_operator_looks_scales_drains_and_stops(ray_address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`laneway cluster`, on hosts that a server left running; also from another process."""
    monkeypatch.setenv("COLUMNS", "200")

    def ask(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, ["cluster", *arguments, "--cluster", "operated"])
        assert result.exit_code == code, result.output
        return result.output

    async def main() -> None:
        config = RuntimeConfig(kind="ray", cluster="operated", beat_s=0.2, lost_s=5.0, ready_s=120.0)
        left = RayCluster(config, owned=False)
        await left.open()
        await left.ready(await left.spawn("nlp", 1, LODGER, b"0"))
        await left.close()
        again = RayCluster(config, owned=False)
        await again.open()
        front = Front(again)
        front.beats.start()
        await front.until(lambda: front.member("host/nlp/0"))

        status = await asyncio.create_subprocess_exec(
            *COMMAND, "cluster", "status", "--cluster", "operated", "--address", ray_address, "--json",
            stdout=subprocess.PIPE, env=clean_environment(RAY_AUTH_MODE="token"),
        )  # fmt: skip
        out, _ = await status.communicate()
        rows = {row["name"]: row for row in json.loads(out)}
        assert status.returncode == 0
        assert set(rows) == {"front/a", "host/nlp/0"}
        assert rows["host/nlp/0"]["load"] == "25%"
        assert rows["host/nlp/0"]["state"] == "ready"
        pid = rows["host/nlp/0"]["pid"]

        assert "host/nlp/1" in await asyncio.to_thread(ask, "scale", "nlp", "2")
        assert "has drained" in await asyncio.to_thread(ask, "drain", "host/nlp/1")
        table = await asyncio.to_thread(ask, "status")
        assert "host/nlp/0" in table
        assert "host/nlp/1" not in table
        failing = await again.spawn("bad", 1, "tests.engine.runtime.lodgers:Misconfigured", b"")
        with pytest.raises(ConfigError):
            await again._ready(failing[0])
        assert "choose another" in await asyncio.to_thread(ask, "status", code=1)

        assert "2 hosts have ended" in await asyncio.to_thread(ask, "stop", "--drain-s", "1")
        await front.until(lambda: front.errors)
        assert front.errors[0].code == "DRAINING"
        await gone(pid)
        assert "none was started there" in await asyncio.to_thread(ask, "status", code=1)
        await front.beats.close()
        await again.close()

    run(main())
