"""ADR 4: one run is one FIFO; lanes order inbound work and runs against each other, never events inside a run."""

from __future__ import annotations

import asyncio

from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context
from laneway.routing.envelope import Envelope
from tests.simulation.loop import run
from tests.simulation.stage import Stage


def test_a_tool_call_does_not_overtake_the_text_before_it() -> None:
    """TOOL_CALL_START is "high", text is "normal", PROGRESS is "low": they come in the order of the producer."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        kinds = [
            "TEXT_MESSAGE_CONTENT",
            "PROGRESS",
            "TOOL_CALL_START",
            "CUSTOM",
            "TOOL_CALL_END",
            "TEXT_MESSAGE_CONTENT",
        ]
        for kind in kinds:
            await stage.emit(kind, "a" if kind.startswith("TEXT") else {"n": 1})
        await viewer.read()
        assert viewer.kinds == kinds
        await stage.close()

    run(main())


def test_a_delta_that_waits_for_company_is_flushed_by_the_next_event() -> None:
    """Coalescing happens before numbering: a held delta goes first, whatever the next event's lane is."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        for text in ("The first goes at once. ", "a", "b", "c"):
            await stage.emit("TEXT_MESSAGE_CONTENT", text)
        await stage.emit("TOOL_CALL_START", {"toolCallId": "t", "toolCallName": "x"}, entity="t")
        await viewer.read()
        assert viewer.kinds == ["TEXT_MESSAGE_CONTENT", "TOOL_CALL_START"]
        assert viewer.text == "The first goes at once. abc"
        assert viewer.inbox.cursor.data == 3, "three deltas became one seq"
        await stage.close()

    run(main())


def test_only_run_error_cuts_in_and_the_rest_of_its_run_is_voided() -> None:
    """A client gets RUN_ERROR before data that it has not read; that data of the run is counted, not given; another
    run's data goes on."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        for _ in range(30):
            await stage.emit("CUSTOM", {"pad": "x" * 1000}, run="doomed")
            await stage.emit("CUSTOM", {"pad": "x" * 1000}, run="other")
        await stage.emit("RUN_ERROR", {"message": "no", "code": "X"}, run="doomed")
        await viewer.read()
        runs = [item.envelope[5] for item in viewer.items]
        assert viewer.kinds[0] == "RUN_ERROR", "nothing was read yet, so it comes first"
        assert runs[1:] == ["other"] * 30
        assert viewer.inbox.voided == 30
        assert viewer.inbox.cursor.data == 60, "voided seqs are received and acked all the same"
        await stage.close()

    run(main())


def test_inbound_order_is_fifo_per_producer_and_lane() -> None:
    """Events of one lane start in the order of their producer; an urgent kind starts before what waits."""
    started: list[str] = []
    gate = asyncio.Event()

    async def handle(env: Envelope, context: Context) -> None:
        started.append(f"{env[2]} {env[1]}")
        await gate.wait()

    async def main() -> None:
        pool = PoolSpec("all", ["ECHO", "FLAKY", "URGE"], handle, concurrency=1)
        stage = await Stage(pools=[pool]).start()
        viewer = await stage.attach()
        for counter in range(1, 6):
            await viewer.send("ECHO", counter)
        await stage.settle()
        await viewer.send("URGE", 6)
        await stage.settle()
        assert started == ["ECHO 1", "URGE 6"], "critical events have a slot of their own"
        gate.set()
        await stage.settle()
        assert started == ["ECHO 1", "URGE 6", "ECHO 2", "ECHO 3", "ECHO 4", "ECHO 5"]
        await stage.close()

    run(main())


def test_after_waits_for_the_event_it_names() -> None:
    """An event that names another in `after` starts when that one is over, and not before."""
    log: list[str] = []

    async def handle(env: Envelope, context: Context) -> None:
        log.append(f"begin {env[1]}")
        await asyncio.sleep(0.1)
        log.append(f"end {env[1]}")

    async def main() -> None:
        stage = await Stage(pools=[PoolSpec("echo", ["ECHO"], handle, concurrency=8)]).start()
        viewer = await stage.attach()
        await viewer.send("ECHO", 1)
        await viewer.send("ECHO", 2, after="c:1")
        await stage.settle()
        assert log == ["begin 1", "end 1", "begin 2", "end 2"]
        await stage.close()

    run(main())
