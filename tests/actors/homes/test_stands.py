"""Asking other fronts whether their homes are on record."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.homes.deeds import Life
from laneway.actors.homes.stands import Stands
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.switchboard import Switchboard
from laneway.routing.errors import PeerProtocolError, RuntimeUnavailable, StoreError
from tests.actors.pairs import connect
from tests.simulation.loop import run

RIGHT = Life("right", "1")


class _Front:
    """One side: what it answers, and how often it was asked."""

    def __init__(self) -> None:
        self.board = Switchboard()
        self.questions = Questions()
        self.board.add(self.questions)
        self.asked: list[int] = []
        self.takes = True
        self.trouble: StoreError | None = None
        self.stands = Stands(self.questions, self.board.peers, self._stand)

    async def _stand(self, view: int) -> bool:
        self.asked.append(view)
        if self.trouble is not None:
            raise self.trouble
        return self.takes


def test_each_life_is_asked_once() -> None:
    """What it said is remembered, with whether it takes new homes; what is not asked about is taken to."""

    async def main() -> None:
        left, right = _Front(), _Front()
        connect(left.board, right.board)
        right.takes = False
        assert left.stands.takes(RIGHT)
        assert not left.stands.knows(RIGHT)
        for _ in range(2):
            await left.stands.hear([RIGHT], 5, lambda life: True)
        assert right.asked == [5]
        assert left.stands.knows(RIGHT)
        assert not left.stands.takes(RIGHT)
        left.stands.keep([])
        assert left.stands.takes(RIGHT)

    run(main())


def test_a_front_that_is_full_stays_so() -> None:
    """It is shutting down; what it said before does not count any more."""

    async def main() -> None:
        left, right = _Front(), _Front()
        connect(left.board, right.board)
        await left.stands.hear([RIGHT], 5, lambda life: True)
        left.stands.full(RIGHT)
        await left.stands.hear([RIGHT], 5, lambda life: True)
        assert not left.stands.takes(RIGHT)

    run(main())


def test_a_front_that_is_full_has_not_said_that_it_stands() -> None:
    """It has sessions still, which may not be on record: it is asked like any other."""

    async def main() -> None:
        left, right = _Front(), _Front()
        connect(left.board, right.board)
        left.stands.full(RIGHT)
        assert not left.stands.takes(RIGHT)
        assert not left.stands.knows(RIGHT)
        await left.stands.hear([RIGHT], 5, lambda life: True)
        assert right.asked == [5]
        assert left.stands.knows(RIGHT)
        assert not left.stands.takes(RIGHT)
        left.stands.keep([])
        assert left.stands.takes(RIGHT)

    run(main())


def test_one_that_cannot_answer_is_waited_for_while_it_lives() -> None:
    """Not connected, or with a store that is away: asked again; once it is no member, it counts no more."""

    async def main() -> None:
        left, right = _Front(), _Front()
        loop = asyncio.get_running_loop()
        with pytest.raises(RuntimeUnavailable) as caught:
            await left.stands.hear([RIGHT], 5, lambda life: True)
        assert caught.value.retry_after_ms == 200
        leaves_at = loop.time() + 1
        await left.stands.hear([RIGHT], 5, lambda life: loop.time() < leaves_at)
        assert not left.stands.knows(RIGHT)
        hearing = asyncio.create_task(left.stands.hear([RIGHT], 5, lambda life: True))
        right.trouble = StoreError("the store is away")
        connect(left.board, right.board)
        await asyncio.sleep(0.3)
        right.trouble = None
        await hearing
        assert left.stands.knows(RIGHT)

    run(main())


def test_another_life_of_the_same_name_does_not_answer_for_it() -> None:
    """The connection must be with the life that is asked about."""

    async def main() -> None:
        left, right = _Front(), _Front()
        connect(left.board, right.board, incarnation="2")
        with pytest.raises(RuntimeUnavailable):
            await left.stands.hear([RIGHT], 5, lambda life: True)
        assert right.asked == []

    run(main())


def test_other_questions_are_refused() -> None:
    """By name, and with nothing done."""

    async def main() -> None:
        left, right = _Front(), _Front()
        peer, _ = connect(left.board, right.board)
        for method, arguments in (("sit", 1), ("stand", "1")):
            with pytest.raises(PeerProtocolError):
                await left.questions.ask(peer, "homes", method, arguments, 1.0)
        assert right.asked == []

    run(main())
