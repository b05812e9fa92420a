"""Documents of a cluster: each at home with one front, edited and followed from all of them.

Law of this file: an event goes to its document's home and is answered from there; whether it is the home,
the home decides, by the claim of the document's log. When a home is lost or gives a document up, every
front follows it anew, for its own sessions, wherever it is then. What was done may be done again over it:
updates are the same twice, and a follower that asks anew is told everything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

from laneway.actors.fronts.parcels import Parcels
from laneway.actors.homes.deeds import Life
from laneway.actors.homes.homes import Homes
from laneway.actors.homes.ways import Ways
from laneway.actors.hosts.peers import Message, Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.ports import Context, Out
from laneway.actors.sync.documents import Documents
from laneway.actors.sync.following import Document, Following
from laneway.actors.sync.room import document_key
from laneway.routing.envelope import ENTITY, TENANT, Envelope
from laneway.routing.errors import Fenced, LanewayError, PeerProtocolError

__all__ = ["SharedDocuments"]

_log: Final = logging.getLogger(__name__)
_SERVICE: Final = "documents"
_HANDLE_S: Final = 30.0
_TELL_S: Final = 5.0
_AGAIN: Final = 10
_PAUSE_S: Final = 1.0


class _Gathered:
    """The context of an event of another front: what is emitted travels back with the answer."""

    def __init__(self) -> None:
        self.outs: list[Out] = []

    async def emit(self, out: Out) -> None:
        """Keep."""
        self.outs.append(out)


class SharedDocuments:
    """The state pool's handler where there are several fronts; also a `switchboard.Part`, without verbs.

    Args:
        make: makes the documents of this front, told what to call with (tenant, name) of a document with
            followers that turned out to be at home elsewhere; called with the first event.
    """

    def __init__(
        self,
        make: Callable[[Callable[[str, str], None]], Documents],
        *,
        homes: Homes,
        ways: Ways,
        questions: Questions,
        parcels: Parcels,
    ) -> None:
        self._make = make
        self._homes = homes
        self._ways = ways
        self._questions = questions
        self._parcels = parcels
        self._following = Following()
        self._documents: Documents | None = None
        self._rejoining: dict[Document, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        questions.serve(_SERVICE, self._answer)

    @property
    def own(self) -> Documents:
        """The documents that are at home here."""
        if self._documents is None:
            self._documents = self._make(self._moved)
        return self._documents

    async def handle(self, env: Envelope, context: Context) -> None:
        """Take one event to its document, wherever it is at home. Raises what it raises there, or cannot be reached."""
        for out in await self._take(env):
            await context.emit(out)

    async def handle_all(self, envs: Sequence[Envelope], contexts: Sequence[Context]) -> list[BaseException | None]:
        """Take events, those of one document in order; returns of each None, or what `handle` raises."""
        handled = (self.handle(env, context) for env, context in zip(envs, contexts, strict=True))
        return await asyncio.gather(*handled, return_exceptions=True)

    async def _take(self, env: Envelope) -> list[Out]:
        """As `handle`; returns what is to be emitted to the event's session."""
        key = document_key(env[TENANT], env[ENTITY])
        if self._homes.holds(key):
            try:
                outs = await self._take_here(env)
            except Fenced:
                outs = await self._ways.reach(key, partial(self._take_here, env), partial(self._take_there, env))
        else:
            outs = await self._ways.reach(key, partial(self._take_here, env), partial(self._take_there, env))
        document = (env[TENANT], env[ENTITY])
        if self._following.note(env, self._ways.at(key) or self._homes.name):
            self._follow_again(document)
        return outs

    async def _take_here(self, env: Envelope) -> list[Out]:
        gathered = _Gathered()
        await self.own.handle(env, cast(Context, gathered))
        return gathered.outs

    async def _take_there(self, env: Envelope, peer: Peer) -> list[Out]:
        (item,) = self._parcels.pack((env,))
        rows = await self._questions.ask(peer, _SERVICE, "handle", item, _HANDLE_S)
        return [Out(*row) for row in rows]

    # -- following ------------------------------------------------------------------------------------

    def leave(self, tenant: str, session: str) -> None:
        """A session of this front has gone: end its subscriptions wherever they are."""
        if self._documents is not None:
            self._documents.leave(tenant, session)
        for front in self._following.leave(tenant, session) - {self._homes.name}:
            self._start(self._tell(front, "leave", [tenant, session]), f"leave documents of {front}")

    def lost(self, peer: Peer, error: LanewayError) -> None:
        """What is followed there is asked for again when it is back, or elsewhere."""

    def connected(self, peer: Peer) -> None:
        """What was told over a former connection may be lost with it: ask again."""
        for document in self._following.at({peer.name}):
            self._follow_again(document)

    def handlers(self) -> Mapping[int, Callable[[Peer, Message], None]]:
        """No verbs: documents are asked by questions."""
        return {}

    def on_lost(self, lives: Iterable[Life]) -> None:
        """Fronts are over: whatever was at home there is followed where it is now."""
        for document in self._following.at({life.name for life in lives}):
            self._follow_again(document)

    def give_up(self, keys: set[str] | None, error: Fenced) -> None:
        """These documents (keys of their logs; None = all) are other fronts' by now."""
        if self._documents is not None:
            self._documents.give_up(keys, error)

    def _moved(self, tenant: str, name: str) -> None:
        """A document that sessions follow here is at home elsewhere: whoever follows it asks there."""
        self._follow_again((tenant, name))
        for peer in self._ways.others():
            self._start(self._tell(peer.name, "moved", [tenant, name]), f"tell {peer.name} of a document")

    def _follow_again(self, document: Document) -> None:
        if document not in self._rejoining and not self._homes.draining:
            task = self._start(self._rejoin(document), f"follow {document[1]} again")
            self._rejoining[document] = task
            task.add_done_callback(lambda _: self._rejoining.pop(document, None))

    async def _rejoin(self, document: Document) -> None:
        """Make every session of this front follow a document as before; tries for a while."""
        for _ in range(_AGAIN):
            try:
                for env in self._following.again(document):
                    await self._take(env)
                return
            except LanewayError as error:
                if self._homes.over or self._homes.draining:
                    return
                _log.warning("document %s cannot be followed again yet: %s", document[1], error)
            await asyncio.sleep(_PAUSE_S)

    # -- between fronts -------------------------------------------------------------------------------

    async def _tell(self, front: str, method: str, arguments: Sequence[str]) -> None:
        for peer in self._ways.others():
            if peer.name == front:
                try:
                    await self._questions.ask(peer, _SERVICE, method, arguments, _TELL_S)
                except LanewayError as error:
                    _log.warning("front %s was not told %s of documents: %s", front, method, error)

    async def _answer(self, peer: Peer, method: str, arguments: Any) -> Any:
        if method == "handle":
            (env,) = self._parcels.unpack((arguments,))
            return [[out.kind, out.body, out.entity] for out in await self._take_here(env)]
        if method == "leave":
            if self._documents is not None:
                self._documents.leave(*arguments)
            return None
        if method == "moved":
            tenant, name = arguments
            if self._following.front((tenant, name)):
                self._follow_again((tenant, name))
            return None
        raise PeerProtocolError(f"{_SERVICE}.{method} is not answered here", reason="UNKNOWN_CALL")

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Log what waits, and end what is under way; idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._documents is not None:
            await self._documents.close()
