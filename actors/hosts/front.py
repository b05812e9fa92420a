"""One connected front, as a pool host sees it: what it may deliver, what it has delivered, what it is asked.

Law of this file: a front keeps to the room that it was told, counted as its cells count it: a critical
event uses the critical room first, then ordinary room. What it was told once it may use for as long
as it is connected, because a smaller share may cross with its deliveries. A cancel may come before
its delivery; the last ones are remembered.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from typing import Final

from laneway.actors.dispatch.books import ENDINGS
from laneway.actors.endings import expired, failed
from laneway.actors.hosts.delivery import Delivery, principal_of
from laneway.actors.hosts.peers import ASK, HANDLED, ROOM, Message, Peer
from laneway.actors.ports import Outcome, Principal
from laneway.routing.envelope import LANE
from laneway.routing.errors import HostLost, LocalProtocolError, PeerProtocolError
from laneway.routing.lanes import Lane

__all__ = ["Front", "Room", "outcome_of"]

_MAX_EARLY: Final = 1_024
"""Cancels kept for deliveries that have not come; more at once than all of a host's cells hold."""
_MAX_REASON_CHARS: Final = 500
_BATCH_BYTES: Final = 65_536
"""Of one HANDLED, and one delivery more: what one says last is at most a full message and the largest event."""
_ASK_SLACK_S: Final = 2.0
"""Beyond the asked time, for the way there and back: the front's own answer says more than ours."""


class Room:
    """What one front may have with one cell at once, and what it has.

    Attributes:
        told: (ordinary, critical) as it was told last. most: the most it was ever told, of each.
        active: the front counts among those who use the cell; the owner's to set.
        idle_at: when that ends, if it has nothing there until then.
    """

    __slots__ = ("_critical", "_ordinary", "active", "idle_at", "most", "told")

    def __init__(self) -> None:
        self.told = (0, 0)
        self.most = (0, 0)
        self.active = False
        self.idle_at = 0.0
        self._ordinary = 0
        self._critical = 0

    @property
    def busy(self) -> bool:
        """True while the front has an event with the cell."""
        return self._ordinary + self._critical > 0

    def tell(self, room: tuple[int, int]) -> None:
        """Remember what the front is told."""
        self.told = room
        self.most = (max(self.most[0], room[0]), max(self.most[1], room[1]))

    def enter(self, lane: int) -> bool:
        """Count an event in; False if it is one too many, and then it is not counted."""
        critical = lane == Lane.CRITICAL
        ordinary_now, critical_now = self._ordinary + (not critical), self._critical + critical
        if ordinary_now + max(0, critical_now - self.most[1]) > self.most[0]:
            return False
        self._ordinary, self._critical = ordinary_now, critical_now
        return True

    def leave(self, lane: int) -> None:
        """Count an event out."""
        if lane == Lane.CRITICAL:
            self._critical -= 1
        else:
            self._ordinary -= 1


class Front:
    """State of one connection; it ends with it.

    Attributes:
        rooms: cell -> what the front may have there. deliveries: number -> what it has delivered.
    """

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.rooms: dict[str, Room] = {}
        self.deliveries: dict[int, Delivery] = {}
        self._early: OrderedDict[int, str] = OrderedDict()
        self._asked: dict[int, asyncio.Future[Outcome]] = {}
        self._asks = itertools.count(1)
        self._handled: list[tuple[int, list[bytes]]] = []
        self._handled_bytes = 0
        self._principal: tuple[object, Principal] = (None, Principal(""))

    @property
    def asks(self) -> int:
        """Events that handlers have asked this front to dispatch, not answered."""
        return len(self._asked)

    def announce(self, pool: str, cell: str, room: tuple[int, int]) -> None:
        """Tell the front how much it may have with a cell, if that is news."""
        known = self.rooms.get(cell)
        if known is None:
            known = self.rooms[cell] = Room()
        elif known.told == room:
            return
        known.tell(room)
        self.peer.send((ROOM, 0, pool, cell, *room), urgent=True)

    def principal(self, fields: object) -> Principal:
        """As `principal_of`; mostly it is the same one again."""
        if self._principal[0] != fields:
            self._principal = (fields, principal_of(fields))
        return self._principal[1]

    # -- deliveries -----------------------------------------------------------------------------

    def enter(self, cell: str, delivery: Delivery) -> Room:
        """Take a delivery in; returns the room that it is in. Raises PeerProtocolError if it breaks the contract."""
        room = self.rooms.get(cell)
        if delivery.number in self.deliveries:
            raise PeerProtocolError(f"front {self.peer.name!r} used delivery number {delivery.number} twice")
        if room is None or not room.enter(delivery.env[LANE]):
            raise PeerProtocolError(
                f"front {self.peer.name!r} delivered more to cell {cell!r} than it has room for", reason="NO_ROOM"
            )
        self.deliveries[delivery.number] = delivery
        return room

    def leave(self, cell: str, delivery: Delivery) -> Room:
        """A delivery is over; returns the room that it leaves."""
        del self.deliveries[delivery.number]
        room = self.rooms[cell]
        room.leave(delivery.env[LANE])
        return room

    def active(self, cell: str) -> bool:
        """True if this front counts among those who use the cell."""
        room = self.rooms.get(cell)
        return room is not None and room.active

    def handled(self, number: int, said: list[bytes]) -> None:
        """Tell, with others of this turn of the loop, that an ordinary delivery was handled after saying this."""
        if not self._handled:
            asyncio.get_running_loop().call_soon(self.flush)
        self._handled.append((number, said))
        for packed in said:
            self._handled_bytes += len(packed)
        if self._handled_bytes > _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what waits for the end of this turn."""
        if self._handled:
            handled, self._handled, self._handled_bytes = self._handled, [], 0
            self.peer.send((HANDLED, 0, handled))

    # -- cancels that came early ----------------------------------------------------------------

    def remember(self, number: int, reason: str) -> None:
        """Keep a cancel for a delivery that is over or yet to come."""
        self._early[number] = reason[:_MAX_REASON_CHARS]
        if len(self._early) > _MAX_EARLY:
            self._early.popitem(last=False)

    def cancelled(self, number: int) -> str | None:
        """Return why a delivery that comes now was cancelled already, or None."""
        return self._early.pop(number, None) if self._early else None

    # -- asks -----------------------------------------------------------------------------------

    async def ask(self, delivery: Delivery, packed: bytes, timeout_s: float) -> Outcome:
        """Let the front dispatch an event for a delivery's handler; never raises for a failure.

        An asker that is cancelled takes its event with it.
        """
        number = next(self._asks)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            delivery.send((ASK, number, delivery.number, packed, timeout_s))
            async with asyncio.timeout(timeout_s + _ASK_SLACK_S):
                return await answer
        except TimeoutError:
            return expired()
        except LocalProtocolError as error:  # larger than a message may be
            return failed(error)
        finally:
            del self._asked[number]
            if answer.cancelled():
                delivery.send((ASK, number, delivery.number, None, 0.0))

    def answered(self, message: Message) -> None:
        """An ask came to something; nobody may wait for it any more."""
        _, number, *fields = message
        outcome = outcome_of(fields)
        answer = self._asked.get(number)
        if answer is not None and not answer.done():
            answer.set_result(outcome)

    def end_asks(self) -> None:
        """The front is lost: nothing will be answered."""
        for answer in self._asked.values():
            if not answer.done():
                message = f"front {self.peer.name!r} was lost before it answered"
                answer.set_result(Outcome("failed", code=HostLost.code, message=message, retryable=HostLost.retryable))


def outcome_of(fields: list[object]) -> Outcome:
    """Return an outcome that travelled as status, value, code, message, retryable.

    Raises PeerProtocolError if it is none.
    """
    if len(fields) != 5:
        raise PeerProtocolError("an outcome is told as status, value, code, message, retryable")
    status, value, code, message, retryable = fields
    if status not in ENDINGS or not isinstance(value, bytes) or not isinstance(code, str):
        raise PeerProtocolError(f"an outcome of status {str(status)[:20]!r} is none")
    return Outcome(str(status), value, code, str(message), retryable is True)
