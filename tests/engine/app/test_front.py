"""One life of a front: listening, heard of, over."""

from __future__ import annotations

import asyncio
import os

from laneway.actors.hosts.switchboard import Switchboard
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.front import Front
from laneway.engine.config import RuntimeConfig
from laneway.engine.runtime.program import HostFacts
from laneway.routing.errors import HostLost
from laneway.routing.membership import FRONT, Member, View


def test_a_life_begins_connects_and_is_over() -> None:
    """Two fronts find each other by the view; the end of one is told to its engine, and to the other."""
    heard: list[str] = []

    def front(name: str, board: Switchboard) -> tuple[Front, HostFacts]:
        made = Front(
            board,
            SystemClock(),
            RuntimeConfig(),
            began=lambda incarnation: heard.append(f"{name} begins {incarnation}"),
            saw=lambda view: heard.append(f"{name} sees {len(view.members)}"),
            over=lambda: heard.append(f"{name} is over"),
        )
        return made, HostFacts("c", name, "1", "", "n", "127.0.0.1", os.getpid(), "s" * 32, "1", b"")

    async def main() -> None:
        boards = Switchboard(), Switchboard()
        (one, of_one), (two, of_two) = front("a", boards[0]), front("b", boards[1])
        first, second = await one.start(of_one), await two.start(of_two)
        assert first.role == FRONT
        view = View(1, (Member("a", "1", FRONT, first.address), Member("b", "1", FRONT, second.address)), settled=True)
        two.saw(view)
        one.saw(view)
        while not (boards[0].peers and boards[1].peers):  # noqa: ASYNC110 - at two boards
            await asyncio.sleep(0.001)
        assert one.statistics() == {"peers": ["b"]}
        one.dropped(HostLost("dropped"))
        await one.drain(0.0)
        await one.close()
        while boards[1].peers:  # noqa: ASYNC110 - boards tell parts, not tests
            await asyncio.sleep(0.001)
        await two.close()

    async def bounded() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(bounded())
    assert heard == ["a begins 1", "b begins 1", "b sees 2", "a sees 2", "a is over"]
