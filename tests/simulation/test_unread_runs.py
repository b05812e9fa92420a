"""Runs that nobody reads, over a model that generates whether it is read or not: in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

import msgpack
import pytest

from laneway.actors.nlp import vocabulary
from laneway.actors.nlp.runs import RunDriver
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, Out, Principal
from laneway.routing.handshake import Hello
from laneway.routing.inbox import Inbox
from laneway.routing.replay import Cursor
from laneway.routing.unread import Unread
from laneway.routing.window import INITIAL_WINDOW_BYTES
from tests.actors.sessions.stage import Disk
from tests.simulation.hosts import cluster
from tests.simulation.loop import VirtualClock, run
from tests.simulation.stage import Stage, Viewer

WORD = "word " * 20
WORDS = 1_500
WHOLE = "".join(f"{number:05d} {WORD}" for number in range(WORDS))
LONG = 4 * WHOLE
PIECE_CHARS = 106
BUDGET = 50_000


class Upstream:
    """Says a text, from where the newest message stops, a piece each millisecond.

    Attributes:
        said: pieces given out. slots: generations under way. asked: the messages of each run.
    """

    pushes = True

    def __init__(self, piece_chars: int = PIECE_CHARS, text: str = WHOLE) -> None:
        self.said = self.slots = 0
        self._piece_chars = piece_chars
        self._text = text
        self.asked: list[list[dict[str, Any]]] = []

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        self.asked.append(list(run["messages"]))
        newest = run["messages"][-1]
        told = len(newest["content"]) if newest["role"] == "assistant" else 0
        message = f"m-{context.run}"
        self.slots += 1
        try:
            yield vocabulary.text_start(message)
            for at in range(told, len(self._text), self._piece_chars):
                await asyncio.sleep(0.001)
                self.said += 1
                yield vocabulary.text(message, self._text[at : at + self._piece_chars])
            yield vocabulary.text_end(message)
        finally:
            self.slots -= 1


async def _stage(model: object, *, unread: Unread | str = "auto", concurrency: int = 8, **policy: Any) -> Stage:
    stage = Stage(policy.pop("store", None) or Disk(), ring_bytes=32_768, **{"budget_bytes": BUDGET, **policy})
    clock, history = VirtualClock(asyncio.get_running_loop()), stage.directory.messages
    driver = RunDriver(model, clock=clock, history=history, unread=unread)  # type: ignore[arg-type]
    kinds = ["USER_MESSAGE", "RUN_INPUT"]
    stage.dispatcher.add_pool(PoolSpec("nlp", kinds, driver, concurrency=concurrency, run_starting=True))
    return await stage.start()


async def _ask(stage: Stage, session: str, run_id: str = "r1", kind: str = "USER_MESSAGE", **props: Any) -> Viewer:
    """A client that asks, and reads nothing."""
    attachment = await stage.directory.attach(Hello((1,), "c", session), Principal("someone", "t"))
    viewer = Viewer(attachment, Inbox())
    await viewer.send(kind, 1, body=_body(kind, props), run=run_id)
    return viewer


def _body(kind: str, props: Mapping[str, Any]) -> bytes:
    if kind == "USER_MESSAGE":
        return b"tell"
    said = [{"id": "u1", "role": "user", "content": "tell"}]
    return json.dumps({"messages": said, "forwardedProps": props}).encode()


async def _read_all(viewer: Viewer) -> None:
    for _ in range(200):
        before = len(viewer.items)
        await viewer.read()
        await viewer.ack(grant=(viewer.inbox.position or 0) + 1_000_000)
        if len(viewer.items) == before:
            return


def _end(viewer: Viewer) -> tuple[str, dict[str, Any]]:
    env = viewer.items[-1].envelope
    return env[2], msgpack.unpackb(env[11])


def test_a_pull_based_producer_stops_at_its_next_event_and_goes_on_when_it_is_read() -> None:
    """Nothing is generated that nobody has room for: the head stands still, and so does the memory."""

    async def main() -> None:
        model = Upstream()
        stage = await _stage(model, unread="pause")
        viewer = await _ask(stage, "s")
        await asyncio.sleep(10)
        home = await stage.home()
        said, head = model.said, home.outbound.rings[1].head_position
        assert INITIAL_WINDOW_BYTES <= head < INITIAL_WINDOW_BYTES + 500
        await asyncio.sleep(10)
        assert (model.said, home.outbound.rings[1].head_position, model.slots) == (said, head, 1)
        await _read_all(viewer)
        assert (viewer.text, model.slots, _end(viewer)[0]) == (WHOLE, 0, "RUN_FINISHED")
        await stage.close()

    run(main())


def test_a_run_that_continues_ends_unread_and_is_read_from_the_log() -> None:
    """The model is done in its own time, the rings stay within their bounds, the reader gets every word later."""

    async def main() -> None:
        model = Upstream()
        stage = await _stage(model)
        viewer = await _ask(stage, "s")
        home = await stage.home()
        held = []
        for _ in range(5):
            await asyncio.sleep(1)
            held.append(sum(ring.bytes for ring in home.outbound.rings) + home.statistics().commit_backlog_bytes)
        await asyncio.sleep(5)
        assert (model.slots, model.said, home.statistics().pending) == (0, -(-len(WHOLE) // PIECE_CHARS), 0)
        assert max(held) <= 32_768 + 1_000
        await home.maintain()
        await _read_all(viewer)
        assert (viewer.text, _end(viewer)[0]) == (WHOLE, "RUN_FINISHED")
        await stage.close()

    run(main())


def test_a_run_that_is_closed_lets_its_model_go_and_goes_on_as_a_new_run() -> None:
    """PAUSED stands behind what was said; the two answers together are the whole one, and nothing is said twice."""

    async def main() -> None:
        model = Upstream()
        stage = await _stage(model, unread="close")
        viewer = await _ask(stage, "s")
        await asyncio.sleep(3)
        home = await stage.home()
        assert (model.slots, home.statistics().pending, home.statistics().paused) == (0, 0, 0)
        assert INITIAL_WINDOW_BYTES + BUDGET <= home.outbound.rings[1].head_position < 2 * INITIAL_WINDOW_BYTES + BUDGET
        await _read_all(viewer)
        kind, fields = _end(viewer)
        assert (kind, fields["code"], fields["metadata"]["retryable"]) == ("RUN_ERROR", "PAUSED", True)
        first = viewer.text
        assert viewer.inbox.voided == 0
        assert len(first) > BUDGET
        assert WHOLE.startswith(first)
        await viewer.attachment.receive({"grant": 10_000_000}, [])
        await viewer.send("RUN_INPUT", 2, body=json.dumps({"parentRunId": "r1"}).encode(), run="r2")
        await asyncio.sleep(3)
        assert model.asked[-1][-1]["content"] == first
        await _read_all(viewer)
        texts = [i.envelope for i in viewer.items if i.envelope[2] == "TEXT_MESSAGE_CONTENT"]
        assert {env[6] for env in texts} == {"m-r1", "m-r2"}
        begun = next(i.envelope for i in viewer.items if i.envelope[2] == "RUN_STARTED" and i.envelope[5] == "r2")
        assert msgpack.unpackb(begun[11])["parentRunId"] == "r1"
        assert WHOLE.startswith(viewer.text)
        assert len(viewer.text) > len(first)
        await stage.close()

    run(main())


def test_a_run_says_for_itself_what_becomes_of_it() -> None:
    """`forwardedProps.unread` wins over the engine's setting, and what is none of the three is an error."""

    async def main() -> None:
        model = Upstream()
        stage = await _stage(model)
        closed = await _ask(stage, "s", kind="RUN_INPUT", unread="close")
        wrong = await _ask(stage, "s2", kind="RUN_INPUT", unread="stop")
        await asyncio.sleep(10)
        await _read_all(closed)
        await _read_all(wrong)
        assert _end(closed)[1]["code"] == "PAUSED"
        assert _end(wrong)[1]["metadata"]["reason"] == "BAD_TYPE"
        assert model.slots == 0
        await stage.close()

    run(main())


def test_without_a_place_to_spill_to_a_run_goes_as_far_as_its_budget_and_waits() -> None:
    """A log in this process's memory: the bound holds, and the run ends UNREAD unless somebody reads on."""

    async def main() -> None:
        model = Upstream()
        stage = await _stage(model, store=Disk(durable=False), stall_s=30.0)
        viewer, late = await _ask(stage, "s"), await _ask(stage, "s2")
        await asyncio.sleep(20)
        home = await stage.home()
        assert home.outbound.rings[1].head_position < INITIAL_WINDOW_BYTES + BUDGET + 1_100
        assert (model.slots, home.statistics().paused) == (2, 1)
        await _read_all(viewer)
        assert (viewer.text, _end(viewer)[0]) == (WHOLE, "RUN_FINISHED")
        await asyncio.sleep(20)
        await late.read()
        assert model.slots == 0
        errors = [i.envelope for i in late.items if i.envelope[2] == "RUN_ERROR"]
        assert [msgpack.unpackb(env[11])["metadata"].get("reason") for env in errors] == ["UNREAD"]
        await stage.close()

    run(main())


@pytest.mark.parametrize(("unread", "within_s"), [("close", 6.0), ("continue", 6.0), ("pause", 125.0)])
def test_runs_that_nobody_reads_do_not_keep_others_waiting(unread: Unread, within_s: float) -> None:
    """256 of one tenant hold every slot: with close and continue only until the model is let go, or done."""

    async def main() -> None:
        model = Upstream(piece_chars=4_000)
        stage = await _stage(model, unread=unread, concurrency=256, budget_bytes=16_384)
        clock = asyncio.get_running_loop().time
        for number in range(256):
            await _ask(stage, f"idle-{number}")
        await asyncio.sleep(0.005)
        assert model.slots == 256
        asked_at = clock()
        attachment = await stage.directory.attach(Hello((1,), "c", "other"), Principal("else", "u"))
        viewer = Viewer(attachment, Inbox(Cursor()))
        await viewer.send("USER_MESSAGE", 1, body=b"tell", run="r1")
        while "TEXT_MESSAGE_CONTENT" not in viewer.kinds:
            await viewer.read(1)
            assert clock() < asked_at + within_s
        assert clock() - asked_at > (100 if unread == "pause" else 0)
        await stage.close()

    run(main())


class Considerate(Upstream):
    """A model that says itself what becomes of its run."""

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        context.when_unread("close")
        async with aclosing(super().stream(run, context)) as outs:
            async for out in outs:
                yield out


def test_a_run_on_another_host_is_let_go_there() -> None:
    """What its handler says of it is kept where the session is at home; the host hears that no more is taken."""

    async def main() -> None:
        async with cluster(nlp="USER_MESSAGE") as made:
            model, host, front = Considerate(3_000, LONG), made.host(), await made.front()
            host.add_model(model)
            made.join(front, host)
            async with front.session("s") as session:
                asked = await session.send("tell")
                await asyncio.sleep(10)
                home = front.directory.find("t", "s")
                assert home is not None
                assert (model.slots, home.statistics().pending, len(home.outbound.unread)) == (0, 0, 0)
                text = ""
                async for event in session:
                    text += event.text if event.kind == "TEXT_MESSAGE_CONTENT" else ""
                    if event.run == asked.run and event.ends_run:
                        break
                assert (event.data["code"], event.data["metadata"]["retryable"]) == ("PAUSED", True)
                assert len(text) > 300_000
                assert LONG.startswith(text)

    run(main())
