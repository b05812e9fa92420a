"""Whether the other fronts have all their homes on record: asked once of each life.

Law of this file: a front that was alone kept no records, so the absence of one proves nothing until
every other front has said that what is at home with it is on record. A front says so once it is true,
and from then on it stays true.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from laneway.actors.homes.deeds import Life
from laneway.actors.hosts.peers import Peer
from laneway.actors.hosts.questions import Questions
from laneway.routing.errors import LanewayError, PeerProtocolError, RuntimeUnavailable

__all__ = ["Stands"]

_SERVICE: Final = "homes"
_STAND: Final = "stand"
_PATIENCE_S: Final = 3.0
"""Longer than a dead front stays a member (2 s), so that whoever does not answer is gone by then."""
_PAUSE_S: Final = 0.05
_RETRY_MS: Final = 200


class Stands:
    """Asks, remembers and answers.

    Args:
        peers: live connections by the name of the other host.
        stand: brings all homes here on record and returns whether this front takes new ones; called
            with the number of the asker's membership view.
    """

    def __init__(
        self, questions: Questions, peers: Mapping[str, Peer], stand: Callable[[int], Awaitable[bool]]
    ) -> None:
        self._questions = questions
        self._peers = peers
        self._stand = stand
        self._heard: dict[Life, bool] = {}
        self._full: set[Life] = set()
        questions.serve(_SERVICE, self._answer)

    def takes(self, life: Life) -> bool:
        """Whether a front takes new homes, as far as is known: true until it said otherwise."""
        return life not in self._full and self._heard.get(life, True)

    def full(self, life: Life) -> None:
        """Remember that a front takes none any more: it is shutting down, and that has no way back."""
        self._full.add(life)

    def knows(self, life: Life) -> bool:
        """Whether this front has said that it stands."""
        return life in self._heard

    def keep(self, lives: Sequence[Life]) -> None:
        """Forget all others."""
        self._heard = {life: self._heard[life] for life in lives if life in self._heard}
        self._full.intersection_update(lives)

    async def hear(self, lives: Sequence[Life], view: int, is_member: Callable[[Life], bool]) -> None:
        """Return once each of these has said that it stands, or is no member any more.

        Raises RuntimeUnavailable if one does neither within 3 s.
        """
        ends = asyncio.get_running_loop().time() + _PATIENCE_S
        for life in lives:
            if life not in self._heard:
                await self._hear(life, view, is_member, ends)

    async def _hear(self, life: Life, view: int, is_member: Callable[[Life], bool], ends: float) -> None:
        while is_member(life):
            peer = self._peers.get(life.name)
            left_s = ends - asyncio.get_running_loop().time()
            if left_s <= 0:
                raise RuntimeUnavailable(
                    f"front {life.name!r} is a member, but cannot be asked what is at home with it; try again",
                    retry_after_ms=_RETRY_MS,
                )
            if peer is not None and peer.incarnation == life.incarnation:
                try:
                    takes = await self._questions.ask(peer, _SERVICE, _STAND, view, left_s)
                except LanewayError:
                    pass  # it was lost, or is late: is it still a member?
                else:
                    self._heard[life] = bool(takes)
                    return
            await asyncio.sleep(_PAUSE_S)

    async def _answer(self, peer: Peer, method: str, arguments: Any) -> bool:
        if method != _STAND or type(arguments) is not int:
            raise PeerProtocolError(f"{_SERVICE}.{method} is not answered here", reason="UNKNOWN_CALL")
        return await self._stand(arguments)
