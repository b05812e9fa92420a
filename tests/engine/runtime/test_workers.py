"""Worker processes against real misbehaviour: the X1 rows, and what must not leak."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from laneway.engine.runtime.worker import _believable
from laneway.engine.runtime.workers import WorkerLimits, WorkerPool
from laneway.routing.errors import ConfigError, ToolCrashed, ToolDenied, ToolError, ToolTimeout, ToolUnavailable

ROGUE = Path(__file__).with_name("rogue_tools.py")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel layers are Linux's")


def target(name: str) -> str:
    return f"{ROGUE}:{name}"


def with_pool(check: Callable[[WorkerPool], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        pool = WorkerPool(**options)
        try:
            await check(pool)
        finally:
            await pool.close()
        assert pool.statistics() == {"idle": 0, "busy": 0, "waiting": 0}

    asyncio.run(main())


async def run(pool: WorkerPool, name: str, timeout_s: float = 30.0, **arguments: Any) -> Any:
    return json.loads(await pool.run(target(name), arguments, timeout_s=timeout_s))


async def until(happened: Callable[[], bool]) -> None:
    for _ in range(10_000_000):
        if happened():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_callable_runs_in_another_process_that_stays_warm() -> None:
    """The value comes back as JSON, printing does not disturb it, and the next call meets the same process."""

    async def check(pool: WorkerPool) -> None:
        assert await run(pool, "add", a=1) == 3
        assert await run(pool, "printing") == "kept apart"
        first, second = await run(pool, "pid"), await run(pool, "pid")
        assert first == second != os.getpid()

    with_pool(check, size=1)


def test_an_importable_target_needs_no_path() -> None:
    """`module:qualname` is imported in the worker, dotted names too."""

    async def check(pool: WorkerPool) -> None:
        assert json.loads(await pool.run("json:dumps", {"obj": [1]}, timeout_s=30)) == "[1]"

    with_pool(check)


def test_convert_gives_the_callable_its_annotated_types() -> None:
    """With convert, a JSON string becomes a date before the call."""

    async def check(pool: WorkerPool) -> None:
        value = await pool.run(target("weekday"), {"day": "2026-11-21"}, timeout_s=30, convert=True)
        assert json.loads(value) == "Saturday"

    with_pool(check)


@LINUX
def test_nothing_is_inherited() -> None:
    """No environment variable and no descriptor but the protocol's own reach the callable."""

    async def check(pool: WorkerPool) -> None:
        inherited = await run(pool, "environment")
        assert set(inherited) <= {"LC_CTYPE"}  # the interpreter's own
        opened = [
            name for name in await run(pool, "descriptors") if not name.startswith(("pipe:", "socket:", "/proc/"))
        ]
        assert opened == []

    with_pool(check)


def test_an_endless_loop_is_killed_at_its_deadline_and_the_pool_goes_on() -> None:
    """X1: endless loop -> TOOL_TIMEOUT; its process is gone; the next call works."""

    async def check(pool: WorkerPool) -> None:
        victim = await run(pool, "pid")
        with pytest.raises(ToolTimeout):
            await run(pool, "spin", timeout_s=0.5)
        assert await run(pool, "add", a=1) == 3
        await pool.close()
        assert gone(victim)

    with_pool(check, size=1)


@LINUX
def test_processor_time_is_limited_per_call() -> None:
    """X1: an endless loop with a far deadline ends by its processor time, with reason CPU_LIMIT."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolTimeout) as caught:
            await run(pool, "spin")
        assert caught.value.reason == "CPU_LIMIT"

    with_pool(check, limits=WorkerLimits(cpu_s=0.1))


def test_a_callable_that_ignores_sigterm_is_killed() -> None:
    """X1: ignores SIGTERM -> killed, since only SIGKILL is ever sent."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolTimeout):
            await run(pool, "deaf", timeout_s=0.5)

    with_pool(check)


def test_a_cancelled_call_takes_its_process_with_it() -> None:
    """Cancelling the caller kills the worker; nobody waits for it but close."""

    async def check(pool: WorkerPool) -> None:
        victim = await run(pool, "pid")
        task = asyncio.create_task(run(pool, "spin"))
        await until(lambda: pool.statistics()["busy"] > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await pool.close()
        assert gone(victim)

    with_pool(check, size=1)


@LINUX
@pytest.mark.parametrize("name", ["fork_bomb", "shell"])
def test_starting_processes_is_a_limit(name: str) -> None:
    """X1: fork bomb -> LIMIT; no second process ever exists. Threads remain possible."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolError) as caught:
            await run(pool, name)
        assert caught.value.reason == "LIMIT"
        assert await run(pool, "thread_sum") == 42

    with_pool(check)


@LINUX
def test_allocating_ten_gib_is_a_limit() -> None:
    """X1: 10 GiB alloc -> LIMIT; the worker survives it."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolError) as caught:
            await run(pool, "allocate", gib=10)
        assert caught.value.reason == "LIMIT"
        assert await run(pool, "add", a=1) == 3

    with_pool(check)


@pytest.mark.parametrize("name", ["print_gib", "return_much"])
def test_output_is_capped(name: str) -> None:
    """X1: 1 GiB stdout, or a huge result -> OUTPUT_TRUNCATED."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolError) as caught:
            await run(pool, name)
        assert caught.value.reason == "OUTPUT_TRUNCATED"
        assert await run(pool, "add", a=1) == 3

    with_pool(check)


def test_writing_outside_its_directory_is_denied(tmp_path: Path) -> None:
    """X1: writes outside -> TOOL_DENIED and no file; inside its scratch directory it may."""

    async def check(pool: WorkerPool) -> None:
        outside = tmp_path / "escaped"
        with pytest.raises(ToolDenied):
            await run(pool, "write_to", path=str(outside))
        assert not outside.exists()
        assert await run(pool, "write_to", path="mine") == "was here"

    with_pool(check)


@LINUX
@pytest.mark.parametrize(("name", "arguments"), [("exit_with", {"status": 139}), ("segfault", {})])
def test_a_dying_process_is_a_crash(name: str, arguments: dict[str, Any]) -> None:
    """X1: exits 139, or SIGSEGV -> TOOL_CRASHED; the next call gets a fresh process."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolCrashed) as caught:
            await run(pool, name, **arguments)
        assert "139" in caught.value.message or "SIGSEGV" in caught.value.message
        assert await run(pool, "add", a=1) == 3

    with_pool(check)


@LINUX
def test_a_worker_cannot_signal_the_engine() -> None:
    """A kill aimed at the parent is refused by the kernel."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolDenied):
            await run(pool, "kill_parent")

    with_pool(check)


def test_garbage_on_the_protocol_pipe_is_a_crash() -> None:
    """A callable that finds and writes to the protocol's descriptor only ends its own worker."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolCrashed):
            await run(pool, "garbage")
        assert await run(pool, "add", a=1) == 3

    with_pool(check)


def test_an_exception_is_told_by_type_and_message() -> None:
    """What the callable raises arrives as ToolError with its type as reason."""

    async def check(pool: WorkerPool) -> None:
        with pytest.raises(ToolError) as caught:
            await run(pool, "raising")
        assert caught.value.reason == "ValueError"
        assert "no such city" in caught.value.message
        with pytest.raises(ToolError) as caught:
            await pool.run("no.such.module:f", {}, timeout_s=30)
        assert caught.value.reason == "TARGET"

    with_pool(check)


def test_callers_beyond_the_size_wait_their_turn_and_the_line_is_bounded() -> None:
    """With one process and a line of one, a third caller is refused with a retry time; close frees the second."""

    async def check(pool: WorkerPool) -> None:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_outcome(run(pool, "deaf")))
            await until(lambda: pool.statistics()["busy"] > 0)
            second = group.create_task(_outcome(run(pool, "add", a=1)))
            await until(lambda: pool.statistics()["waiting"] > 0)
            third = await _outcome(run(pool, "add", a=1))
            await pool.close()
        assert isinstance(third, ToolUnavailable)
        assert third.retry_after_ms == 1000
        assert isinstance(first.result(), ToolCrashed)
        assert isinstance(second.result(), ToolUnavailable)

    with_pool(check, size=1, queue=1)


async def _outcome(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except ToolError as error:
        return error


def test_a_worker_is_replaced_after_its_calls() -> None:
    """calls_per_worker bounds what a process can accumulate."""

    async def check(pool: WorkerPool) -> None:
        seen = {await run(pool, "pid") for _ in range(3)}
        assert len(seen) == 3

    with_pool(check, size=1, calls_per_worker=1)


def test_a_pool_needs_at_least_one_process() -> None:
    """Size 0 is a ConfigError at construction."""
    with pytest.raises(ConfigError):
        WorkerPool(0)


def test_traced_call_tells_its_own_time_and_finds_its_trace() -> None:
    """Within what was seen from outside, also if it failed; without a trace there is nothing to find."""
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    told: list[tuple[float, float, int]] = []

    def measured(began: float, ended: float, pid: int) -> None:
        told.append((began, ended, pid))

    async def check(pool: WorkerPool) -> None:
        named = {"name": "TRACEPARENT"}
        asked_at = time.monotonic()
        found = await pool.run(target("variable"), named, timeout_s=30.0, trace=trace, measured=measured)
        assert json.loads(found) == trace
        ((began, ended, pid),) = told
        assert asked_at <= began <= ended <= time.monotonic()
        assert pid != os.getpid()
        assert json.loads(await pool.run(target("variable"), named, timeout_s=30.0, measured=measured)) is None
        assert len(told) == 1
        with pytest.raises(ToolError):
            await pool.run(target("variable"), {"name": 7}, timeout_s=30.0, trace=trace, measured=measured)
        assert len(told) == 2

    with_pool(check, size=1)


@pytest.mark.parametrize("span", [None, [], [0.0, 1e12, 1], ["a", 2.0, 3], [7.0, 6.0, 1], [5.0, 6.0, "x"]])
def test_what_a_worker_says_of_its_time_must_be_believable(span: object) -> None:
    """It may run anybody's code: else the time seen from outside counts."""
    assert _believable(span, 4.0, 8.0, 42) == (4.0, 8.0, 42)
    assert _believable([5.0, 6.0, 43], 4.0, 8.0, 42) == (5.0, 6.0, 43)
