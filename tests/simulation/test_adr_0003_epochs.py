"""ADR 3: commit before write; a durable log keeps its epoch; a resume is whole or it fails with a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgpack
import pytest

from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Claim, Context, Entry
from laneway.routing.envelope import Envelope
from laneway.routing.errors import PeerProtocolError, StoreError
from laneway.routing.inbox import SNAPSHOT, Inbox
from laneway.routing.replay import Cursor
from tests.simulation.disk import Archive
from tests.simulation.loop import run
from tests.simulation.stage import Stage


class Disk(Archive):
    """A durable disk that waits or fails on demand."""

    durable = True

    def __init__(self) -> None:
        super().__init__("the-epoch", asyncio.get_running_loop().time)
        self.free = asyncio.Event()
        self.free.set()
        self.fail_before = self.fail_after = False

    async def append(self, claim: Claim, entries: Sequence[Entry]) -> None:
        await self.free.wait()
        if self.fail_before:
            raise StoreError("disk full")
        await super().append(claim, entries)
        if self.fail_after and entries:
            self.fail_after = False
            raise StoreError("fsync failed")


async def _ignore(env: Envelope, context: Context) -> None:
    return None


def test_nothing_is_sent_before_it_is_in_the_log() -> None:
    """While the append is under way no link sends the event; afterwards it does, so no client ever saw a number
    that the log does not hold."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk).start()
        viewer = await stage.attach()
        disk.free.clear()
        await stage.emit("CUSTOM", {"n": 1})
        await stage.emit("RUN_ERROR", {"message": "no", "code": "X"}, run="another")
        assert (await viewer.read()).items == [], "not even an urgent one"
        disk.free.set()
        assert (await viewer.read()).kinds == ["RUN_ERROR", "CUSTOM"]
        await stage.close()

    run(main())


def test_a_durable_store_keeps_the_epoch_across_restarts() -> None:
    """A client goes on in the next process where it stood in the last one."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk).start()
        viewer = await stage.attach()
        await stage.emit("TEXT_MESSAGE_CONTENT", "before ")
        await viewer.read()
        await stage.emit("TEXT_MESSAGE_CONTENT", "and after")
        await stage.close()
        stage = await Stage(disk).start()
        again = await (await stage.attach(inbox=viewer.inbox)).read()
        assert again.welcome["resume"] == "resumed"
        assert viewer.text + again.text == "before and after"
        assert [item.first for item in again.items] == [2]
        await stage.close()

    run(main())


def test_a_volatile_store_is_a_new_epoch_and_says_so() -> None:
    """A cursor of another epoch fails with EPOCH_MISMATCH; a snapshot follows, and nothing is replayed in part."""

    async def main() -> None:
        stage = await Stage().start()
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m", "role": "assistant"})
        await stage.emit("TEXT_MESSAGE_CONTENT", "all of it")
        await stage.settle()
        late = await (await stage.attach(inbox=Inbox(Cursor("of-a-former-process", 0, 1)))).read()
        assert (late.welcome["resume"], late.welcome["reason"]) == ("failed", "EPOCH_MISMATCH")
        assert [(item.stream, item.envelope[2]) for item in late.items] == [(SNAPSHOT, "MESSAGES_SNAPSHOT")]
        messages = msgpack.unpackb(late.items[0].envelope[11])["messages"]
        assert [message["content"] for message in messages] == ["all of it"]
        await stage.close()

    run(main())


def test_a_snapshot_ends_exactly_where_sending_starts() -> None:
    """A client that joins while a delta is being written has it once: in the snapshot or as an event, never both."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk).start()
        await stage.emit("TEXT_MESSAGE_START", {"messageId": "m", "role": "assistant"})
        await stage.emit("TEXT_MESSAGE_CONTENT", "said, ")
        await stage.settle()
        disk.free.clear()
        await stage.emit("TEXT_MESSAGE_CONTENT", "being written")
        joined = await stage.attach()
        disk.free.set()
        await joined.read()
        assert msgpack.unpackb(joined.items[0].envelope[11])["messages"][0]["content"] == "said, "
        assert joined.text == "being written"
        await stage.close()

    run(main())


def test_a_cursor_out_of_the_window_or_out_of_range_is_refused() -> None:
    """Below what the log holds: OUT_OF_WINDOW and a snapshot. Beyond what was ever sent: the client's error."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, ring_events=4, retention_bytes=400).start()
        viewer = await stage.attach()
        for number in range(40):
            await stage.emit("CUSTOM", {"n": number})
        await stage.settle()
        await stage.directory.sweep()
        early = await (await stage.attach("early", inbox=Inbox(Cursor("the-epoch", 0, 1)))).read()
        assert (early.welcome["resume"], early.welcome["reason"]) == ("failed", "OUT_OF_WINDOW")
        with pytest.raises(PeerProtocolError, match="OUT_OF_RANGE"):
            await stage.attach("liar", inbox=Inbox(Cursor("the-epoch", 0, 41)))
        await viewer.read()
        await stage.close()

    run(main())


def test_a_failed_append_is_settled_by_claiming_again() -> None:
    """Whether the failed append wrote or not, each event is in the log once, in order, and all get through."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk).start()
        viewer = await stage.attach()
        disk.fail_after = True
        await stage.emit("CUSTOM", {"n": 1})
        await stage.settle()
        disk.fail_before = True
        await stage.emit("CUSTOM", {"n": 2})
        await stage.settle()
        disk.fail_before = False
        await asyncio.sleep(5)
        await stage.emit("CUSTOM", {"n": 3})
        await viewer.read()
        assert [msgpack.unpackb(item.envelope[11])["n"] for item in viewer.items] == [1, 2, 3]
        assert [entry.seq for entry in disk.kept["t/session/s"][1]] == [1, 2, 3]
        await stage.close()

    run(main())


def test_while_the_store_is_away_only_critical_events_are_taken() -> None:
    """New work is refused STORE_UNAVAILABLE, an interrupt is acted on and answered `volatile`."""

    async def main() -> None:
        disk = Disk()
        stage = await Stage(disk, pools=[PoolSpec("echo", ["ECHO"], _ignore)]).start()
        viewer = await stage.attach()
        disk.fail_before = True
        await stage.emit("CUSTOM", {"n": 1})
        await stage.settle()
        await viewer.send("ECHO", 1)
        await viewer.send("INTERRUPT", 2)
        await viewer.read()
        assert [answer[:2] for answers in viewer.told("refused") for answer in answers] == [[[1], "STORE_UNAVAILABLE"]]
        assert viewer.told("ok") == [[[2, 1, "volatile"]]]
        disk.fail_before = False
        await asyncio.sleep(5)
        await viewer.send("ECHO", 1)
        await viewer.read()
        assert viewer.told("ok")[-1] == [[1, 1, "durable"]]
        await stage.close()

    run(main())
