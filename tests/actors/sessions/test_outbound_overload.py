"""What an overloaded engine spares: numbers and frames of a stream, and detail; what a reader has of it."""

from __future__ import annotations

import asyncio
import itertools
from typing import NamedTuple

import pytest

from laneway.actors.sessions.outbound import DATA
from laneway.routing.envelope import BODY, KIND
from tests.actors.sessions.stage import Disk
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer

_TOKENS = 200
_PACE_S = 0.02
TEXT = "TEXT_MESSAGE_CONTENT"


class Streamed(NamedTuple):
    """One answer of 200 tokens at 50 a second."""

    text: str
    numbered: int
    frames: int
    first_s: float
    longest_gap_s: float


async def _read(viewer: Viewer, times: list[float], texts: list[bytes]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        for frame in await viewer.attachment.frames():
            viewer.inbox.receive(frame.header, frame.envelopes, loop.time())
            said = [env[BODY] for env in frame.envelopes if env[KIND] == TEXT]
            if said:
                times.append(loop.time())
                texts += said
        await viewer.ack()


async def _stream(level: int) -> Streamed:
    stage = await Stage(Disk()).start()
    viewer = await stage.attach()
    stage.shedding.set_level(level)
    times: list[float] = []
    texts: list[bytes] = []
    reading = asyncio.create_task(_read(viewer, times, texts))
    await asyncio.sleep(1)
    home = await stage.home()
    before = home.outbound.issued[DATA]
    await stage.emit("TEXT_MESSAGE_START", {"messageId": "m"})
    asked = asyncio.get_running_loop().time()
    for number in range(_TOKENS):
        await stage.emit(TEXT, f"{number:05d}")
        await asyncio.sleep(_PACE_S)
    await asyncio.sleep(1)
    reading.cancel()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    numbered = home.outbound.issued[DATA] - before - 1
    await stage.close()
    return Streamed(b"".join(texts).decode(), numbered, len(times), times[0] - asked, max(gaps))


def test_a_stream_costs_less_the_higher_the_level_and_says_the_same() -> None:
    """Half the numbers and frames at level 1, a third at level 2; the first token is as early as ever."""

    async def main() -> list[Streamed]:
        return [await _stream(level) for level in range(4)]

    calm, light, heavy, worst = run(main())
    assert calm.text == light.text == heavy.text == "".join(f"{number:05d}" for number in range(_TOKENS))
    assert calm.numbered == calm.frames == _TOKENS
    assert light.numbered <= _TOKENS // 2 + 2
    assert light.frames <= _TOKENS // 2 + 2
    assert heavy.numbered <= _TOKENS // 3 + 2
    assert heavy.frames <= _TOKENS // 3 + 2
    assert worst[1:] == heavy[1:]
    assert {round(each.first_s, 4) for each in (calm, light, heavy)} == {round(calm.first_s, 4)}
    assert heavy.longest_gap_s < 0.15


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_what_is_left_out_takes_no_number_and_no_credit(level: int) -> None:
    """The stream has no hole: it is as if the handler had not said it."""

    async def main() -> None:
        stage = await Stage(Disk()).start()
        viewer = await stage.attach()
        stage.shedding.set_level(level)
        home = await stage.home()
        envs = [stage.event(kind, {"stepName": "a"}) for kind in ("STEP_STARTED", "PROGRESS", "STEP_FINISHED")]
        await stage.directory.emit_all([*envs, stage.event("STATE_SNAPSHOT", {"snapshot": 1})])
        await viewer.read()
        kinds = [item.envelope[KIND] for item in viewer.items]
        assert kinds == {
            0: ["STEP_STARTED", "PROGRESS", "STEP_FINISHED", "STATE_SNAPSHOT"],
            1: ["STEP_STARTED", "STEP_FINISHED", "STATE_SNAPSHOT"],
        }.get(level, ["STATE_SNAPSHOT"])
        assert home.outbound.issued[DATA] == len(kinds)
        assert [item.first for item in viewer.items] == list(range(1, len(kinds) + 1))
        await stage.close()

    run(main())
