"""What a front shares with the others of its cluster: who is at home where, and the ways between them.

Law of this file: made with the engine, since its directory asks where homes are; nothing here knows
who carries messages. The engine closes its directory first, so that links end as that says.
"""

from __future__ import annotations

from collections.abc import Callable

from laneway.actors.couriers import Couriers
from laneway.actors.deeds import Life
from laneway.actors.directory import SessionDirectory
from laneway.actors.flow import Flow
from laneway.actors.fronts import Fronts
from laneway.actors.homes import Homes
from laneway.actors.parcels import Parcels
from laneway.actors.ports import Clock, Store
from laneway.actors.questions import Questions
from laneway.actors.reception import Reception
from laneway.actors.relay import Relay
from laneway.actors.switchboard import Switchboard
from laneway.actors.ways import Ways
from laneway.engine.app.packing import HostPacking
from laneway.routing.classify import KindTable

__all__ = ["Neighbours"]


class Neighbours:
    """The parts of one front that talk with other hosts about sessions.

    Args:
        name: of this front, unique in its cluster.

    Attributes:
        board: what other hosts send. questions: asked of them, and theirs.
        homes: which sessions are this front's. ways: to all others.
        fronts: the sessions of the whole cluster; after `bind`.
    """

    def __init__(self, name: str, store: Store) -> None:
        self.board = Switchboard()
        self.questions = Questions()
        self.board.add(self.questions)
        peers = self.board.peers
        self.homes = Homes(name, "", store, shared=store.shared, questions=self.questions, peers=peers)
        self.ways = Ways(self.homes, peers)
        self.fronts: Fronts
        self._reception: Reception
        self._couriers: Couriers

    def bind(
        self,
        directory: SessionDirectory,
        clock: Clock,
        kinds: KindTable,
        on_lost: Callable[[set[Life]], None] = lambda lives: None,
    ) -> Fronts:
        """Name the directory (it needs `homes`, so it comes second); returns the way in for everybody."""
        flow, parcels = Flow(), Parcels(HostPacking(kinds), clock)
        relay = Relay(flow, parcels)
        self._reception = Reception(directory, flow, parcels)
        self._couriers = Couriers(directory, flow, parcels)
        for part in (flow, relay, self._reception, self._couriers):
            self.board.add(part)
        self.fronts = Fronts(
            self.homes,
            directory,
            ways=self.ways,
            relay=relay,
            couriers=self._couriers,
            questions=self.questions,
            parcels=parcels,
            on_lost=on_lost,
        )
        return self.fronts

    async def close(self) -> None:
        """End what is under way; after the directory. Idempotent."""
        await self._reception.close()
        await self._couriers.close()
        await self.fronts.close()
        await self.questions.close()
