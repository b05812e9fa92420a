"""Every question ends, with what the other side said or why it said nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from laneway.actors.hosts.peers import REPLY, REQUEST, Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.switchboard import Switchboard
from laneway.routing.errors import (
    DeadlineExceeded,
    HandlerFailed,
    HostLost,
    LocalProtocolError,
    Overloaded,
    PeerProtocolError,
    RateLimited,
    RuntimeUnavailable,
)
from tests.actors.pairs import End, connect


class _Pair:
    """Two hosts with questions; `mine` asks, `theirs` answers service "echo"."""

    def __init__(self, **options: Any) -> None:
        self.mine, self.theirs = Questions(), Questions(**options)
        left, right = Switchboard(), Switchboard()
        left.add(self.mine)
        right.add(self.theirs)
        self.peer: End
        self.peer, self.back = connect(left, right)
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.theirs.serve("echo", self.answer)

    async def answer(self, peer: Peer, method: str, arguments: Any) -> Any:
        self.begun.append(method)
        try:
            if method == "wait":
                await asyncio.sleep(arguments)
            elif method == "refuse":
                raise RateLimited("slowly", reason="HERE", retry_after_ms=20)
            elif method == "bug":
                raise KeyError(arguments)
            elif method == "object":
                return object()
            return [peer.name, method, arguments]
        finally:
            self.ended.append(method)

    async def ask(self, method: str, arguments: Any = None, timeout_s: float = 5.0) -> Any:
        return await self.mine.ask(self.peer, "echo", method, arguments, timeout_s)


def test_a_question_is_answered(rig: SimpleNamespace) -> None:
    """Plain data goes there and comes back; the handler knows who asks."""

    async def scenario() -> Any:
        return await _Pair().ask("say", {"a": [1, b"b", None]})

    assert rig.run(scenario()) == ["left", "say", {"a": [1, b"b", None]}]


def test_errors_are_raised_at_the_asker(rig: SimpleNamespace) -> None:
    """An error of the tree keeps class, reason and delay; anything else is HANDLER_FAILED."""

    async def scenario() -> None:
        pair = _Pair()
        with pytest.raises(RateLimited) as refused:
            await pair.ask("refuse")
        assert (refused.value.message, refused.value.reason, refused.value.retry_after_ms) == ("slowly", "HERE", 20)
        with pytest.raises(HandlerFailed, match="KeyError"):
            await pair.ask("bug", 7)
        with pytest.raises(LocalProtocolError, match="cannot be packed"):
            await pair.ask("object")
        with pytest.raises(PeerProtocolError, match="nobody here answers") as unknown:
            await pair.mine.ask(pair.peer, "other", "say", None, 1.0)
        assert unknown.value.reason == "UNKNOWN_SERVICE"
        assert pair.peer.alive, "a question that fails is no trouble of the connection"
        assert pair.mine.under_way == pair.theirs.under_way == 0

    rig.run(scenario())


def test_a_question_has_a_deadline(rig: SimpleNamespace) -> None:
    """An asker waits as long as it said; a late answer is dropped."""

    async def scenario() -> None:
        pair, began = _Pair(), asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded, match=r"echo\.wait within 2 s"):
            await pair.ask("wait", 3.0, timeout_s=2.0)
        assert asyncio.get_running_loop().time() - began == pytest.approx(2.0, abs=0.01)
        assert (await pair.ask("say", 1))[2] == 1
        await asyncio.sleep(2.0)
        assert pair.ended == ["say", "wait"]
        assert pair.peer.alive
        assert pair.mine.under_way == pair.theirs.under_way == 0

    rig.run(scenario())


def test_an_answer_has_a_deadline_too(rig: SimpleNamespace) -> None:
    """A handler that hangs is stopped, and its asker is told."""

    async def scenario() -> None:
        pair = _Pair(answer_s=1.0)
        with pytest.raises(DeadlineExceeded, match="not answered within 1 s"):
            await pair.ask("wait", 60.0)
        assert pair.ended == ["wait"]

    rig.run(scenario())


def test_a_lost_host_ends_both_sides(rig: SimpleNamespace) -> None:
    """The asker gets HOST_LOST, the handler is cancelled, and later questions are not asked at all."""

    async def scenario() -> None:
        pair = _Pair()
        asked = asyncio.ensure_future(pair.ask("wait", 60.0))
        await asyncio.sleep(1.0)
        assert pair.begun == ["wait"]
        pair.peer.cut()
        with pytest.raises(HostLost, match="lost before it answered"):
            await asked
        await asyncio.sleep(0)
        assert pair.ended == ["wait"]
        with pytest.raises(RuntimeUnavailable, match="was not asked"):
            await pair.ask("say")

    rig.run(scenario())


def test_only_so_many_are_under_way(rig: SimpleNamespace) -> None:
    """What goes beyond the bound is refused at once, here or there, and the others are answered."""

    async def scenario() -> None:
        pair = _Pair(max_under_way=2)
        first = [asyncio.ensure_future(pair.ask("wait", 1.0)) for _ in range(2)]
        await asyncio.sleep(0.5)
        with pytest.raises(Overloaded) as refused:
            await pair.ask("say")
        assert refused.value.retry_after_ms
        assert await asyncio.gather(*first) == [["left", "wait", 1.0]] * 2
        assert await pair.ask("say")
        own = Questions(max_under_way=0)
        own.connected(pair.peer)
        with pytest.raises(Overloaded):
            await own.ask(pair.peer, "echo", "say", None, 1.0)

    rig.run(scenario())


def test_an_asker_may_go_away(rig: SimpleNamespace) -> None:
    """A cancelled asker leaves nothing behind, also if the answer, or the loss, comes at the same moment."""

    async def scenario() -> None:
        pair = _Pair()
        asked = asyncio.ensure_future(pair.ask("wait", 1.0))
        await asyncio.sleep(0.5)
        pair.peer.cut()
        asyncio.get_running_loop().call_soon(asked.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert pair.mine.under_way == 0

    rig.run(scenario())


def test_closing_ends_everything(rig: SimpleNamespace) -> None:
    """Handlers are cancelled and awaited, askers are told, and nothing new is taken."""

    async def scenario() -> None:
        pair = _Pair()
        asked = asyncio.ensure_future(pair.ask("wait", 60.0))
        await asyncio.sleep(1.0)
        await pair.theirs.close()
        await pair.theirs.close()
        assert pair.ended == ["wait"]
        await pair.mine.close()
        with pytest.raises(RuntimeUnavailable, match="closing"):
            await asked
        with pytest.raises(RuntimeUnavailable):
            await pair.ask("say")

    rig.run(scenario())


def test_a_service_belongs_to_one(rig: SimpleNamespace) -> None:
    """A second handler of a name is a bug that shows at once."""

    async def scenario() -> None:
        pair = _Pair()
        with pytest.raises(LocalProtocolError, match="echo"):
            pair.theirs.serve("echo", pair.answer)

    rig.run(scenario())


@pytest.mark.parametrize(
    "message", [(REQUEST, 1), (REPLY, 1, None), (REQUEST, 1, "echo", "wait", 9.0)], ids=["short", "reply", "twice"]
)
def test_who_breaks_the_contract_loses_its_connection(rig: SimpleNamespace, message: Any) -> None:
    """A message of the wrong form, or a number used twice, ends the connection with a typed error."""

    async def scenario() -> None:
        pair = _Pair()
        pair.peer.send((REQUEST, 1, "echo", "wait", 9.0))
        await asyncio.sleep(0.1)
        pair.peer.send(message)
        await asyncio.sleep(0.1)
        assert not pair.peer.alive
        assert pair.ended == ["wait"]

    rig.run(scenario())


def test_an_unreadable_error_ends_the_connection(rig: SimpleNamespace) -> None:
    """The asker of a reply that makes no sense learns that its host is lost."""

    async def scenario() -> None:
        pair = _Pair()
        asked = asyncio.ensure_future(pair.ask("wait", 60.0))
        await asyncio.sleep(0.1)
        pair.back.send((REPLY, 1, None, "what"))
        with pytest.raises(HostLost):
            await asked

    rig.run(scenario())
