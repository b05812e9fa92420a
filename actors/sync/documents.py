"""The state pool's handler: shared documents over DOC_SYNC, DOC_PATCH and PRESENCE events.

Law of this file: an event is answered when its change is in the log; a bad one raises its typed
error and harms nobody else; what a session is told goes through its view, paced, whatever others do.

How sessions take part (entity = document id):
  DOC_SYNC    a y-protocols sync message. Step 1 subscribes the session to frames: it gets step 2,
              a step 1 of ours, everybody's presence, then updates. A client's own updates are not
              echoed while it is the only client of its session that asked.
  DOC_PATCH   a JSON patch for the document's `state`; an empty array subscribes the session to the
              projection: STATE_SNAPSHOT at once, then STATE_DELTA (entity = document id) at most
              every 50 ms. Sent again, it asks for a new snapshot.
  PRESENCE    a y-protocols awareness message (or a query); always echoed to its sender, because
              y-websocket closes a connection that hears nothing for 30 s.
The subscription ends with `leave`, or when the session's home refuses events for good.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from itertools import groupby
from typing import Final

from laneway.actors.homes.homes import Homes, is_elsewhere
from laneway.actors.ports import Clock, Context, Out, Outlet, Probe, Store
from laneway.actors.sync.bounds import DocumentsStatistics, SyncPolicy
from laneway.actors.sync.document import DocumentEngine
from laneway.actors.sync.edits import Answer, Edit, carries_update, edits_in, parse
from laneway.actors.sync.lib0 import refuse
from laneway.actors.sync.messages import MessageType, decode_message, decode_vector, encode_message, encode_vector
from laneway.actors.sync.patch import parse as parse_patch
from laneway.actors.sync.room import Room
from laneway.actors.sync.space import least_needed, make_space, statistics
from laneway.actors.sync.teller import Teller
from laneway.actors.sync.views import FrameView, View
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, KIND, PRODUCER, SESSION, TENANT, TRACE, Envelope
from laneway.routing.errors import Draining, Fenced, LaneFull, LanewayError, LocalProtocolError, PeerProtocolError

__all__ = ["Documents"]

_MAX_NAME: Final = 128


class Documents:
    """The documents homed in this process; `handle` is the pool's handler (kinds DOC_SYNC, DOC_PATCH, PRESENCE).

    Route it keyed by entity. One instance per process and store.

    Args:
        store: open store; the fencing of its logs makes one home per document.
        engine: the CRDT.
        outlet: takes events to sessions.
        kinds: gives the lanes of what is told.
        homes: says which documents are this front's, if there may be several; without it all are.
        elsewhere: told of a document with followers here that turned out to be at home with another front.
        probe: counters `documents.gap`, `documents.fenced`, `documents.lost_view`.
    """

    def __init__(
        self,
        store: Store,
        engine: DocumentEngine,
        *,
        outlet: Outlet,
        clock: Clock,
        kinds: KindTable,
        policy: SyncPolicy | None = None,
        probe: Probe | None = None,
        homes: Homes | None = None,
        elsewhere: Callable[[str, str], None] = lambda tenant, name: None,
    ) -> None:
        self._homes = homes
        self._elsewhere = elsewhere
        self._store = store
        self._engine = engine
        self._clock = clock
        self._policy = policy or SyncPolicy()
        self._probe = probe
        self._rooms: OrderedDict[tuple[str, str], Room] = OrderedDict()
        self._teller = Teller(
            outlet,
            clock,
            kinds,
            self._policy,
            prepare=lambda room: make_space(room, self._rooms.values(), self._policy),
            lost_view=lambda: self._count("documents.lost_view"),
            moved=self._give_up,
        )
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False
        self._takers: dict[str, Callable[[Room, Envelope, Context], Awaitable[None]]] = {
            "DOC_SYNC": self._sync,
            "DOC_PATCH": self._patch,
            "PRESENCE": self._presence,
        }

    # ---- events -----------------------------------------------------------------------------

    async def handle(self, env: Envelope, context: Context) -> None:
        """Take one event; returns when what it changed is in the log.

        Raises PeerProtocolError for a bad one, LaneFull and Overloaded at a bound, StoreError.
        """
        take = self._takers.get(env[KIND])
        if take is None:
            raise LocalProtocolError(f"kind {env[KIND]!r} is routed to the documents pool; route it elsewhere")
        room = self._room(env[TENANT], env[ENTITY])
        try:
            await self._come_home(room)
            await take(room, env, context)
        except Fenced as error:
            # Nothing of it is in the log: another home took the document. Take it back, once, if it may be here.
            self._count("documents.fenced")
            self._leave_to_others(room, error)
            try:
                await self._come_home(room)
                await take(room, env, context)
            except Fenced as again:
                self._leave_to_others(room, again)
                raise

    async def handle_all(self, envs: Sequence[Envelope], contexts: Sequence[Context]) -> list[Exception | None]:
        """Take events, those of one document in order; returns of each None, or what `handle` would have raised.

        Updates that follow each other are applied together, see `edits`. Returns when all is in the log.
        """
        answers: list[Exception | None] = [None] * len(envs)
        documents: dict[tuple[str, str], list[int]] = {}
        for place, env in enumerate(envs):
            documents.setdefault((env[TENANT], env[ENTITY]), []).append(place)
        if len(documents) == 1:
            await self._in_order(range(len(envs)), envs, contexts, answers)
        else:
            async with asyncio.TaskGroup() as group:
                for places in documents.values():
                    group.create_task(self._in_order(places, envs, contexts, answers))
        return answers

    async def _in_order(
        self,
        places: Sequence[int],
        envs: Sequence[Envelope],
        contexts: Sequence[Context],
        answers: list[Exception | None],
    ) -> None:
        """Take the events of one document."""
        for edits, stretch in groupby(places, lambda place: carries_update(envs[place])):
            some = list(stretch)
            made = await self._edit([envs[place] for place in some]) if edits and len(some) > 1 else [None] * len(some)
            for place, answer in zip(some, made, strict=True):
                if isinstance(answer, LanewayError):
                    answers[place] = answer
                elif answer is not False:
                    answers[place] = await self._by_itself(envs[place], contexts[place], held=answer is True)

    async def _edit(self, envs: Sequence[Envelope]) -> list[Answer | None]:
        """Apply updates of one document together; None for one that must be handled by itself."""
        edits = edits_in(envs)
        try:
            room = self._room(envs[0][TENANT], envs[0][ENTITY])
            await self._come_home(room)
            make_space(room, self._rooms.values(), self._policy)
        except LanewayError:
            return [None] * len(envs)
        made = iter(await room.update([edit for edit in edits if edit is not None]))
        answers: list[Answer | None] = []
        fenced = False
        for edit in edits:
            answer, events = (None, 1) if edit is None else (next(made), edit.events)
            fenced = fenced or isinstance(answer, Fenced)
            if isinstance(answer, Fenced) or (events > 1 and isinstance(answer, PeerProtocolError)):
                answer = None  # not in the log: another home took the document, or one of several was refused
            answers += [answer] * events
        if fenced:
            self._count("documents.fenced")
        return answers

    async def _by_itself(self, env: Envelope, context: Context, *, held: bool) -> Exception | None:
        """Handle an event, or what remains to be done for one that is `held`; returns what it raised."""
        try:
            if held:
                await self._ask_sender(self._room(env[TENANT], env[ENTITY]), context)
            else:
                await self.handle(env, context)
        except Exception as error:
            return error
        return None

    async def _come_home(self, room: Room) -> None:
        """Where there are several fronts, know that it is at home here before anything is promised."""
        if self._homes is not None and not self._homes.holds(room.archive.key):
            async with room.turn:
                await room.content()

    async def _sync(self, room: Room, env: Envelope, context: Context) -> None:
        message = decode_message(env[BODY])
        if message.type is MessageType.STEP1:
            vector = decode_vector(message.payload)
            view = self._admit(room, room.frames.get(env[SESSION])) or room.join_frames(env[SESSION])
            view.ask(vector, env[PRODUCER])
            self._teller.tell(room, view)
        elif message.type in (MessageType.STEP2, MessageType.UPDATE):
            update = parse(message.payload)
            if update.empty:
                return
            make_space(room, self._rooms.values(), self._policy)
            (answer,) = await room.update((Edit(update, (env[SESSION], env[PRODUCER]), env[TRACE]),))
            if isinstance(answer, LanewayError):
                raise answer
            if answer:
                await self._ask_sender(room, context)
        else:
            refuse("BAD_TYPE", "presence travels as PRESENCE, not as DOC_SYNC")

    async def _ask_sender(self, room: Room, context: Context) -> None:
        """Answer a gap: the sender has, or can get, what is missing."""
        self._count("documents.gap")
        async with room.turn:
            vector = (await room.content()).vector()
        body = encode_message(MessageType.STEP1, encode_vector(vector))
        await context.emit(Out("DOC_SYNC", body, room.name))

    async def _patch(self, room: Room, env: Envelope, context: Context) -> None:
        operations = parse_patch(env[BODY])
        if operations:
            make_space(room, self._rooms.values(), self._policy)
            await room.patch(operations, env[TRACE])
            return
        self._admit(room, room.states.get(env[SESSION]))
        self._teller.tell(room, room.join_state(env[SESSION]))

    async def _presence(self, room: Room, env: Envelope, context: Context) -> None:
        message = decode_message(env[BODY])
        view = room.frames.get(env[SESSION])
        if message.type is MessageType.QUERY_AWARENESS:
            payload = room.presence.encode()
        elif message.type is MessageType.AWARENESS:
            changed = room.presence.receive(message.payload, env[SESSION], self._clock.now())
            self._tell_presence(room, changed)
            payload = room.presence.encode(changed)
        else:
            refuse("BAD_TYPE", "a sync message travels as DOC_SYNC, not as PRESENCE")
        if view is None or message.type is MessageType.QUERY_AWARENESS:
            await context.emit(Out("PRESENCE", encode_message(MessageType.AWARENESS, payload), room.name))

    # ---- rooms ------------------------------------------------------------------------------

    def _room(self, tenant: str, name: str) -> Room:
        if self._closed:
            raise Draining("the documents pool is closed; another engine serves", retry_after_ms=1000)
        room = self._rooms.get((tenant, name))
        if room is None:
            if not name or len(name) > _MAX_NAME or "/" in name or name in (".", ".."):
                refuse("BAD_ID", "a document event names its document in `entity`: 1 to 128 characters, no '/'")
            self._make_room()
            room = self._rooms[tenant, name] = Room(
                tenant,
                name,
                store=self._store,
                engine=self._engine,
                on_dirty=self._teller.tell,
                document_bytes=self._policy.document_bytes,
                claim=None if self._homes is None else self._homes.claim,
            )
        room.used = self._clock.now()
        self._rooms.move_to_end((tenant, name))
        if self._sweeper is None:
            self._sweeper = asyncio.get_running_loop().create_task(self._sweep(), name="sweep documents")
        return room

    def _make_room(self) -> None:
        """Forget the longest unused document nobody follows, if too many are known."""
        if len(self._rooms) >= self._policy.rooms:
            room = least_needed(self._rooms.values())
            self._forget((room.tenant, room.name), room)

    def _admit(self, room: Room, view: FrameView | object | None) -> FrameView | None:
        if view is None and len(room.views()) >= self._policy.views:
            raise LaneFull(f"{self._policy.views} sessions follow document {room.name!r}", retry_after_ms=5000)
        return view if isinstance(view, FrameView) else None

    def _forget(self, key: tuple[str, str], room: Room) -> None:
        """Forget a document nobody follows; whoever asks for it next is placed anew."""
        room.put_away()
        del self._rooms[key]
        if self._homes is not None:
            self._homes.release_soon(room.archive.key)

    def _leave_to_others(self, room: Room, error: Fenced) -> None:
        """If it is at home with another front, keep nothing of it here, and say so."""
        if is_elsewhere(error):
            self._give_up(room, error)
            raise error

    def _give_up(self, room: Room, error: Fenced) -> None:
        if self._rooms.get((room.tenant, room.name)) is not room:
            return
        del self._rooms[room.tenant, room.name]
        followed = bool(room.views())
        for view in room.views():
            self._lose(room, view)
        room.give_up(error)
        if self._homes is not None:
            self._homes.forget(room.archive.key)
        if followed:
            self._elsewhere(room.tenant, room.name)

    def give_up(self, keys: Collection[str] | None, error: Fenced) -> None:
        """Have nothing of these documents (keys of their logs; None = all) any more, and write nothing."""
        for room in list(self._rooms.values()):
            if keys is None or room.archive.key in keys:
                self._give_up(room, error)

    def leave(self, tenant: str, session: str) -> None:
        """End a session's subscriptions and presence, in all documents. O(rooms)."""
        now = self._clock.now()
        for (owner, _), room in self._rooms.items():
            if owner != tenant:
                continue
            for view in (room.frames.get(session), room.states.get(session)):
                if view is not None:
                    self._lose(room, view)
            self._tell_presence(room, room.presence.leave(session, now))

    def _lose(self, room: Room, view: View) -> None:
        room.leave(view)
        self._teller.stop(view)

    async def _sweep(self) -> None:
        """Now and then: presence that ended, documents that idle, rooms nobody uses."""
        try:
            while self._rooms:
                await asyncio.sleep(self._policy.sweep_s)
                now = self._clock.now()
                for key, room in list(self._rooms.items()):
                    self._tell_presence(room, room.presence.poll(now))
                    if now - room.used < self._policy.idle_s or not room.quiet:
                        continue
                    room.put_away()
                    if room.abandoned:
                        self._forget(key, room)
        finally:
            self._sweeper = None

    # ---- telling ----------------------------------------------------------------------------

    def _tell_presence(self, room: Room, clients: list[int]) -> None:
        if clients:
            for view in room.frames.values():
                view.tell_presence(clients)
                self._teller.tell(room, view)

    def _count(self, name: str) -> None:
        if self._probe is not None:
            self._probe.count(name)

    # ---- end --------------------------------------------------------------------------------

    async def close(self, deadline_s: float = 5.0) -> None:
        """Log what waits (at most `deadline_s`), stop telling, free all documents; idempotent."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.wait([self._sweeper])
        await self._teller.close()
        await asyncio.gather(*(room.close(deadline_s) for room in self._rooms.values()))
        if self._homes is not None:
            await asyncio.gather(*(self._homes.release(room.archive.key) for room in self._rooms.values()))
        self._rooms.clear()

    def statistics(self) -> DocumentsStatistics:
        """Return gauges. O(rooms)."""
        return statistics(self._rooms.values(), len(self._teller))
