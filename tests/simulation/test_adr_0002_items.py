"""ADR 2: after numbering a link only merges and cuts text, and any resend can be trimmed to the byte."""

from __future__ import annotations

import pytest

from laneway.routing.inbox import Inbox
from tests.simulation.loop import run
from tests.simulation.stage import Stage, Viewer

TEXT = "Die Donau fließt – langsam, 日本語 und 👩‍👩‍👧‍👦 – ins Meer. " * 12


async def _say(stage: Stage, size: int) -> None:
    for start in range(0, len(TEXT), size):
        await stage.emit("TEXT_MESSAGE_CONTENT", TEXT[start : start + size])
    await stage.settle()


def test_clients_cut_the_same_numbers_differently() -> None:
    """One reads 200 characters at a time, one 16: other items, the same seqs, the same text."""

    async def main() -> None:
        stage = await Stage().start()
        wide, narrow = await stage.attach("wide"), await stage.attach("narrow", chunk_chars=16)
        await _say(stage, 50)
        await wide.read()
        await narrow.read()
        assert wide.text == narrow.text == TEXT
        assert len(narrow.items) > len(wide.items)
        assert narrow.inbox.cursor == wide.inbox.cursor
        await stage.close()

    run(main())


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("frames", range(2, 12))
def test_a_cut_in_the_middle_of_a_delta_costs_no_byte(skip: bool, frames: int) -> None:
    """A client that lost its connection inside a seq gets exactly the rest, though it now asks for other chunks
    and whether or not it says how many bytes it has."""

    async def main() -> None:
        stage = await Stage(**_small_frames()).start()
        first = await stage.attach(chunk_chars=16)
        await _say(stage, 90)
        await first.read(frames)
        await first.attachment.close()
        second = await stage.attach(inbox=first.inbox, skip=skip, chunk_chars=50)
        await second.read()
        assert second.welcome["resume"] == "resumed"
        assert first.text + second.text == TEXT
        await stage.close()

    run(main())


def _small_frames() -> dict[str, object]:
    from laneway.routing.handshake import LinkPolicy

    return {"link": LinkPolicy(heartbeat_s=100.0, max_items=3)}


def test_only_contiguous_text_of_one_message_is_merged() -> None:
    """Two messages and an event in between stay apart; each item says which seqs it holds."""

    async def main() -> None:
        stage = await Stage().start()
        for entity in ("m1", "m1", "m2", "m2"):
            await stage.emit("TEXT_MESSAGE_CONTENT", f"to {entity}. ", entity=entity)
        await stage.emit("CUSTOM", {"name": "between"})
        await stage.emit("TEXT_MESSAGE_CONTENT", "on. ", entity="m2")
        viewer = await _reader_from_the_start(stage)
        assert [(i.first, i.last, i.envelope[6]) for i in viewer.items] == [
            (1, 2, "m1"), (3, 4, "m2"), (5, 5, ""), (6, 6, "m2"),
        ]  # fmt: skip
        await stage.close()

    run(main())


async def _reader_from_the_start(stage: Stage) -> Viewer:
    from laneway.routing.replay import Cursor

    home = await stage.home()
    return await (await stage.attach(inbox=Inbox(Cursor(home.epoch, 0, 0)))).read()
