"""Several fronts in one loop that know each other: switchboards, questions and homes, joined in memory.

Law of this file: nothing happens by itself. The test says who is a member, who is connected and who is lost.
"""

from __future__ import annotations

from laneway.actors.homes import Homes
from laneway.actors.ports import Store
from laneway.actors.questions import Questions
from laneway.actors.switchboard import Switchboard
from laneway.routing.membership import FRONT, POOL, Member, View
from tests.actors.pairs import End, connect

__all__ = ["Town", "Villager"]


class Villager:
    """One front: what it has of others, and its homes."""

    def __init__(self, name: str, store: Store, *, shared: bool = True, incarnation: str = "1") -> None:
        self.name = name
        self.incarnation = incarnation
        self.store = store
        self.board = Switchboard()
        self.questions = Questions()
        self.board.add(self.questions)
        self.homes = Homes(name, incarnation, store, shared=shared, questions=self.questions, peers=self.board.peers)

    @property
    def member(self) -> Member:
        """As the membership has it."""
        return Member(self.name, self.incarnation, FRONT, f"{self.name}:1")


class Town:
    """The membership and the connections of some fronts."""

    def __init__(self) -> None:
        self.members: dict[str, Villager] = {}
        self.number = 0
        self.ends: dict[tuple[str, str], End] = {}

    def view(self, *, settled: bool = True) -> View:
        """Return the present members; a pool host is always among them."""
        rows = [villager.member for villager in self.members.values()]
        rows.append(Member("a-pool", "1", POOL, "a-pool:1"))
        return View(self.number, tuple(sorted(rows)), settled)

    def join(self, *villagers: Villager, tell: bool = True) -> None:
        """Make them members, connect them with those there, and tell everybody."""
        for villager in villagers:
            for other in self.members.values():
                self.link(other, villager)
            self.members[villager.name] = villager
            self.number += 1
        if tell:
            self.tell()

    def link(self, left: Villager, right: Villager) -> None:
        """Connect two."""
        ends = connect(left.board, right.board, left.name, right.name)
        ends[0].incarnation, ends[1].incarnation = right.incarnation, left.incarnation
        self.ends[left.name, right.name], self.ends[right.name, left.name] = ends

    def lose(self, name: str, *, tell: bool = True) -> None:
        """Its connections break, and it is no member any more."""
        del self.members[name]
        self.number += 1
        for (from_name, to_name), end in self.ends.items():
            if name in (from_name, to_name):
                end.cut()
        if tell:
            self.tell()

    def tell(self) -> None:
        """Tell every member the present view."""
        for villager in self.members.values():
            villager.homes.saw(self.view())

    async def close(self) -> None:
        """End everything."""
        for villager in self.members.values():
            await villager.homes.close()
            await villager.questions.close()
