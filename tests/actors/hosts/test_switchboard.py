"""A message finds its part, and one that cannot be taken ends its connection and no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from laneway.actors.hosts.peers import CANCEL, DELIVER, ROOM, Message, Peer
from laneway.actors.hosts.switchboard import Switchboard
from laneway.routing.errors import LanewayError, LocalProtocolError
from tests.actors.pairs import connect


class _Part:
    def __init__(self, *verbs: int, fail: bool = False) -> None:
        self.verbs, self.fail = verbs, fail
        self.came: list[Message] = []
        self.peers: list[str] = []
        self.errors: list[LanewayError] = []

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        return dict.fromkeys(self.verbs, self._take)

    def _take(self, peer: Peer, message: Message) -> None:
        if self.fail:
            raise KeyError("a bug")
        self.came.append(message)

    def connected(self, peer: Peer) -> None:
        self.peers.append(peer.name)

    def lost(self, peer: Peer, error: LanewayError) -> None:
        self.errors.append(error)


def test_each_part_gets_its_verbs_and_all_learn_of_peers() -> None:
    """The verb decides who takes a message; connections are everybody's."""

    async def scenario() -> tuple[_Part, _Part]:
        board, other, rooms, cancels = Switchboard(), Switchboard(), _Part(ROOM), _Part(CANCEL)
        board.add(rooms)
        board.add(cancels)
        _, theirs = connect(board, other)
        theirs.send((ROOM, 1))
        theirs.send((CANCEL, 2), urgent=True)
        await asyncio.sleep(0)
        assert set(board.peers) == {"right"}
        return rooms, cancels

    rooms, cancels = asyncio.run(scenario())
    assert rooms.came == [(ROOM, 1)]
    assert cancels.came == [(CANCEL, 2)]
    assert rooms.peers == cancels.peers == ["right"]


def test_a_verb_belongs_to_one_part() -> None:
    """A second part for a verb, or a verb that does not exist, is a bug that shows at once."""
    board = Switchboard()
    board.add(_Part(ROOM))
    with pytest.raises(LocalProtocolError, match="handled by another part"):
        board.add(_Part(ROOM, CANCEL))
    with pytest.raises(LocalProtocolError, match="do not exist"):
        board.add(_Part(4711))


@pytest.mark.parametrize(("verb", "words"), [(DELIVER, "nothing here handles"), (ROOM, "KeyError")])
def test_what_cannot_be_taken_ends_its_connection_only(verb: int, words: str) -> None:
    """An unknown verb and a failing handler close that peer; another one goes on."""

    async def scenario() -> tuple[_Part, bool, bool]:
        board, first, second, part = Switchboard(), Switchboard(), Switchboard(), _Part(ROOM, fail=True)
        board.add(part)
        _, bad = connect(board, first, "board", "bad")
        _, good = connect(board, second, "board", "good")
        bad.send((verb, 1))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return part, bad.alive, good.alive

    part, bad_alive, good_alive = asyncio.run(scenario())
    assert not bad_alive
    assert good_alive
    assert [words in str(error) for error in part.errors] == [True]


def test_a_new_connection_of_a_host_ends_the_older_one() -> None:
    """A host that connects anew is the new one; the old connection's end does not remove it."""

    async def scenario() -> tuple[bool, bool]:
        board, other = Switchboard(), Switchboard()
        older, _ = connect(board, other)
        newer, _ = connect(board, other, incarnation="2")
        await asyncio.sleep(0)
        return older.alive, board.peers["right"] is newer

    assert asyncio.run(scenario()) == (False, True)
