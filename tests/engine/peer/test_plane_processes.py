"""A host in another process that is killed, frozen, thawed, ended, or comes back."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from laneway.actors.hosts.peers import CANCEL, DELIVER
from laneway.engine.peer.policy import PeerPolicy
from laneway.routing.membership import POOL
from tests.engine.peer.stage import Recorder, host, member

PROGRAM = Path(__file__).with_name("host_process.py")
ROOT = Path(__file__).parents[3]
BEAT_S, LOST_S = 0.1, 1.0
QUICK = PeerPolicy(beat_s=BEAT_S, lost_s=LOST_S, backoff_base_s=0.02, backoff_cap_s=0.05)
PATIENT = PeerPolicy(beat_s=1, lost_s=60, backoff_base_s=0.02, backoff_cap_s=0.05)


class Host:
    """A running host: its address, its signals, what it says."""

    def __init__(self, process: Process, address: str, incarnation: str) -> None:
        self.process = process
        self.member = member("pool", address, incarnation=incarnation)

    async def line(self) -> str:
        return (await self.process.stdout.readline()).decode().strip()

    async def end(self) -> None:
        """End it as it is, frozen or not."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def in_process(
    name: str = "pool", incarnation: str = "1", *, policy: PeerPolicy = QUICK, follow: tuple[str, ...] = ()
) -> AsyncIterator[Host]:
    arguments = [name, incarnation, str(policy.beat_s), str(policy.lost_s), *follow]
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PROGRAM), *arguments, stdin=PIPE, stdout=PIPE, env={"PYTHONPATH": str(ROOT)}
    )
    running = Host(process, (await process.stdout.readline()).decode().strip(), incarnation)
    try:
        async with asyncio.timeout(60):
            yield running
    finally:
        await running.end()


async def _echo(recorder: Recorder, count: int) -> None:
    """Send so many messages on each stream and wait for all of them to come back in order."""
    recorder.messages.clear()
    for number in range(count):
        recorder.peers[-1].send((DELIVER, number, b"x" * 100))
        recorder.peers[-1].send((CANCEL, number, "because"), urgent=True)
    await recorder.until(lambda: len(recorder.messages) == 2 * count)
    for verb in (DELIVER, CANCEL):
        assert [message[1] for message in recorder.messages if message[0] == verb] == list(range(count))


def test_a_killed_host_is_lost_by_its_broken_connection() -> None:
    """SIGKILL is noticed through the transport, long before silence counts, and told once."""

    async def scenario() -> None:
        async with in_process(policy=PATIENT) as pool, host("front", policy=PATIENT) as (front, mine, _):
            front.follow([pool.member])
            await mine.until(lambda: mine.peers)
            await _echo(mine, 1_000)
            pool.process.kill()
            await mine.until(lambda: mine.losses)
            assert mine.losses[0][1].reason == "BROKEN"
            assert "host pool" in mine.losses[0][1].message
            assert len(mine.losses) == 1

    asyncio.run(scenario())


def test_a_frozen_host_is_lost_by_its_silence_and_stays_lost() -> None:
    """SIGSTOP is no news for TCP: heartbeats tell. Thawed, the host finds the old connection over too."""

    async def scenario() -> None:
        async with in_process() as pool, host("front", policy=QUICK) as (front, mine, _):
            front.follow([pool.member])
            await mine.until(lambda: mine.peers)
            await _echo(mine, 10)
            assert await pool.line() == "connected front"
            pool.process.send_signal(signal.SIGSTOP)
            await mine.until(lambda: mine.losses)
            old, error = mine.losses[0]
            assert error.reason == "SILENT"
            assert "host pool was silent for" in error.message
            pool.process.send_signal(signal.SIGCONT)
            assert (await pool.line()).startswith("lost front HOST_LOST")
            assert await pool.line() == "connected front"
            await mine.until(lambda: len(mine.peers) == 2)
            await _echo(mine, 10)
            assert not old.alive
            assert [peer for peer, _ in mine.losses] == [old]

    asyncio.run(scenario())


def test_a_frozen_host_that_is_no_member_any_more_stays_out() -> None:
    """Dropped while it was frozen, it is not connected again when it thaws: others have taken over."""

    async def scenario() -> None:
        async with (
            in_process() as pool,
            in_process("pool", "2") as second,
            host("front", policy=QUICK) as (front, mine, _),
        ):
            front.follow([pool.member])
            await mine.until(lambda: mine.peers)
            assert await pool.line() == "connected front"
            pool.process.send_signal(signal.SIGSTOP)
            front.follow([second.member])
            await mine.until(lambda: len(mine.peers) == 2)
            pool.process.send_signal(signal.SIGCONT)
            assert (await pool.line()).startswith("lost front HOST_LOST")
            await _echo(mine, 10)
            assert [peer.incarnation for peer in mine.peers] == ["1", "2"]
            assert mine.told == [("connected", "1"), ("lost", "1"), ("connected", "2")]

    asyncio.run(scenario())


def test_a_host_that_ends_says_so() -> None:
    """An orderly end is told as such, and the next life is found under its new address."""

    async def scenario() -> None:
        async with host("front", policy=QUICK) as (front, mine, _):
            async with in_process() as pool:
                front.follow([pool.member])
                await mine.until(lambda: mine.peers)
                pool.process.stdin.close()
                await mine.until(lambda: mine.losses)
                assert mine.losses[0][1].reason == "CLOSED", mine.losses[0][1].message
                assert "host pool shuts down" in mine.losses[0][1].message
                assert await pool.process.wait() == 0
            async with in_process("pool", "2") as pool:
                front.follow([pool.member])
                await mine.until(lambda: len(mine.peers) == 2)
                assert mine.peers[1].incarnation == "2"
                await _echo(mine, 10)

    asyncio.run(scenario())


@pytest.mark.parametrize(("how", "reason"), [(signal.SIGKILL, "BROKEN"), (signal.SIGSTOP, "SILENT")])
def test_a_front_that_dies_is_lost_to_its_in_process(how: signal.Signals, reason: str) -> None:
    """The accepting side notices a dead or frozen dialler as well; a thawed one dials anew."""
    policy = PATIENT if how == signal.SIGKILL else QUICK

    async def scenario() -> None:
        async with (
            host("pool", role=POOL, policy=policy) as (_, mine, address),
            in_process("front", policy=policy, follow=("pool", address)) as front,
        ):
            await mine.until(lambda: mine.peers)
            await _echo(mine, 10)
            front.process.send_signal(how)
            await mine.until(lambda: mine.losses)
            assert mine.losses[0][1].reason == reason
            if how == signal.SIGSTOP:
                front.process.send_signal(signal.SIGCONT)
                await mine.until(lambda: len(mine.peers) == 2)
                await _echo(mine, 10)
            assert len(mine.losses) == 1

    asyncio.run(scenario())
