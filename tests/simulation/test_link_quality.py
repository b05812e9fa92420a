"""A slow link in virtual time: the measured grade, what follows from it, and the way back."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field

import pytest

from laneway.routing.envelope import BODY, KIND
from laneway.routing.errors import LanewayError
from laneway.routing.handshake import LinkPolicy
from laneway.routing.link import Link
from laneway.routing.quality import PLANS, Grade
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer

SENTENCE = "The quick brown fox jumps over the lazy dog and runs on without an end, "


@dataclass
class Line:
    """A connection with a latency: what is read arrives later, and so do acks, grants and pongs."""

    viewer: Viewer
    one_way_s: float = 0.0
    sizes: list[int] = field(default_factory=list)
    qualities: list[dict[str, object]] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _arrivals: list[float] = field(default_factory=lambda: [0.0, 0.0])

    async def serve(self) -> None:
        """Read for ever."""
        while True:
            try:
                frames = await self.viewer.attachment.frames()
            except LanewayError:
                return
            for frame in frames:
                task = asyncio.create_task(self._deliver(frame.header, frame.envelopes))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def _deliver(self, header: dict[str, object], envelopes: list[tuple[object, ...]]) -> None:
        now = await self._arrival(0)
        for item in self.viewer.inbox.receive(header, envelopes, now):  # type: ignore[arg-type]
            if item.envelope[KIND] == "TEXT_MESSAGE_CONTENT":
                self.sizes.append(len(item.envelope[BODY].decode()))
        answer = self.viewer.inbox.ack_due(now + 1.0) or {}
        if "ping" in header:
            answer["pong"] = header["ping"]
        if "quality" in header:
            self.qualities.append(header["quality"])  # type: ignore[arg-type]
        if answer:
            await self._arrival(1)
            await self.viewer.attachment.receive(answer, [])

    async def _arrival(self, way: int) -> float:
        """Wait until what is sent now has arrived, behind all that was sent before."""
        now = asyncio.get_running_loop().time()
        self._arrivals[way] = at = max(self._arrivals[way] + 1e-6, now + self.one_way_s)
        await asyncio.sleep(at - now)
        return at


async def _talk(stage: Stage, seconds: float) -> None:
    """A fast model: a burst of 500 characters every quarter of a second."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        for _ in range(7):
            await stage.emit("TEXT_MESSAGE_CONTENT", SENTENCE)
        await asyncio.sleep(0.25)


@pytest.mark.parametrize(
    ("one_way_s", "worst"),
    [(0.005, Grade.GOOD), (0.100, Grade.FAIR), (0.400, Grade.POOR)],
    ids=lambda value: str(value),
)
def test_a_slow_network_gets_smaller_chunks_and_a_good_one_again_large_ones(one_way_s: float, worst: Grade) -> None:
    """200, 100 and 50 characters by round trip and ack lag; the grade is in the statistics and the client is told of
    each step; when the network is good again, so are the chunks."""

    async def main() -> None:
        stage = await Stage(link=LinkPolicy(heartbeat_s=1.0)).start()
        line = Line(await stage.attach())
        link = line.viewer.attachment.link
        serving = asyncio.create_task(line.serve())
        await _talk(stage, 5.0)
        assert link.statistics().grade == Grade.GOOD
        assert 150 < max(line.sizes) <= 200
        line.one_way_s = one_way_s
        await _talk(stage, 20.0)
        assert link.quality.grade is worst
        assert (await stage.home()).statistics().grades[worst] == 1
        line.sizes.clear()
        await _talk(stage, 10.0)
        assert PLANS[worst].chunk_chars // 2 < max(line.sizes) <= PLANS[worst].chunk_chars
        line.one_way_s = 0.005
        await _talk(stage, 60.0)
        assert link.quality.grade is Grade.GOOD
        line.sizes.clear()
        await _talk(stage, 5.0)
        assert 150 < max(line.sizes) <= 200
        down = [
            {"grade": g.name.lower(), "chunk_chars": PLANS[g].chunk_chars, "flush_s": PLANS[g].flush_s} for g in Grade
        ]
        steps = [*range(1, worst + 1), *range(worst - 1, -1, -1)]
        assert line.qualities == [down[grade] for grade in steps], "one step at a time, and it never flaps"
        serving.cancel()
        await asyncio.gather(serving, *line.tasks, return_exceptions=True)
        await stage.close()

    run(main())


def _grade(link: Link, grade: Grade) -> None:
    """Let a link measure what makes it this grade."""
    for _ in range(2 * grade):
        link._adapt(link.quality.sample(rtt_s=(0.01, 0.3, 2.0)[grade]))


@pytest.mark.parametrize("grade", list(Grade))
def test_the_first_token_after_silence_is_on_the_wire_at_once_at_every_grade(grade: Grade) -> None:
    """However long a link waits for company otherwise: what comes after silence goes in the turn it was committed."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await viewer.read()
        link, loop = viewer.attachment.link, asyncio.get_running_loop()
        _grade(link, grade)
        await viewer.read()
        assert link.quality.grade is grade
        for number in range(3):
            await asyncio.sleep(1.0)
            reading = asyncio.create_task(viewer.attachment.frames())
            await asyncio.sleep(0)
            said_at = loop.time()
            await stage.emit("TEXT_MESSAGE_CONTENT", "F", entity=f"m{number}")
            frames = await reading
            assert loop.time() - said_at < 1e-6, "no timer was waited for"
            assert [env[BODY] for frame in frames for env in frame.envelopes] == [b"F"]
        await stage.close()

    run(main())


@pytest.mark.parametrize("grade", list(Grade))
def test_the_first_token_of_a_message_does_not_wait_for_company(grade: Grade) -> None:
    """Also if its START went a moment before and no silence was in between: it goes as an event that merges with
    nothing does, and the tokens after it gather."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await viewer.read()
        link, loop = viewer.attachment.link, asyncio.get_running_loop()
        _grade(link, grade)
        await viewer.read()
        flush_s = PLANS[grade].flush_s
        await stage.emit("RUN_STARTED", {"runId": "r"})
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m"})
        assert len(await viewer.attachment.frames()) == 1
        for text, waits_s in (("First", 0.0), ("second", flush_s), ("third", flush_s)):
            await asyncio.sleep(0.45 * flush_s)  # two events make two gaps, of five
            reading = asyncio.create_task(viewer.attachment.frames())
            await asyncio.sleep(0)
            said_at = loop.time()
            await stage.emit("TEXT_MESSAGE_CONTENT", text)
            ((frame),) = await reading
            assert [env[BODY].decode() for env in frame.envelopes] == [text]
            assert loop.time() - said_at == pytest.approx(waits_s, abs=1e-6)
        await stage.close()

    run(main())


@pytest.mark.parametrize("grade", list(Grade))
def test_under_load_a_message_begins_no_later_than_the_next_frame(grade: Grade) -> None:
    """Other runs of the session talk without pause: the first token of a new message rides on the next frame of text,
    and nothing holds it back before it is numbered."""

    async def main() -> None:
        stage = await Stage().start()
        viewer = await stage.attach()
        await viewer.read()
        link, loop = viewer.attachment.link, asyncio.get_running_loop()
        _grade(link, grade)
        came: dict[str, float] = {}

        async def read() -> None:
            while True:
                for frame in await viewer.attachment.frames():
                    for env in frame.envelopes:
                        came.setdefault(env[6], loop.time())
                    viewer.inbox.receive(frame.header, frame.envelopes, loop.time())
                await viewer.ack(grant=10**9)

        async def talk(run_id: str) -> None:
            for _ in itertools.repeat(None):
                await stage.emit("TEXT_MESSAGE_CONTENT", "word ", run=run_id, entity=f"m-{run_id}")
                await asyncio.sleep(0.004)

        tasks = [asyncio.create_task(work) for work in (read(), *(talk(f"r{n}") for n in range(8)))]
        await asyncio.sleep(1.0)
        for number in range(20):
            said_at = loop.time()
            await stage.emit("TEXT_MESSAGE_CONTENT", "First", run="new", entity=f"new-{number}")
            await asyncio.sleep(0.1371)
            assert came[f"new-{number}"] - said_at <= PLANS[grade].flush_s + 1e-6
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await stage.close()

    run(main())
