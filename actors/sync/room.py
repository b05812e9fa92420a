"""One document at its home: loaded when needed, logged before anything is told, put away when idle.

Law of this file: a change is applied in memory, then logged (all that waits in one group commit),
and only then acknowledged and told, in log order. If logging fails, or the document raised midway,
the memory is thrown away and the next event loads what the store has. So memory is never ahead of
the store for anybody but the change that waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from laneway.actors.ports import Claim, Out, Store
from laneway.actors.sync.archive import Archive
from laneway.actors.sync.content import Content
from laneway.actors.sync.document import DocumentEngine
from laneway.actors.sync.edits import Answer, Edit, Taken, first_run, take_in
from laneway.actors.sync.lib0 import refuse
from laneway.actors.sync.patch import Operation, apply
from laneway.actors.sync.presence import PresenceTable
from laneway.actors.sync.values import Json
from laneway.actors.sync.views import FrameView, Origin, StateView, View, state_change
from laneway.routing.errors import Draining, LanewayError, PeerProtocolError, StoreError

__all__ = ["Room", "document_key"]

_BATCH: Final = 512
_CLIENT_ID_BITS: Final = 52
"""Inside JavaScript's safe integers."""


@dataclass(slots=True)
class _Change:
    """An applied change on its way into the log; without `blob` it only waits for those before it."""

    blob: bytes
    told: list[bytes]
    origin: Origin
    trace: str
    logged: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


def document_key(tenant: str, name: str) -> str:
    """Return the key of a document's log."""
    return f"{tenant}/doc/{name}"


class Room:
    """A document and who follows it.

    Args:
        tenant, name: whose document, and its id.
        on_dirty: called with a view that has something to tell.
        document_bytes: refuse changes once snapshot and log tail are this large.
        claim: as for an archive.
    """

    def __init__(
        self,
        tenant: str,
        name: str,
        *,
        store: Store,
        engine: DocumentEngine,
        on_dirty: Callable[[Room, View], None],
        document_bytes: int,
        claim: Callable[[str], Awaitable[Claim]] | None = None,
    ) -> None:
        self.tenant = tenant
        self.name = name
        self.used = 0.0
        self.presence = PresenceTable()
        self.frames: dict[str, FrameView] = {}
        self.states: dict[str, StateView] = {}
        self.archive = Archive(store, document_key(tenant, name), claim)
        self.turn = asyncio.Lock()
        """Held while the document is read or changed; fair, so changes keep their order of arrival."""
        self._engine = engine
        self._on_dirty = on_dirty
        self._document_bytes = document_bytes
        self._content: Content | None = None
        self._json: Json = None
        self._last_change: tuple[Json, Json, Out] | None = None
        self._waiting: list[_Change] = []
        self._committer: asyncio.Task[None] | None = None

    # ---- residence --------------------------------------------------------------------------

    @property
    def resident(self) -> bool:
        """True if the document is in memory."""
        return self._content is not None

    @property
    def quiet(self) -> bool:
        """True if nothing is being changed, logged or told."""
        if self.turn.locked() or self._committer is not None or self._waiting:
            return False
        return not any(view.dirty for view in self.views())

    @property
    def abandoned(self) -> bool:
        """True if nobody follows the document and nobody is present."""
        return not (self.frames or self.states or len(self.presence))

    @property
    def pending(self) -> int:
        """Updates that wait for what comes before them."""
        return 0 if self._content is None else self._content.pending

    async def content(self) -> Content:
        """Return the document, loading it if it sleeps. Hold `turn`. Raises StoreError, Fenced."""
        if self._content is None:
            await self.settled()
            updates = await self.archive.open()
            content = Content(self._engine.open(self.name, self._client_id()))
            content.load(updates)
            self._content = content
            if self.archive.moved:
                for frames in self.frames.values():
                    frames.resync()
            if self.states:
                value = self.json(content)
                for state in self.states.values():
                    state.thaw(value)
        return self._content

    def _client_id(self) -> int:
        """One id per claim: stable while the home is, never that of another home's writes."""
        claim = self.archive.claim
        assert claim is not None
        text = f"{claim.key}\n{claim.epoch}\n{claim.generation}"
        number = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")
        return 1 + (number >> (64 - _CLIENT_ID_BITS))

    def json(self, content: Content) -> Json:
        """Return the document as JSON, shared and never changed in place."""
        if self._json is None:
            self._json = content.document.json()
        return self._json

    def put_away(self) -> None:
        """Free the document; the store has all of it. Call only when `quiet`."""
        for view in self.states.values():
            view.freeze()
        self._drop_content()

    def _drop_content(self) -> None:
        content, self._content = self._content, None
        self._json = self._last_change = None
        if content is not None:
            content.close()

    def _discard(self) -> None:
        """Distrust the memory: load anew, and ask everybody for what only they may have now."""
        self._drop_content()
        for view in self.frames.values():
            view.greet()
            self._on_dirty(self, view)
        for state in self.states.values():
            state.dirty = True
            self._on_dirty(self, state)

    # ---- changes ----------------------------------------------------------------------------

    async def update(self, edits: Sequence[Edit]) -> list[Answer]:
        """Apply and log peers' updates, in order; returns the answer of each. Raises nothing but a cancel."""
        answers: list[Answer] = []
        logged: list[tuple[_Change, range]] = []
        async with self.turn:
            alone = 0  # up to there each by itself
            while (at := len(answers)) < len(edits):
                run: Sequence[Edit] = ()
                try:
                    content = await self.content()
                    self._check_room(len(edits[at].update.raw))
                    run = edits[at : at + 1] if at < alone else first_run(edits, at, self._left())
                    taken = self._take_in(content, run)
                except PeerProtocolError as error:
                    alone = at + len(run)
                    answers += [error] if len(run) < 2 else []
                    continue
                except LanewayError as error:
                    answers += [error] * (len(edits) - at)
                    continue
                answers += taken.answers
                trace = next((edit.trace for edit in run if edit.trace), "")
                change = self._log(taken.blob, taken.told, run[0].origin, trace)
                logged.append((change, range(at, len(answers))))
        for change, places in logged:
            try:
                await change.logged
            except LanewayError as error:
                for place in places:
                    if isinstance(answers[place], bool):
                        answers[place] = error
        return answers

    def _take_in(self, content: Content, run: Sequence[Edit]) -> Taken:
        try:
            return take_in(content, run)
        finally:
            self._keep_sound(content)

    async def patch(self, operations: Sequence[Operation], trace: str) -> None:
        """Apply and log a patch, whole or not at all. Raises as `update`."""
        async with self.turn:
            content = await self.content()
            self._check_room(0)
            value = await self._patched(content, operations)
            try:
                fresh = content.patch(operations)
            finally:
                self._keep_sound(content)
            change = self._log(fresh, [fresh] if fresh else [], ("", ""), trace)
            self._json = value
        await change.logged

    async def _patched(self, content: Content, operations: Sequence[Operation]) -> Json:
        """Return the patched JSON; a refusal is only given by who still owns the document."""
        try:
            value = apply(self.json(content), operations)
            if not isinstance(value, dict):
                refuse("PATCH_FAILED", "the root of a document is an object; nothing was changed")
            return value
        except PeerProtocolError:
            await self.settled()
            try:
                await self.archive.prove()
            except LanewayError as error:
                self._fail((), error)
                raise
            raise

    def _left(self) -> int:
        """Return how many bytes the document may grow by."""
        return self._document_bytes - self.archive.size_bytes

    def _check_room(self, more: int) -> None:
        if more > self._left():
            refuse("TOO_LARGE", f"document {self.name!r} may hold {self._document_bytes} bytes; start another one")

    def _keep_sound(self, content: Content) -> None:
        """If the document raised midway it may have changed by half: load it anew next time."""
        if content.spoiled:
            self._drop_content()

    def _log(self, blob: bytes, told: list[bytes], origin: Origin, trace: str) -> _Change:
        """Hand a change to the committer, behind those before it."""
        if told:
            self._json = None
        change = _Change(blob, told, origin, trace)
        self._waiting.append(change)
        if self._committer is None:
            name = f"commit {self.archive.key}"
            self._committer = asyncio.get_running_loop().create_task(self._commit(), name=name)
        return change

    async def settled(self) -> None:
        """Return once every change made so far is in the log (or failed). Hold `turn`."""
        if self._committer is not None:
            await asyncio.wait([self._committer])

    async def _commit(self) -> None:
        """Log what waits, batch after batch, and tell it. Ends when nothing waits."""
        batch: list[_Change] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                blobs = [change.blob for change in batch if change.blob]
                if blobs:
                    await self.archive.append(blobs)
                self._logged(batch)
                batch = []
                if self.archive.due and not self._waiting:
                    await self.archive.compact(self._whole)
        except asyncio.CancelledError:
            self._fail(batch, Draining("the engine shut down before the change was logged", retry_after_ms=1000))
            raise
        except Exception as error:
            failure = error if isinstance(error, LanewayError) else StoreError(f"{self.archive.key}: {error!r}")
            self._fail(batch, failure)
        finally:
            self._committer = None

    def _logged(self, batch: Sequence[_Change]) -> None:
        for change in batch:
            if not change.logged.done():
                change.logged.set_result(None)
            if change.told:
                self._tell(change)

    def _tell(self, change: _Change) -> None:
        for view in self.frames.values():
            for update in change.told:
                view.add(update, change.origin)
            if view.dirty:
                view.trace = change.trace
                self._on_dirty(self, view)
        for state in self.states.values():
            state.dirty, state.trace = True, change.trace
            self._on_dirty(self, state)

    def _fail(self, batch: Sequence[_Change], error: LanewayError) -> None:
        """Nothing that waits is in the log for certain: answer it so and distrust the memory."""
        failed, self._waiting = [*batch, *self._waiting], []
        self.archive.abandon()
        for change in failed:
            if not change.logged.done():
                change.logged.set_exception(error)
                change.logged.exception()  # nobody may be waiting any more
        self._discard()

    def _whole(self, updates: Sequence[bytes]) -> Sequence[bytes]:
        """Fold the log's updates; the document in memory is that already, if nothing in it waits for the log."""
        if self._content is not None and not self._waiting and not self._content.spoiled:
            return self._content.whole()
        scratch = Content(self._engine.open(self.name, self._client_id()))
        try:
            scratch.load(updates)
            return scratch.whole()
        finally:
            scratch.close()

    # ---- views ------------------------------------------------------------------------------

    def views(self) -> list[View]:
        """Return all views."""
        return [*self.frames.values(), *self.states.values()]

    def join_frames(self, session: str) -> FrameView:
        """Return the session's y-protocols view, made if need be."""
        view = self.frames.get(session)
        if view is None:
            view = self.frames[session] = FrameView(session, self.name, self._engine.merge)
        return view

    def join_state(self, session: str) -> StateView:
        """Return the session's JSON view; it starts with a snapshot, also if it was there before."""
        view = self.states.get(session)
        if view is None:
            view = self.states[session] = StateView(session, self.name)
        view.restart()
        return view

    def leave(self, view: View) -> None:
        """Stop telling this view."""
        views: dict[str, FrameView] | dict[str, StateView]
        views = self.frames if isinstance(view, FrameView) else self.states
        if views.get(view.session) is view:
            del views[view.session]

    def follows(self, view: View) -> bool:
        """Whether this view is (still) one of the room's."""
        return self.frames.get(view.session) is view or self.states.get(view.session) is view

    async def take(self, view: View) -> list[Out]:
        """Return what the view is to be told now; only what is in the log. Raises StoreError, Fenced."""
        if not view.needs_content:
            assert isinstance(view, FrameView)
            return view.take(None, self.presence)
        async with self.turn:
            await self.settled()
            content = await self.content()
            if isinstance(view, FrameView):
                return view.take(content, self.presence)
            assert isinstance(view, StateView)
            return view.take(self.json(content), self._change)

    def _change(self, told: Json, value: Json) -> Out:
        """`state_change`, remembered: many sessions follow the same steps."""
        last = self._last_change
        if last is None or last[0] is not told or last[1] is not value:
            last = self._last_change = (told, value, state_change(told, value))
        return last[2]

    def give_up(self, error: LanewayError) -> None:
        """Another home has the document: what waits for the log fails with `error`, nobody is told any more."""
        if self._committer is not None:
            self._committer.cancel()
        self.frames.clear()
        self.states.clear()
        self._fail((), error)

    async def close(self, deadline_s: float) -> None:
        """Log what waits (at most `deadline_s` seconds) and free the document."""
        committer = self._committer
        if committer is not None:
            await asyncio.wait([committer], timeout=deadline_s)
            if not committer.done():
                committer.cancel()
                await asyncio.wait([committer])
        self._drop_content()
        self.frames.clear()
        self.states.clear()
