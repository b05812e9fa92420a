"""One live connection to another host: two streams that live and die together.

Law of this file: the first thing that goes wrong with either stream ends the whole connection, and is
told once. What waited is dropped, nothing that comes later is believed; the last words (BYE) tell the
other side why. Only who parts in order has what it said before read to its end. Reading never waits for
whoever receives, so a slow part cannot stop heartbeats.

Heartbeats: each stream is pinged, the urgent one at every beat (its round trip is the figure shown), the
data stream when nothing else was written. Silence counts by the urgent stream, whose messages are small;
a data stream may be busy with one large message for longer, but not for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from laneway.actors.hosts.peers import Message, Receiver
from laneway.actors.ports import Clock
from laneway.engine.peer.frames import BYE, PING, PONG, MessagePacker, decode_frame
from laneway.engine.peer.handshake import Hello
from laneway.engine.peer.outbound import Outbound
from laneway.engine.peer.policy import PeerPolicy
from laneway.engine.peer.statistics import PeerStatistics
from laneway.engine.peer.wires import Wire
from laneway.routing.errors import HostLost, LanewayError, PeerProtocolError

__all__ = ["Connection"]

_log: Final = logging.getLogger(__name__)

_DATA_PATIENCE: Final = 10
"""So many times `lost_s` may one message take on the data stream: 4 MiB at 0.2 MB/s."""
_SETTLE_S: Final = 1.0
"""For reads and writes to notice that their call is over."""
_BYE_CHARS: Final = 500
_US_PER_S: Final = 1_000_000


class _Stream:
    """What is known of one of the two streams, besides its wire."""

    __slots__ = ("heard_at", "out", "pinged_at", "silence_s", "wrote_at")

    def __init__(self, policy: PeerPolicy, silence_s: float, now: float) -> None:
        self.out = Outbound(policy.frame_bytes, policy.frame_messages)
        self.silence_s = silence_s
        self.heard_at = self.wrote_at = self.pinged_at = now


class Connection:
    """Implements `actors.hosts.peers.Peer`.

    Args:
        hello: who is there.
        urgent, data: the streams, both up.
        receiver: is told what comes; called on the event loop.
        dialled: whether this side opened it.
    """

    def __init__(
        self,
        hello: Hello,
        urgent: Wire,
        data: Wire,
        receiver: Receiver,
        *,
        clock: Clock,
        policy: PeerPolicy,
        dialled: bool,
    ) -> None:
        now = clock.now()
        self._hello = hello
        self._receiver = receiver
        self._clock = clock
        self._policy = policy
        self._dialled = dialled
        self._urgent = _Stream(policy, policy.lost_s, now)
        self._data = _Stream(policy, policy.lost_s * _DATA_PATIENCE, now)
        self._wires: tuple[Wire, ...] = (urgent, data)
        self._pack = MessagePacker(policy.message_bytes).pack
        self._over = asyncio.Event()
        self._error: LanewayError | None = None
        self._told = False
        self._parting = False
        self._farewell: LanewayError | None = None
        self._round_trip_s: float | None = None
        self._sent = [0, 0]
        self._received = [0, 0]

    @property
    def name(self) -> str:
        """The other host's name."""
        return self._hello.name

    @property
    def incarnation(self) -> str:
        """Which life of it."""
        return self._hello.incarnation

    @property
    def alive(self) -> bool:
        """False once it is lost."""
        return self._error is None

    @property
    def error(self) -> LanewayError | None:
        """Why it is lost, or None."""
        return self._error

    @property
    def statistics(self) -> PeerStatistics:
        """What it has carried so far."""
        return PeerStatistics(
            self.name,
            self.incarnation,
            self._dialled,
            self._sent[0],
            self._received[0],
            self._sent[1],
            self._received[1],
            self.queued_bytes,
            self._round_trip_s,
        )

    @property
    def queued_bytes(self) -> int:
        """What waits to be written, on both streams."""
        return self._urgent.out.queued_bytes + self._data.out.queued_bytes

    def send(self, message: Message, *, urgent: bool = False) -> None:
        """Queue a message; see `Peer.send`. Raises LocalProtocolError: not of plain types, or above 4 MiB."""
        if self._error is not None:
            return
        packed = self._pack(message)
        queued_bytes = self._urgent.out.queued_bytes + self._data.out.queued_bytes + len(packed)
        if queued_bytes > self._policy.queue_bytes:
            self.close(
                HostLost(
                    f"host {self.name} takes nothing in: {queued_bytes} bytes wait for it, above the bound of "
                    f"{self._policy.queue_bytes}",
                    reason="QUEUE_FULL",
                )
            )
            return
        self._sent[0] += 1
        (self._urgent if urgent else self._data).out.put(packed)

    def close(self, error: LanewayError) -> None:
        """End the connection; the other side is told the error's message. Idempotent."""
        if self._error is None:
            self._parting = True
            self._end(error)
            self._urgent.out.put(self._pack((BYE, 0, error.message[:_BYE_CHARS])))

    async def part(self, error: LanewayError) -> None:
        """End the connection behind what was queued: the last words go after it on the data stream.

        Returns when the other side has read them and ended it, at the latest after `linger_s`; what was
        not written by then is dropped, as by `close`. What is sent meanwhile is not heard any more.
        """
        if self._error is None:
            self._farewell = error
            self._data.out.put(self._pack((BYE, 0, error.message[:_BYE_CHARS])))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._policy.linger_s):
                    await self._over.wait()
        self.close(error)

    def broke(self, why: str) -> None:
        """End the connection because a stream of it is gone. Idempotent."""
        self._end(self._farewell or HostLost(f"the connection to host {self.name} broke ({why})", reason="BROKEN"))

    def beat(self, now: float, *, forgiving: bool) -> None:
        """Send the heartbeats that are due; end the connection if it was silent for too long.

        Args:
            forgiving: this process has been away itself, so silence proves nothing.
        """
        for stream in (self._urgent, self._data):
            silent_s = now - stream.heard_at
            if silent_s >= stream.silence_s and not forgiving:
                kind = "urgent" if stream is self._urgent else "data"
                self.close(
                    HostLost(
                        f"host {self.name} was silent for {silent_s:.1f} s on its {kind} stream; "
                        f"it is given up after {stream.silence_s:g} s",
                        reason="SILENT",
                    )
                )
                return
            last = stream.pinged_at if stream is self._urgent else max(stream.wrote_at, stream.pinged_at)
            if now - last >= self._policy.beat_s and not stream.out:
                stream.pinged_at = now
                stream.out.put(self._pack((PING, int(now * _US_PER_S))))

    # ---- its life ---------------------------------------------------------------------------

    async def live(self) -> None:
        """Carry messages until the connection is over, then end both streams; called once."""
        wires, self._wires = self._wires, ()  # whoever keeps a lost peer keeps no socket with it
        if self._error is None:
            self._told = True
            self._tell_connected()
        pairs = list(zip((self._urgent, self._data), wires, strict=True))
        readers = [asyncio.create_task(self._read(*pair)) for pair in pairs]
        writers = [asyncio.create_task(self._write(*pair)) for pair in pairs]
        try:
            await self._over.wait()
            if self._parting:  # the other side ends its streams when it has read why
                await asyncio.wait({readers[0], writers[0]}, timeout=self._policy.linger_s)
        finally:
            self.broke("it was dropped")
            for wire in wires:
                wire.end()
            await _settle([*readers, *writers])

    def _tell_connected(self) -> None:
        try:
            self._receiver.connected(self)
        except Exception:
            _log.exception("a connection to host %s could not be taken in", self.name)
            self.close(PeerProtocolError("the connection could not be taken in; see the log of the other host"))

    def _tell_lost(self, error: LanewayError) -> None:
        if not self._told:
            return
        try:
            self._receiver.lost(self, error)
        except Exception:
            _log.exception("the loss of host %s could not be taken in", self.name)

    def _end(self, error: LanewayError) -> None:
        if self._error is not None:
            return
        self._error = error
        for stream in (self._urgent, self._data):
            stream.out.clear()
            stream.out.wake.set()
        self._over.set()
        # later, as whoever receives may be in the middle of something
        asyncio.get_running_loop().call_soon(self._tell_lost, error)

    # ---- in ---------------------------------------------------------------------------------

    async def _read(self, stream: _Stream, wire: Wire) -> None:
        try:
            while (frame := await wire.read()) is not None:
                stream.heard_at = self._clock.now()
                self._received[1] += len(frame)
                if self._error is None:
                    self._take(decode_frame(frame, self._policy.message_bytes), stream)
            self.broke("the other side ended it")
        except ConnectionError as error:
            self.broke(str(error))
        except LanewayError as error:
            self.close(error)
        except Exception:
            _log.exception("a message of host %s could not be taken", self.name)
            self.close(PeerProtocolError("a message could not be taken; see the log of the other host"))

    def _take(self, messages: list[Message], stream: _Stream) -> None:
        received = self._receiver.received
        for message in messages:
            if message[0] < 0:
                self._take_own(message, stream)
            else:
                self._received[0] += 1
                received(self, message)
            if self._error is not None:
                return

    def _take_own(self, message: Message, stream: _Stream) -> None:
        verb, number = message[:2]
        if verb == PING:
            stream.out.put(self._pack((PONG, number)))
        elif verb == PONG:
            if stream is self._urgent:
                self._round_trip_s = max(0.0, self._clock.now() - number / _US_PER_S)
        elif verb == BYE:
            self._end(HostLost(f"host {self.name} ended the connection: {_text(message)}", reason="CLOSED"))
        else:
            raise PeerProtocolError(f"verb {verb} does not exist", reason="BAD_MESSAGE")

    # ---- out --------------------------------------------------------------------------------

    async def _write(self, stream: _Stream, wire: Wire) -> None:
        out = stream.out
        try:
            while self._error is None or out:
                if not out:
                    out.wake.clear()
                    await out.wake.wait()
                    continue
                frame = out.take()
                await wire.write(frame)
                stream.wrote_at = self._clock.now()
                self._sent[1] += len(frame)
        except ConnectionError as error:
            self.broke(str(error))
        except Exception as error:
            _log.exception("a message for host %s could not be written", self.name)
            self.broke(f"{type(error).__name__}: {str(error)[:_BYE_CHARS]}")


def _text(message: Message) -> str:
    return str(message[2])[:_BYE_CHARS] if len(message) > 2 else "no reason given"


async def _settle(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for reads and writes whose call is over; what does not notice is cancelled."""
    _, pending = await asyncio.wait(tasks, timeout=_SETTLE_S)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
