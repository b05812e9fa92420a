"""What a front shares with the others of its cluster: who is at home where, and the ways between them.

Law of this file: made with the engine, since its directory asks where homes are; nothing here knows
who carries messages. The engine closes its directory first, so that links end as that says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.fronts.couriers import Couriers
from laneway.actors.fronts.flow import Flow
from laneway.actors.fronts.fronts import Fronts
from laneway.actors.fronts.parcels import Parcels
from laneway.actors.fronts.reception import Reception
from laneway.actors.fronts.relay import Relay
from laneway.actors.homes.deeds import Life
from laneway.actors.homes.homes import Homes
from laneway.actors.homes.ways import Ways
from laneway.actors.hosts.questions import Questions
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.ports import Clock, Store
from laneway.actors.sync.shared import SharedDocuments
from laneway.engine.app.packing import HostPacking
from laneway.routing.classify import KindTable
from laneway.routing.errors import Fenced
from laneway.routing.membership import View

if TYPE_CHECKING:
    from laneway.actors.sync.documents import Documents

__all__ = ["Neighbours"]


class Neighbours:
    """The parts of one front that talk with other hosts about sessions.

    Args:
        name: of this front, unique in its cluster.

    Attributes:
        board: what other hosts send. questions: asked of them, and theirs.
        homes: which sessions are this front's. ways: to all others.
        fronts: the sessions of the whole cluster; after `bind`. relay, reception: links to other fronts, and theirs.
    """

    def __init__(self, name: str, store: Store) -> None:
        self.board = Switchboard()
        self.questions = Questions()
        self.board.add(self.questions)
        peers = self.board.peers
        self.homes = Homes(name, store, shared=store.shared, questions=self.questions, peers=peers)
        self.ways = Ways(self.homes, peers)
        self.fronts: Fronts
        self.relay: Relay
        self.reception: Reception
        self._couriers: Couriers
        self._parcels: Parcels
        self._documents: SharedDocuments | None = None

    def bind(
        self,
        directory: SessionDirectory,
        clock: Clock,
        kinds: KindTable,
        flow: Flow | None = None,
    ) -> Fronts:
        """Name the directory (it needs `homes`, so it comes second); returns the way in for everybody.

        Args:
            flow: bounds what is relayed to each other front.
        """
        flow, parcels = flow or Flow(), Parcels(HostPacking(kinds), clock)
        self._parcels = parcels
        self.relay = Relay(flow, parcels)
        self.reception = Reception(directory, flow, parcels)
        self._couriers = Couriers(directory, flow, parcels)
        for part in (flow, self.relay, self.reception, self._couriers):
            self.board.add(part)
        self.fronts = Fronts(
            self.homes,
            directory,
            ways=self.ways,
            relay=self.relay,
            couriers=self._couriers,
            questions=self.questions,
            parcels=parcels,
            on_lost=self._lost,
            on_given_up=self._given_up,
        )
        return self.fronts

    def share(self, make: Callable[[Callable[[str, str], None]], Documents]) -> SharedDocuments:
        """Return the handler of document events; after `bind`, before the first connection.

        Args:
            make: as for SharedDocuments; called with the first event, so that a CRDT library is loaded then.
        """
        self._documents = SharedDocuments(
            make, homes=self.homes, ways=self.ways, questions=self.questions, parcels=self._parcels
        )
        self.board.add(self._documents)
        return self._documents

    def begin(self, incarnation: str) -> None:
        """A life of this front begins, the first one or after `drop`."""
        self.homes.begin(incarnation)

    def saw(self, view: View) -> None:
        """Take the newest membership view."""
        self.fronts.saw(view)

    def drop(self) -> None:
        """This life was declared over: what is at home here is given up, and nothing more is written for it."""
        self.fronts.drop()

    def _lost(self, lives: set[Life]) -> None:
        if self._documents is not None:
            self._documents.on_lost(lives)

    def _given_up(self, keys: set[str] | None, error: Fenced) -> None:
        if self._documents is not None:
            self._documents.give_up(keys, error)

    async def close(self) -> None:
        """End what is under way; after the directory. Idempotent."""
        await self.reception.close()
        await self._couriers.close()
        await self.fronts.close()
        await self.questions.close()
