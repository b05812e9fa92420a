"""The way to what is at home elsewhere."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.homes.ways import Ways
from laneway.actors.hosts.peers import Peer
from laneway.routing.errors import Draining, Fenced, HostLost, RuntimeUnavailable, UnknownSession
from tests.actors.pairs import End
from tests.simulation.loop import run


class _Homes:
    """Says what it was told, and notes what it is told."""

    def __init__(self, *places: str) -> None:
        self.name = "a"
        self.places = list(places)
        self.asked = 0
        self.refused: list[str] = []
        self.over = self.draining = False

    async def place(self, key: str) -> str:
        self.asked += 1
        return self.places.pop(0) if len(self.places) > 1 else self.places[0]

    def full(self, name: str) -> None:
        self.refused.append(name)


PEERS = {name: End(name, "1") for name in ("b", "c")}


async def _here() -> str:
    return "here"


async def _there(peer: Peer) -> str:
    return peer.name


def test_a_place_is_remembered_until_it_is_wrong() -> None:
    """The store is asked once; a refusal makes it look again; forgetting a front makes it too."""

    async def main() -> None:
        homes = _Homes("b", "c", "b")
        ways = Ways(homes, PEERS)  # type: ignore[arg-type]
        for _ in range(3):
            assert await ways.reach("k", _here, _there) == "b"
        assert (homes.asked, ways.at("k")) == (1, "b")

        async def moved(peer: Peer) -> str:
            if peer.name == "b":
                raise Fenced("it is elsewhere", reason="ELSEWHERE")
            return peer.name

        assert await ways.reach("k", _here, moved) == "c"
        assert (homes.asked, ways.at("k")) == (2, "c")
        ways.forget({"b"})
        assert ways.at("k") == "c"
        ways.forget({"c"})
        assert ways.at("k") == ""
        assert await ways.reach("k", _here, _there) == "b"
        ways.forget()
        assert ways.at("k") == ""

    run(main())


def test_what_is_here_is_done_here() -> None:
    """And is not remembered: the table of homes knows."""

    async def main() -> None:
        ways = Ways(_Homes("a"), PEERS)  # type: ignore[arg-type]
        assert await ways.reach("k", _here, _there) == "here"
        assert ways.at("k") == ""

    run(main())


def test_a_front_that_shuts_down_is_told_to_homes() -> None:
    """So that nothing new is placed there, and the next one is asked."""

    async def main() -> None:
        homes = _Homes("b", "c")

        async def busy(peer: Peer) -> str:
            if peer.name == "b":
                raise Draining("going")
            return peer.name

        assert await Ways(homes, PEERS).reach("k", _here, busy) == "c"  # type: ignore[arg-type]
        assert homes.refused == ["b"]

    run(main())


@pytest.mark.parametrize("kind", [Fenced, HostLost, RuntimeUnavailable])
def test_looking_ends_at_its_deadline(kind: type[Fenced]) -> None:
    """With the last reason; and at once if this front is over or shuts down itself."""

    async def main() -> None:
        homes = _Homes("b")

        async def never(peer: Peer) -> str:
            raise kind("not now")

        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(kind):
            await Ways(homes, PEERS).reach("k", _here, never, 3.0)  # type: ignore[arg-type]
        assert 2.4 < loop.time() - began <= 3.0
        for flag in ("over", "draining"):
            setattr(homes, flag, True)
            began = loop.time()
            with pytest.raises(kind):
                await Ways(homes, PEERS).reach("k", _here, never, 3.0)  # type: ignore[arg-type]
            assert loop.time() == began
            setattr(homes, flag, False)

    run(main())


def test_a_front_that_is_not_connected_is_waited_for() -> None:
    """It is a member, so it will be: the connection may be about to come."""

    async def main() -> None:
        peers: dict[str, Peer] = {}
        reaching = asyncio.create_task(Ways(_Homes("b"), peers).reach("k", _here, _there))  # type: ignore[arg-type]
        await asyncio.sleep(1)
        assert not reaching.done()
        peers["b"] = PEERS["b"]
        assert await reaching == "b"

    run(main())


def test_other_errors_are_the_asker_s() -> None:
    """They say what came of it, and are not tried again."""

    async def main() -> None:
        homes = _Homes("b")

        async def gone(peer: Peer) -> str:
            raise UnknownSession("asleep")

        with pytest.raises(UnknownSession):
            await Ways(homes, PEERS).reach("k", _here, gone)  # type: ignore[arg-type]
        assert homes.asked == 1

    run(main())
