"""A front's records from another host: one question per call, away and back, and nothing else of the store."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from laneway.actors.hosts.peers import REQUEST
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.remote_records import RECORDS, RecordService, RemoteRecords
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.ports import Record
from laneway.actors.tools.entries import CallKey, Settled, digest
from laneway.actors.tools.ledger import Ledger, Ticket
from laneway.actors.tools.lifecycle import State
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.errors import AccessError, OutcomeUnknown, PeerProtocolError, StoreError
from tests.actors.pairs import End, connect


class _Host:
    """A pool host that asks the fronts it is connected to."""

    def __init__(self) -> None:
        self.questions, self.board = Questions(), Switchboard()
        self.board.add(self.questions)
        self.front: str | None = "front"
        self.records = RemoteRecords(self.questions, self.board.peers, lambda: self.front, timeout_s=2.0)

    def join(self, name: str, store: Any) -> End:
        questions, board = Questions(), Switchboard()
        questions.serve(RECORDS, RecordService(store))
        board.add(questions)
        return connect(self.board, board, "host", name)[0]


def test_get_and_put_are_one_question_each(rig: SimpleNamespace) -> None:
    """A whole tool call's ledger costs three messages: look up, intent, result."""

    async def scenario() -> None:
        host = _Host()
        peer = host.join("front", MemoryStore())
        ledger, hashed = Ledger(host.records), digest("pay", {"sum": 1})
        ticket = await ledger.claim(CallKey("t", "s", "r", "c"), hashed, repeatable=False)
        assert isinstance(ticket, Ticket)
        await ticket.start()
        assert await ticket.settle(Settled(State.SUCCEEDED, "1"))
        assert [message[3] for message in peer.sent] == ["get", "put", "put"]
        assert {message[0] for message in peer.sent} == {REQUEST}
        again = await Ledger(host.records).claim(CallKey("t", "s", "r", "c"), hashed, repeatable=False)
        assert again == Settled(State.SUCCEEDED, "1")

    rig.run(scenario())


def test_each_call_goes_to_the_front_of_that_moment(rig: SimpleNamespace) -> None:
    """Two fronts have ledgers of their own, and the one that is named now is asked."""

    async def scenario() -> None:
        host = _Host()
        host.join("front", MemoryStore())
        host.join("other", MemoryStore())
        assert await host.records.put("tool/k", b"1") > 0
        host.front = "other"
        assert await host.records.get("tool/k") == Record(0, b"")
        host.front = None
        with pytest.raises(StoreError, match="is away"):
            await host.records.get("tool/k")

    rig.run(scenario())


def test_a_front_that_is_away_is_a_store_error_until_it_is_back(rig: SimpleNamespace) -> None:
    """Lost in the middle, away, silent: each is retryable and says so; a new connection is used at once."""

    async def scenario() -> None:
        host, kept = _Host(), MemoryStore()
        with pytest.raises(StoreError, match="not connected") as away:
            await host.records.get("tool/k")
        assert away.value.retryable
        peer = host.join("front", kept)
        assert await host.records.get("tool/k") == Record(0, b"")
        peer.hold()
        with pytest.raises(StoreError, match="did not answer"):
            await host.records.get("tool/k")
        asked = asyncio.ensure_future(host.records.put("tool/k", b"1"))
        await asyncio.sleep(0.1)
        peer.cut()
        with pytest.raises(StoreError, match="lost before it answered"):
            await asked
        host.join("front", kept)
        assert await host.records.put("tool/k", b"2") > 0

    rig.run(scenario())


def test_an_effect_whose_record_cannot_be_written_is_never_repeated(rig: SimpleNamespace) -> None:
    """A front lost between effect and record leaves an intent: the next caller gets OUTCOME_UNKNOWN."""

    async def scenario() -> None:
        host, kept = _Host(), MemoryStore()
        peer = host.join("front", kept)
        ledger, key, hashed = Ledger(host.records), CallKey("t", "s", "r", "c"), digest("pay", {})
        ticket = await ledger.claim(key, hashed, repeatable=False)
        assert isinstance(ticket, Ticket)
        await ticket.start()
        peer.cut()
        await asyncio.sleep(0.1)
        assert not await ticket.settle(Settled(State.SUCCEEDED, "paid"))
        host.join("front", kept)
        with pytest.raises(OutcomeUnknown):
            await Ledger(host.records).claim(key, hashed, repeatable=False)

    rig.run(scenario())


def test_nothing_else_of_a_store_can_be_reached(rig: SimpleNamespace) -> None:
    """Not the logs, not other values, under whatever name: the host is refused, and nothing is read or written."""

    async def scenario() -> None:
        host, kept = _Host(), MemoryStore()
        peer = host.join("front", kept)
        await kept.put("home/t/session/s", b"front")
        for method, arguments in (
            ("get", ["home/t/session/s"]),
            ("put", ["home/t/session/s", b"mine", None, None]),
            ("get", [b"tool/k"]),
            ("get", [["tool/k"]]),
            ("claim", ["t/session/s"]),
            ("keys", ["", ""]),
            ("get", "tool/k"),
        ):
            with pytest.raises(AccessError, match="records of tool calls only"):
                await host.questions.ask(peer, RECORDS, method, arguments, 1.0)
        assert (await kept.get("home/t/session/s")).value == b"front"
        assert await kept.keys("") == []

    rig.run(scenario())


def test_a_question_that_is_no_call_is_refused(rig: SimpleNamespace) -> None:
    """An unknown method, or arguments that fit none, harm nobody."""

    async def scenario() -> None:
        host = _Host()
        peer = host.join("front", MemoryStore())
        for method, arguments in (("open", ["tool/k"]), ("get", ["tool/k", 1]), ("put", ["tool/k"])):
            with pytest.raises(PeerProtocolError, match=r"no call '\w+' with \d argument"):
                await host.questions.ask(peer, RECORDS, method, arguments, 1.0)
        assert peer.alive

    rig.run(scenario())
