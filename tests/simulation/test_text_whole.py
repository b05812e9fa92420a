"""Text through everything: merged, numbered, logged, cut for two clients, put on the wire, cut off, resumed."""

from __future__ import annotations

import asyncio

import msgpack
from hypothesis import example, given, settings
from hypothesis import strategies as st

from laneway.engine.frames import Frames
from laneway.routing.envelope import BODY, ENTITY, KIND
from laneway.routing.graphemes import is_boundary
from laneway.routing.handshake import LinkPolicy
from laneway.routing.link import LinkFrame
from laneway.routing.quality import Grade
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer

PIECES = [
    "a",
    "Hello ",
    "wörld. ",
    "Ende! ",
    "日本語。",
    "「は」",
    "👩‍👩‍👧‍👦",
    "🇩🇪",
    "e",
    "\u0301",
    "1️⃣",
    "\r",
    "\n",
    "```\n",
    "क्षि",
    "한",
    "x" * 90,
]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from(["m", "m", "m", "n"]), st.lists(st.sampled_from(PIECES), max_size=9)),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.003, 0.02])),
        st.tuples(st.just("read"), st.integers(0, 1), st.integers(1, 4)),
        st.tuples(st.just("cut"), st.integers(0, 1), st.booleans()),
        st.tuples(st.just("grade"), st.integers(0, 1), st.sampled_from([0.01, 0.3, 2.0])),
    ),
    max_size=40,
)


def _over_the_wire(viewer: Viewer, stage: Stage) -> None:
    """Let what the viewer reads pass through bytes, as over gRPC."""
    frames, wire = viewer.attachment.frames, Frames(stage.kinds, lambda: 0.0)

    async def passed() -> list[LinkFrame]:
        return [LinkFrame(*wire.decode(wire.encode(*frame))) for frame in await frames()]

    viewer.attachment.frames = passed  # type: ignore[method-assign]


class _Client:
    """A client that is cut off and comes back, and all it was told."""

    def __init__(self, stage: Stage, name: str, chars: int, *, hold: bool) -> None:
        self.stage, self.name, self.chars, self.hold = stage, name, chars, hold
        self.told: dict[str, bytes] = {"m": b"", "n": b""}
        self.viewer: Viewer | None = None

    async def connect(self, *, skip: bool = True) -> None:
        inbox = None
        if self.viewer is not None:
            self.take()
            inbox = self.viewer.inbox
            await self.viewer.attachment.close()
        wishes = {"chunk_chars": self.chars, "hold_sentence": self.hold}
        self.viewer = await self.stage.attach(self.name, inbox=inbox, skip=skip, **wishes)
        _over_the_wire(self.viewer, self.stage)
        if inbox is None:
            await self.viewer.read(1)

    async def read(self, frames: int = 1_000_000) -> None:
        assert self.viewer is not None
        await self.viewer.read(frames)
        await self.viewer.ack(grant=10**9)
        self.take()

    def take(self) -> None:
        assert self.viewer is not None
        for item in self.viewer.items:
            if item.envelope[KIND] == "TEXT_MESSAGE_CONTENT":
                self.told[item.envelope[ENTITY]] += item.envelope[BODY]
        self.viewer.items.clear()


@settings(deadline=None, max_examples=60)
@given(STEPS, st.tuples(st.integers(16, 60), st.integers(16, 200)), st.booleans())
def test_any_text_arrives_whole_however_it_was_said_and_cut(
    steps: list[tuple[object, ...]], chars: tuple[int, int], hold: bool
) -> None:
    """Any pieces at any times, two clients of any chunk size, cut off anywhere and resumed by the byte or by whole
    events, while their network's grade changes: each is told exactly what was said, message by message, and no item
    ends inside a character that came in one piece."""

    async def main() -> None:
        stage = await Stage(link=LinkPolicy(heartbeat_s=100.0, max_items=3)).start()
        clients = [_Client(stage, f"c{n}", size, hold=hold and n == 1) for n, size in enumerate(chars)]
        for client in clients:
            await client.connect()
        said = {"m": "", "n": ""}
        for step in steps:
            match step:
                case ("say", entity, pieces):
                    text = "".join(pieces)
                    said[entity] += text
                    await stage.emit("TEXT_MESSAGE_CONTENT", text, entity=entity)
                case ("wait", pause_s):
                    await asyncio.sleep(pause_s)
                case ("read", who, frames):
                    await clients[who].read(frames)
                case ("cut", who, skip):
                    await clients[who].connect(skip=skip)
                case ("grade", who, rtt_s):
                    link = clients[who].viewer.attachment.link
                    for _ in range(4):
                        link._adapt(link.quality.sample(rtt_s=rtt_s))
                    assert link.quality.grade in Grade
        await stage.settle()
        home = await stage.home()
        for client in clients:
            for _ in range(4):
                await client.read()  # until nothing comes for 0.3 s; a sentence may be held for 0.5 s
            assert {entity: told.decode() for entity, told in client.told.items()} == said
            assert client.viewer is not None
            assert client.viewer.inbox.position == home.outbound.rings[1].head_position
        await stage.close()

    run(main())


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=60), st.integers(16, 60), st.integers(1, 60))
@example(pieces=["a", "wörld. ", "wörld. ", "\u0301", "a"], chars=16, size=2)
def test_no_chunk_ends_inside_a_character(pieces: list[str], chars: int, size: int) -> None:
    """A text that is there when it is cut: every chunk ends where a reader sees a character end."""

    async def main() -> None:
        text = "".join(pieces)
        stage = await Stage().start()
        viewer = await stage.attach(chunk_chars=chars)
        parts = [text[at : at + size] for at in range(0, len(text), size)]
        await asyncio.gather(*(stage.emit("TEXT_MESSAGE_CONTENT", part) for part in parts))
        await stage.settle()
        await viewer.read()
        at, ends = 0, set()
        for item in viewer.items:
            at += len(item.envelope[BODY].decode())
            ends.add(at)
        assert viewer.text == text
        arrivals = set(range(0, len(text) + 1, size))
        assert all(is_boundary(text, end) for end in ends - arrivals)
        await stage.close()

    run(main())


def test_whole_sentences_for_speech_through_a_whole_session() -> None:
    """A client that asks for `hold: sentence` is told sentence by sentence, while its neighbour is told each token; a
    sentence that does not end comes after half a second, and the end of the message lets the rest go at once."""

    async def main() -> None:
        stage = await Stage().start()
        speaker, reader = await stage.attach("speaker", hold_sentence=True), await stage.attach("reader")
        reading = [asyncio.create_task(viewer.read()) for viewer in (speaker, reader)]
        loop = asyncio.get_running_loop()
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m"})
        for token in ["It", "is", "3.14", "in", "all.", "That", "is", "that!", "And", "so", ""]:
            await stage.emit("TEXT_MESSAGE_CONTENT", token + " ")
            await asyncio.sleep(0.03)
        await stage.emit("TEXT_MESSAGE_END", {"messageId": "m"})
        said_at = loop.time()
        await asyncio.gather(*reading)
        heard = [
            item.envelope[BODY].decode() for item in speaker.items if item.envelope[KIND] == "TEXT_MESSAGE_CONTENT"
        ]
        assert heard == ["It is 3.14 in all. ", "That is that! ", "And so  "]
        assert len(reader.items) > len(speaker.items) + 5
        assert reader.text == speaker.text
        assert loop.time() - said_at < 0.5
        assert msgpack.unpackb(speaker.items[-1].envelope[BODY]) == {"messageId": "m"}
        await stage.close()

    run(main())
