"""The real thing on one machine: Redis, Ray, pool hosts, two fronts that are processes of `laneway serve`.

Law of this file: every process is started here and ended by its own id; a front keeps its ports through its
lives, so that clients know both from the beginning. What a fault needs to know (who lives, with which pid,
where a session is at home) is asked of the cluster itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from laneway import Config, Engine
from laneway.actors.homes.deeds import Deeds
from laneway.actors.sessions.session import session_key
from laneway.engine.app.choices import choose_store
from laneway.engine.runtime.ray_cluster import RayCluster
from laneway.routing.membership import FRONT, POOL, Member
from tests.chaos.ledger import Ledger
from tests.chaos.nodes import Nodes
from tests.chaos.work import LEDGER, set_up
from tests.e2e.serving import COMMAND, clean_environment, listening
from tests.ports import held_ports
from tests.redis_server import DURABLE, RedisServer, redis_server

__all__ = ["BEAT_S", "LOST_S", "FrontProcess", "Stage", "staged", "until"]

BEAT_S: Final = 0.25
LOST_S: Final = 2.5
_READY_S: Final = 150.0
_LOOK_S: Final = 0.05
_SETTINGS: Final = """
[runtime]
kind = "ray"
cluster = "chaos"
address = "{address}"
beat_s = {beat_s}
lost_s = {lost_s}
cpus = 0.1
ready_s = 120
[runtime.hosts]
work = 2
[nlp]
model = "tests.chaos.work:Scripted"
[store]
url = "{store}"
[limits]
drain_s = 3
"""


async def until(holds: Callable[[], object], what: str, within_s: float = 60.0) -> None:
    """Look again and again until something holds. Raises AssertionError that names it."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(_LOOK_S)


class FrontProcess:
    """One front: a process of `laneway serve`, started as often as it is killed.

    Attributes:
        grpc, http: its ports. log: what it says on stderr, through all lives.
    """

    def __init__(self, name: str, folder: Path, settings: Path, ports: tuple[int, int]) -> None:
        self.name = name
        self.grpc, self.http = ports
        self.log = folder / f"{name}.log"
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, environment: Mapping[str, str] | None = None) -> None:
        """Start it, and return once it listens."""
        ports = ("--grpc", f"127.0.0.1:{self.grpc}", "--http", f"127.0.0.1:{self.http}")
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, "serve", "--config", str(self._settings), *ports, "--setup", "tests.chaos.work:set_up",
                stdout=asyncio.subprocess.PIPE, stderr=log, env=clean_environment(**environment or {}),
            )  # fmt: skip
        assert self._process.stdout is not None
        async with asyncio.timeout(_READY_S):
            line = (await self._process.stdout.readline()).decode()
        assert listening(line)[0], f"{self.name} does not start:\n{self.said()[-4000:]}"

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone. Idempotent."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGCONT)
                self._process.kill()
            await self._process.wait()

    def said(self) -> str:
        """Return its logs so far, of all its lives."""
        return self.log.read_text()

    async def metrics(self) -> dict[str, float]:
        """Return its metrics, name with labels -> value."""
        body = await asyncio.to_thread(_get, f"http://127.0.0.1:{self.http}/metrics")
        rows = (line.rsplit(" ", 1) for line in body.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in rows}


class Stage:
    """All of it; made by `staged`."""

    def __init__(self, folder: Path, redis: RedisServer, nodes: Nodes, ledger: Ledger, ports: Sequence[int]) -> None:
        self.folder = folder
        self.redis = redis
        self.nodes = nodes
        self.ledger = ledger
        settings = folder / "laneway.toml"
        fields = {"address": nodes.address, "store": redis.url, "beat_s": BEAT_S, "lost_s": LOST_S}
        settings.write_text(_SETTINGS.format(**fields))
        self.config = Config.load(settings, environ={})
        self.fronts = [
            FrontProcess("front-a", folder, settings, (ports[0], ports[1])),
            FrontProcess("front-b", folder, settings, (ports[2], ports[3])),
        ]
        self.cluster = RayCluster(self.config.runtime, owned=False)
        self.store = choose_store(self.config, None)
        engine = Engine(self.config)
        set_up(engine)
        self.kinds = engine.kinds

    async def start(self) -> None:
        """Start the fronts, which place the pool hosts; those outlive every front."""
        await self.store.open()
        await asyncio.gather(*(front.start() for front in self.fronts))
        await self.cluster.open(create=False)

    async def close(self) -> None:
        """End the fronts, and the hosts."""
        await asyncio.gather(*(front.kill() for front in self.fronts))
        await self.store.close()
        with contextlib.suppress(Exception):  # Ray is ended behind it, and its hosts with it
            await self.cluster.stop(drain_s=0.0)
        await self.cluster.close()

    # -- looking ------------------------------------------------------------------------------

    async def members(self) -> list[Member]:
        """Who the registry says lives."""
        return [member for member, _ in (await self.cluster.registry.roll()).heard]

    async def host(self, pool: str) -> Member:
        """The first host of a pool."""
        return next(m for m in await self.members() if m.role == POOL and pool in m.pools)

    async def front_of(self, session: str) -> FrontProcess | None:
        """Where a session is at home, as the store has it on record; None if nobody who lives is."""
        _, deed = await Deeds(self.store).read(session_key("default", session))
        pids = {member.name: member.pid for member in await self.members() if member.role == FRONT}
        pid = pids.get(deed.life.name) if deed is not None else None
        return next((front for front in self.fronts if front.alive and front.pid == pid), None)

    def generation_of(self, session: str) -> int:
        """How often a session's log was claimed."""
        told = self.redis.command("HGET", f"laneway:{{{session_key('default', session)}}}", "generation")
        return int(told.split(b"\r\n")[1])

    async def whole(self) -> None:
        """Start what is dead, and wait until every front and every pool host is a member again."""
        await asyncio.gather(*(front.start() for front in self.fronts if not front.alive))
        wanted = len(self.fronts) + 4
        end = time.monotonic() + _READY_S
        while True:
            with contextlib.suppress(Exception):  # the registry may be on its way back, too
                if len(await self.members()) == wanted:
                    return
            assert time.monotonic() < end, f"the cluster is not whole again: {await self.members()}"
            await asyncio.sleep(_LOOK_S)


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """A stage that runs; everything ends with the block."""
    ledger = Ledger(folder / "ledger")
    paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), LEDGER: str(ledger.path)}
    with (
        held_ports(4) as ports,
        redis_server(folder / "redis", *DURABLE, "--auto-aof-rewrite-percentage", "0") as redis,
    ):
        async with Nodes(str(folder / "ray"), **paths) as nodes:
            stage = Stage(folder, redis, nodes, ledger, ports)
            try:
                await stage.start()
                yield stage
            finally:
                await stage.close()


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        body: bytes = answer.read()
        return body.decode()
