"""Which front a session or document is at home with.

Law of this file: a home stays where it is while its front lives, whoever joins. With a shared store the
front is on record there, read once by who looks for it; without a record, or with one of a life that is
over, rendezvous over the live fronts decides. The record only shows the way: two who claim at once are
told apart by the log's generation, and the older one writes nothing more.

A front that is alone keeps no records and reads none; it writes them as soon as another one shows up.
A life of a front that was declared over gives all its homes up and never claims again.

Without a shared store (volatile) there is nothing to record: rendezvous alone decides, so what is at
home elsewhere after a front joined or left begins anew there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from laneway.actors.homes.company import Company
from laneway.actors.homes.deeds import ELSEWHERE, Deed, Deeds, Life
from laneway.actors.homes.stands import Stands
from laneway.actors.hosts.peers import Peer
from laneway.actors.hosts.questions import Questions
from laneway.actors.ports import Claim, Store
from laneway.routing.errors import Draining, Fenced, LanewayError, StoreError
from laneway.routing.membership import View
from laneway.routing.placement import rendezvous

__all__ = ["Homes", "is_elsewhere"]

_log: Final = logging.getLogger(__name__)
_CONTESTS: Final = 16
_AT_ONCE: Final = 32


@dataclass(slots=True)
class _Held:
    """A home here: the generation of its claim, and the version of its record (0 = none)."""

    generation: int
    version: int = 0


def is_elsewhere(error: LanewayError) -> bool:
    """Whether an error means: ask again where it is at home."""
    return isinstance(error, Fenced) and error.reason == ELSEWHERE


class Homes:
    """The homes of one front, and the way to all others.

    Args:
        name: this front, as the membership has it. incarnation: its present life; empty = none has begun.
        store: where the logs are.
        shared: whether the other fronts see the same store.
        questions, peers: how the other fronts are asked whether their homes are on record.

    Attributes:
        company: the other fronts. life: this front's present one.
        draining: set by the owner at shutdown: nothing new comes here.
        on_stale: called with a key and why, if a home here turns out to be another front's by now.
    """

    def __init__(
        self,
        name: str,
        store: Store,
        *,
        shared: bool,
        questions: Questions,
        peers: Mapping[str, Peer],
        incarnation: str = "",
    ) -> None:
        self.life = Life(name, incarnation)
        self.company = Company(name)
        self.draining = False
        self.on_stale: Callable[[str, Fenced], None] = lambda key, error: None
        self._store = store
        self._shared = shared
        self._deeds = Deeds(store)
        self._stands = Stands(questions, peers, self._stand)
        self._held: dict[str, _Held] = {}
        self._recording: asyncio.Task[None] | None = None
        self._releasing: set[asyncio.Task[None]] = set()
        self._over = not incarnation

    # -- membership ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """This front."""
        return self.life.name

    @property
    def shared(self) -> bool:
        """Whether the other fronts see the same store."""
        return self._shared

    @property
    def over(self) -> bool:
        """True if this life was declared over, or none has begun."""
        return self._over

    def stood(self, life: Life) -> bool:
        """Whether this front has said that all its homes are on record."""
        return self._stands.knows(life)

    def full(self, name: str) -> None:
        """Front `name` refused something new because it shuts down: place nothing there any more."""
        life = self.company.get(name)
        if life is not None:
            self._stands.full(life)

    def saw(self, view: View) -> None:
        """Take the newest membership view. O(members)."""
        if not self.company.saw(view):
            return
        if view.settled:
            self._stands.keep(self.company.others)
        if not self.company.alone and not self._over:
            self._start_recording()

    def drop(self) -> None:
        """This life was declared over: hold nothing, claim nothing. The owner ends what was held. Idempotent."""
        self._over = True
        self._held.clear()
        self.company.wake()

    def begin(self, incarnation: str) -> None:
        """Begin a life of this front, the first one or after `drop`; what was held before is not held any more."""
        self.life = Life(self.name, incarnation)
        self._over = False

    async def close(self) -> None:
        """End what is under way here; idempotent."""
        if self._recording is not None:
            self._recording.cancel()
            await asyncio.gather(self._recording, return_exceptions=True)
        await asyncio.gather(*self._releasing, return_exceptions=True)

    # -- where --------------------------------------------------------------------------------

    async def place(self, key: str) -> str:
        """Return the front to go to. One read of the store, none if it is here or this front is alone.

        Raises StoreError, Fenced (this life is over), RuntimeUnavailable (the membership is not known).
        """
        self._check()
        if key in self._held:
            return self.name
        await self.company.known()
        if not self._shared:
            return self._elect(key)
        if self.company.alone:
            return self.name
        return await self._decide(key, (await self._read(key))[1])

    async def claim(self, key: str) -> Claim:
        """Take a log over for this front, and put it on record unless this front is alone.

        Raises Fenced with reason ELSEWHERE if it is at home with another front, and as `place`.
        """
        self._check()
        await self.company.known()
        if not self._shared or self.company.alone:
            if not self._shared:
                self._expect_here(key, self._elect(key))
            return await self._take(key, 0)
        version, deed = await self._read(key)
        self._expect_here(key, await self._decide(key, deed))
        return await self._take(key, version)

    def holds(self, key: str) -> bool:
        """Whether it is at home here."""
        return key in self._held

    def forget(self, key: str) -> None:
        """Another front has this home by now."""
        self._held.pop(key, None)

    async def release(self, key: str) -> None:
        """Give a home up that has ended in good order: whoever looks for it next is placed anew."""
        held = self._held.pop(key, None)
        if held is None or not held.version or self._over:
            return
        try:
            await self._deeds.erase(key, held.version)
        except StoreError as error:  # it goes on naming this front, which claims again when asked
            _log.warning("the record of %s could not be erased: %s", key, error)

    def release_soon(self, key: str) -> None:
        """As `release`, for who cannot wait; `close` awaits it."""
        task = asyncio.get_running_loop().create_task(self.release(key), name=f"release {key}")
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    def astray(self) -> list[str]:
        """Return what is held here though it belongs elsewhere; only without a shared store. O(held).

        What a front that leaves has ends with its drain, and not before.
        """
        if self._shared or self.draining or not self.company.settled:
            return []
        return [key for key in self._held if self._elect(key) != self.name]

    async def orphan(self, key: str, lost: Iterable[Life]) -> bool:
        """Whether a home was left by one of these lives and is this front's to take up. One read, or none."""
        if self._elect(key) != self.name or key in self._held:
            return False
        deed = (await self._deeds.read(key))[1]
        return deed is not None and deed.life in lost

    def _check(self) -> None:
        if self._over:
            raise Fenced("this front was taken for dead, and others have its homes; connect again")

    def _expect_here(self, key: str, front: str) -> None:
        if front != self.name:
            raise _elsewhere(key, front)

    async def _take(self, key: str, version: int) -> Claim:
        life = self.life
        claim = await self._store.claim(key)
        self._check()
        if self.life != life:
            raise Fenced("this front began a new life meanwhile; connect again")
        self._held[key] = _Held(claim.generation, version=0)
        if self._shared and not self.company.alone:
            try:
                await self._record(key, version)
            except BaseException:
                self._held.pop(key, None)
                raise
        return claim

    async def _read(self, key: str) -> tuple[int, Deed | None]:
        """Read a record; that it leads to nobody is believed once every other front has said that it stands."""
        version, deed = await self._deeds.read(key)
        others = self.company.others
        leads = deed is not None and (deed.life == self.life or self.company.lives(deed.life))
        if not leads and not all(map(self._stands.knows, others)):
            await self._stands.hear(others, self.company.number, self.company.lives)
            version, deed = await self._deeds.read(key)
        return version, deed

    async def _decide(self, key: str, deed: Deed | None) -> str:
        if deed is not None and (deed.life == self.life or await self.company.goes_on(deed.life, deed.view)):
            return deed.life.name
        self._check()  # it may have been a long look
        return self._elect(key)

    def _elect(self, key: str) -> str:
        """Choose among the live fronts that take something new."""
        able = [life.name for life in self.company.others if self._stands.takes(life)]
        if not self.draining:
            able.append(self.name)
        if not able:
            raise Draining("every front is shutting down; connect again", retry_after_ms=1000)
        return rendezvous(key, able)

    # -- on record ----------------------------------------------------------------------------

    async def _record(self, key: str, version: int) -> None:
        """Write that it is at home here. Raises Fenced (ELSEWHERE) if somebody claimed it after us."""
        for _ in range(_CONTESTS):
            held = self._held.get(key)
            if held is None:
                return
            deed = Deed(self.life, held.generation, self.company.number)
            if written := await self._deeds.write(key, deed, version):
                held.version = written
                return
            version, other = await self._deeds.read(key)
            if other is not None and other.life != self.life and other.generation > held.generation:
                raise _elsewhere(key, other.life.name)
        raise StoreError(f"the record of {key} is written by others again and again; try again")

    def _start_recording(self) -> None:
        if self._recording is None and any(not held.version for held in self._held.values()):
            self._recording = asyncio.get_running_loop().create_task(self._record_all(), name="record homes")
            self._recording.add_done_callback(self._recorded)

    def _recorded(self, task: asyncio.Task[None]) -> None:
        self._recording = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("homes could not be put on record; the next membership view tries again: %s", error)

    async def _record_all(self) -> None:
        """Bring every home on record that was claimed while this front was alone. O(homes)."""
        if not self._shared:
            return
        waiting = [key for key, held in self._held.items() if not held.version]
        for start in range(0, len(waiting), _AT_ONCE):
            some = waiting[start : start + _AT_ONCE]
            for result in await asyncio.gather(*map(self._record_late, some), return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result

    async def _record_late(self, key: str) -> None:
        version, deed = await self._deeds.read(key)
        held = self._held.get(key)
        if held is None or held.version:
            return
        try:
            if deed is not None and deed.life != self.life and deed.generation > held.generation:
                raise _elsewhere(key, deed.life.name)
            await self._record(key, version)
        except Fenced as error:  # claimed by another front since; one that is idle would never learn it
            self.forget(key)
            self.on_stale(key, error)

    async def _stand(self, view: int) -> bool:
        """Another front asks: from now on everything is on record."""
        self._check()
        self.company.expect(view)
        await self._record_all()
        return not self.draining


def _elsewhere(key: str, front: str) -> Fenced:
    """Return the error for what is at home with another front."""
    kind, _, name = key.partition("/")[2].partition("/")
    what = "document" if kind == "doc" else kind
    return Fenced(f"{what} {name!r} is at home with front {front!r}; ask again", reason=ELSEWHERE)
