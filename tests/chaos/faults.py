"""The faults, each of which proves that it happened.

Law of this file: a fault does one thing to real processes, at once, and returns how often it was seen to have
happened; one that did not happen raises. What it broke for good is started again by the round.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from laneway.engine.runtime.registry import REGISTRY, namespace_of
from laneway.routing.membership import Member
from tests.chaos.sockets import cut
from tests.chaos.stage import LOST_S, FrontProcess, Stage, until

__all__ = ["FAULTS", "Fault", "Strike"]

_AWAY_S: Final = 3.0
_SEEN_S: Final = 100.0


@dataclass(slots=True)
class Strike:
    """What a fault is given.

    Attributes:
        stage: to strike at. session: one that is loaded. scale: 1 for the long form; pauses are shortened by it.
        alone: no other fault is made at the same time.
    """

    stage: Stage
    session: str
    scale: float = 1.0
    alone: bool = True

    async def home(self) -> FrontProcess:
        """The front where the session is at home."""
        front = await self.stage.front_of(self.session)
        assert front is not None, f"{self.session} has no home"
        return front

    def pause_s(self, long_s: float, least_s: float) -> float:
        """A pause, at least so long that the fault is one."""
        return max(least_s, long_s * self.scale)


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table.

    Attributes:
        strike: does it; returns how often it was seen to have happened.
        repeats: hosts are lost, so that jobs may be done again.
        moves: sessions get another home.
        probe: what shows that it healed: "JOB", or "RUN" where runs are what it breaks.
        environment: what fronts are started with for it.
    """

    name: str
    strike: Callable[[Strike], Awaitable[int]]
    repeats: bool = True
    moves: bool = False
    probe: str = "JOB"
    environment: Mapping[str, str] = field(default_factory=dict)


async def _host_killed(strike: Strike, pool: str) -> int:
    """kill -9 of a pool host: its process is gone, and another life of it is a member."""
    host = await strike.stage.host(pool)
    os.kill(host.pid, signal.SIGKILL)
    await until(lambda: _gone(host.pid), f"{host.name} ({host.pid}) is gone")
    await _lives_anew(strike.stage, host)
    return 1


async def work_killed(strike: Strike) -> int:
    return await _host_killed(strike, "work")


async def tools_killed(strike: Strike) -> int:
    return await _host_killed(strike, "tools")


async def nlp_killed(strike: Strike) -> int:
    return await _host_killed(strike, "nlp")


async def work_frozen(strike: Strike) -> int:
    """SIGSTOP of a pool host for longer than lost_s: it is dropped, and begins anew when it wakes."""
    host = await strike.stage.host("work")
    os.kill(host.pid, signal.SIGSTOP)
    try:
        await _member_no_more(strike.stage, host)
        await asyncio.sleep(strike.pause_s(5.0, LOST_S))
        assert _state(host.pid) == "T", f"{host.name} is not stopped"
    finally:
        os.kill(host.pid, signal.SIGCONT)
    await _lives_anew(strike.stage, host)
    return 1


async def front_killed(strike: Strike) -> int:
    """kill -9 of the front where a session is at home; its clients go on at the other one."""
    front = await strike.home()
    pid = front.pid
    await front.kill()
    assert _gone(pid)
    return 1


async def front_frozen(strike: Strike) -> int:
    """SIGSTOP of a home's front for 10 s: others take its sessions over, and it wakes as nobody's home."""
    stage = strike.stage
    front, before = await strike.home(), stage.generation_of(strike.session)
    front.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(strike.pause_s(10.0, 2.0 * LOST_S))
        await until(lambda: stage.generation_of(strike.session) > before, "its session is taken over", _SEEN_S)
        assert _state(front.pid) == "T", "it is not stopped"
    finally:
        front.signal(signal.SIGCONT)
    return 1


async def node_killed(strike: Strike) -> int:
    """kill -9 of a raylet and all of its node; its hosts are placed on the other one."""
    before = {member.name: member for member in await strike.stage.members()}
    pid = await strike.stage.nodes.kill()
    assert _gone(pid)
    moved = [member for member in before.values() if member.address.startswith("127.0.0.3")]
    assert moved or not strike.alone, f"the node carried nothing: {before}"
    for member in moved:
        await _lives_anew(strike.stage, member)
    await strike.stage.nodes.add()
    return max(1, len(moved))


async def registry_killed(strike: Strike) -> int:
    """kill -9 of the registry's process; Ray makes it again, and nobody is taken for lost meanwhile."""
    import ray

    before = {(member.name, member.incarnation) for member in await strike.stage.members()}
    actor = await asyncio.to_thread(ray.get_actor, REGISTRY, namespace=namespace_of("chaos"))
    restarts = await asyncio.to_thread(_restarts, actor)
    await asyncio.to_thread(ray.kill, actor, no_restart=False)
    end = time.monotonic() + _SEEN_S
    while (fired := await asyncio.to_thread(_restarts, actor) - restarts) < 1:
        assert time.monotonic() < end, "Ray has not restarted it"
        await asyncio.sleep(0.1)
    while True:
        with contextlib.suppress(Exception):  # it does not answer while it restarts
            roll = await strike.stage.cluster.registry.roll()
            after = {(member.name, member.incarnation) for member, _ in roll.heard}
            if roll.settled and (after == before or not strike.alone):
                break
        assert time.monotonic() < end, "the registry does not come back with the same members"
        await asyncio.sleep(0.1)
    return fired


async def redis_killed(strike: Strike) -> int:
    """kill -9 of Redis, and again on the same files."""
    redis = strike.stage.redis
    before = _uptime(redis.command("INFO", "server"))
    await asyncio.to_thread(redis.kill)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(redis.start)
    after = _uptime(redis.command("INFO", "server"))
    assert after != before, "it is the same process"
    return 1


async def redis_away(strike: Strike) -> int:
    """Redis answers nothing for 3 s."""
    redis = strike.stage.redis
    redis.freeze()
    try:
        await asyncio.sleep(_AWAY_S)
        assert _state(redis.pid) == "T", "it is not stopped"
    finally:
        redis.freeze(False)
    return 1


async def connection_cut(strike: Strike) -> int:
    """The connections between a front and a pool host are reset."""
    host = await strike.stage.host("work")
    port = int(host.address.rpartition(":")[2])
    front = await strike.home()
    fired = 0
    for _ in range(3):
        fired += await asyncio.to_thread(cut, front.pid, port)
        await asyncio.sleep(0.5)
    assert fired, f"no connection from {front.name} to {host.name}"
    return fired


async def ray_fails(strike: Strike) -> int:
    """Ray's own failures of its calls, in the front that was started with them."""
    front = strike.stage.fronts[1]
    before = front.said().count(_UNANSWERED)
    await asyncio.sleep(strike.pause_s(8.0, 3.0))
    fired = front.said().count(_UNANSWERED) - before
    assert fired, "no call of Ray failed in it"
    return fired


_UNANSWERED: Final = "the registry does not answer"
_FAILURES: Final = (
    '{"CoreWorkerService.grpc_client.PushTask":'
    '{"num_failures":-1,"req_failure_prob":10,"resp_failure_prob":10,"in_flight_failure_prob":0}}'
)

FAULTS: Final[tuple[Fault, ...]] = (
    Fault("work host killed", work_killed),
    Fault("tools host killed", tools_killed, probe="RUN"),
    Fault("nlp host killed", nlp_killed, probe="RUN"),
    Fault("work host frozen", work_frozen),
    Fault("home's front killed", front_killed, moves=True),
    Fault("home's front frozen", front_frozen, moves=True),
    Fault("node killed", node_killed),
    Fault("registry killed", registry_killed, repeats=False),
    Fault("redis killed", redis_killed, repeats=False),
    Fault("redis away", redis_away, repeats=False),
    Fault("connection cut", connection_cut),
    Fault("ray's calls fail", ray_fails, environment={"RAY_testing_rpc_failure": _FAILURES}),
)


async def _lives_anew(stage: Stage, host: Member) -> None:
    end = time.monotonic() + _SEEN_S
    while True:
        with contextlib.suppress(Exception):  # the registry may have been on the same node
            found = [member for member in await stage.members() if member.name == host.name]
            if found and found[0].incarnation != host.incarnation:
                return
        assert time.monotonic() < end, f"{host.name} does not come back"
        await asyncio.sleep(0.1)


async def _member_no_more(stage: Stage, host: Member) -> None:
    end = time.monotonic() + _SEEN_S
    while any(member.incarnation == host.incarnation for member in await stage.members()):
        assert time.monotonic() < end, f"{host.name} is not dropped"
        await asyncio.sleep(0.1)


def _gone(pid: int) -> bool:
    return _state(pid) in ("", "Z", "X")


def _state(pid: int) -> str:
    """The letter of a process's state; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _restarts(actor: object) -> int:
    import ray._private.state

    told = ray._private.state.actors(actor._actor_id.hex())  # type: ignore[attr-defined]
    return int(told["NumRestarts"])


def _uptime(info: bytes) -> bytes:
    return next(line for line in info.splitlines() if line.startswith(b"run_id:"))
