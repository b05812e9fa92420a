"""What the handler of one delivery says, on its way to the session's front: gathered, in order, in credit.

Law of this file: nothing is sent that the front may not be able to hold. A handler waits here while
more than `window_bytes` of what it said were not taken by the session; what is critical, the ends of
runs above all, does not wait, unless so much of it is on its way that the front would hold no more.
What is said within one turn of the loop travels as one message, and adjacent text deltas of it as one
event: a token costs an append to a list.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from laneway.actors.hosts.peers import EMIT, UNREAD, Message
from laneway.actors.packer import Packer
from laneway.actors.ports import Clock
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, KIND, LANE, SEAL, Envelope, with_body
from laneway.routing.errors import LanewayError, LocalProtocolError, PeerProtocolError, SlowConsumer
from laneway.routing.lanes import Lane
from laneway.routing.unread import Unread

if TYPE_CHECKING:
    from laneway.actors.outlets import Add

__all__ = ["WINDOW_BYTES", "Emissions"]

WINDOW_BYTES: Final = 65_536
"""Of one delivery on its way: 64 KiB are a second of the fastest model, and nothing for a front."""
_DELTA_BYTES: Final = 1_024
"""A gathered delta grows no larger: about what a model that never waits says in a few turns of the loop."""
_MESSAGE_BYTES: Final = 16_384
"""A message is sent at once when it holds so much."""
_EVENT_BYTES: Final = 100
"""What a delta weighs beside its text until it is packed."""
_CRITICAL_BYTES: Final = 131_072
"""Beyond the window, on its way when something critical is said without waiting; with the largest event
after it (1 MiB) that stays below what a front holds, see `Sayings`."""
_STALL_S: Final = 300.0
"""A session's home gives an unread session up after 120 s and says so; this is for a front that says nothing."""


class Emissions:
    """The `Outlet` of one delivery, which also gathers and steers (see `outlets`).

    Args:
        number: the delivery's. send: puts a message on the delivery's stream.
        packer: envelope -> bytes; what it writes is what the front counts.
        kinds: which kinds are text.
        window_bytes: how much may be on its way; one event more is always possible.
        stall_s: longest wait for the front to take something.
    """

    __slots__ = (
        "_clock",
        "_delta",
        "_delta_bytes",
        "_deltas",
        "_error",
        "_given",
        "_kinds",
        "_number",
        "_packed",
        "_packer",
        "_scheduled",
        "_send",
        "_silent",
        "_stall_s",
        "_taken",
        "_unsent",
        "_waiting",
        "_window_bytes",
    )

    def __init__(
        self,
        number: int,
        send: Callable[[Message], None],
        packer: Packer,
        kinds: KindTable,
        clock: Clock,
        *,
        window_bytes: int = WINDOW_BYTES,
        stall_s: float = _STALL_S,
    ) -> None:
        self._number = number
        self._send = send
        self._packer = packer
        self._kinds = kinds
        self._clock = clock
        self._window_bytes = window_bytes
        self._stall_s = stall_s
        self._given = 0  # bytes of all that was packed or gathered
        self._taken = 0
        self._packed: list[bytes] = []
        self._delta: Envelope | None = None
        self._deltas: list[bytes] = []
        self._delta_bytes = 0
        self._unsent = 0
        self._scheduled: asyncio.Handle | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._error: LanewayError | None = None
        self._silent = False

    @property
    def on_its_way_bytes(self) -> int:
        """What the session has not taken yet."""
        return self._given - self._taken

    @property
    def waiting(self) -> int:
        """Producers that wait for the front."""
        return len(self._waiting)

    # -- the outlet -----------------------------------------------------------------------------

    def gathering(self, tenant: str, session: str, run: str, kind: str, entity: str) -> Add | None:
        """Return what adds to the delta that waits for its turn, as long as it does; see `outlets.Gathers`."""
        delta = self._delta
        if delta is None or delta[ENTITY] != entity or delta[KIND] != kind:
            return None
        return partial(self._add, delta)

    def _add(self, delta: Envelope, body: bytes) -> bool:
        """Add to that delta, if it waits still. 0.4 us."""
        if (
            delta is not self._delta
            or self._waiting
            or self._given - self._taken > self._window_bytes
            or self._unsent >= _MESSAGE_BYTES
            or self._delta_bytes >= _DELTA_BYTES
            or type(body) is not bytes
            or (body and body[0] == SEAL)
        ):
            return False
        self._deltas.append(body)
        self._delta_bytes += len(body)
        self._weigh(len(body))
        return True

    async def emit(self, env: Envelope) -> None:
        """Send one event; waits while too much is on its way.

        Raises what the session's home raised, or SlowConsumer if it takes nothing for `stall_s`.
        """
        if env[LANE] != Lane.CRITICAL:
            waits = self._waiting or self._given - self._taken > self._window_bytes
        else:
            waits = self._given - self._taken > self._window_bytes + _CRITICAL_BYTES
        if waits:
            await self._room()
        self._take(env)
        if self._waiting:
            self._wake()

    def when_unread(self, tenant: str, session: str, run: str, policy: Unread) -> None:
        """Have the front say so to the session."""
        if not self._silent:
            self._send((UNREAD, self._number, policy))

    async def emit_all(self, envs: Sequence[Envelope]) -> None:
        """As `emit` for each, in order."""
        for env in envs:
            await self.emit(env)

    def _take(self, env: Envelope) -> None:
        if self._silent:
            return
        if self._error is not None and env[LANE] != Lane.CRITICAL:
            raise self._error
        body = env[BODY]
        if type(body) is not bytes or type(env[ENTITY]) is not str:
            kinds = f"a body of {type(body).__name__} and an entity of {type(env[ENTITY]).__name__}"
            raise LocalProtocolError(f"{env[KIND]} was emitted with {kinds}; they must be bytes and str")
        self._close_delta()
        kind = self._kinds.get(env[KIND])
        if kind is not None and kind.text and not (body and body[0] == SEAL):
            self._delta, self._deltas, self._delta_bytes = env, [body], len(body)
            self._weigh(len(body) + _EVENT_BYTES)
        else:
            packed = self._packer.pack(env, self._clock.now())
            self._packed.append(packed)
            self._weigh(len(packed))
        if env[LANE] == Lane.CRITICAL or self._unsent >= _MESSAGE_BYTES:
            self.flush()
        elif self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self.flush)

    def _weigh(self, size: int) -> None:
        self._given += size
        self._unsent += size

    def _close_delta(self) -> None:
        """Pack the delta that waits: from here on it is what it weighs."""
        if self._delta is None:
            return
        env, deltas = self._delta, self._deltas
        self._delta, self._deltas = None, []
        body = deltas[0] if len(deltas) == 1 else b"".join(deltas)
        packed = self._packer.pack(with_body(env, body), self._clock.now())
        self._packed.append(packed)
        self._weigh(len(packed) - len(body) - _EVENT_BYTES)

    def rest(self) -> list[bytes]:
        """Return what was said and not sent yet, for who sends it instead; nothing is said after it."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._close_delta()
        packed, self._packed, self._unsent = self._packed, [], 0
        return packed

    def flush(self) -> None:
        """Send what was said, now."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._close_delta()
        if self._packed and not self._silent:
            self._send((EMIT, self._number, self._packed))
        self._packed = []
        self._unsent = 0

    # -- credit ---------------------------------------------------------------------------------

    def taken(self, taken_bytes: int, error: LanewayError | None = None) -> None:
        """The session has taken so many bytes since the beginning; with an error it takes no more
        but what is critical, so that a run can still tell its end.

        Raises PeerProtocolError if that is more than was sent, or less than before.
        """
        if not self._taken <= taken_bytes <= self._given:
            raise PeerProtocolError(
                f"{taken_bytes} bytes of delivery {self._number} were acknowledged, of {self._given} sent"
            )
        self._taken = taken_bytes
        if error is not None and self._error is None:
            self._error = error
            self.flush()
        self._wake()

    def silence(self) -> None:
        """The front is lost: discard what is said from now on, and let nobody wait."""
        self._silent = True
        self.flush()
        self._wake()

    def _free(self) -> bool:
        return self._silent or self._error is not None or self._given - self._taken <= self._window_bytes

    def _wake(self) -> None:
        """Let the next one that waits go on, if there is room, and it wakes the one after it; or all, to leave."""
        while self._waiting and self._free():
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                if not self._silent and self._error is None:
                    return

    async def _room(self) -> None:
        if self._silent or self._error is not None:
            return
        self.flush()
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._stall_s):
                await waiter
                while not self._free():  # somebody else was faster
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiting.appendleft(waiter)
                    await waiter
        except TimeoutError:
            self._leave(waiter)
            late = f"the session's front took nothing of this for {self._stall_s:g} s; start it again"
            raise SlowConsumer(late, reason="STALLED") from None
        except asyncio.CancelledError:
            self._leave(waiter)
            raise

    def _leave(self, waiter: asyncio.Future[None]) -> None:
        """Go without a turn; one that was ours already goes to the next."""
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        self._wake()
