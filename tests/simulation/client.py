"""A simulated client: the real inbox and the real outbox behind a connection that keeps failing.

Law of this file: a client knows only what came over its connection. It resends what was not
answered, acks and grants as its application reads (fast, slowly, or not for a while), and reports
everything it sent and got to the history.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from laneway.engine.client_outbox import Outbox
from laneway.engine.frames import Frames
from laneway.routing.backoff import full_jitter
from laneway.routing.classify import KindTable
from laneway.routing.envelope import NO_DEADLINE, Envelope, envelope
from laneway.routing.errors import AdmissionError, LanewayError, PeerProtocolError
from laneway.routing.inbox import Inbox, Received
from laneway.routing.restraint import Restraint
from tests.simulation.faults import Faults
from tests.simulation.history import History, Segment, Sent
from tests.simulation.network import Broken, End

__all__ = ["Identity", "SimClient"]

_DEAD_BEATS: Final = 2.5
_LOOSE: Final = frozenset({"ack", "grant", "ping", "pong"})
"""What may come twice and late: each says where its side stands, and never takes anything back."""
_PLANS: Final = (
    ("USER_MESSAGE", 30), ("ECHO", 26), ("FLAKY", 16), ("BLIP", 8), ("URGE", 5), ("INTERRUPT", 6), ("CANCEL", 5),
    ("POISON", 1),
)  # fmt: skip


_BURST: Final = 0.05
_BURSTS: Final = (("ECHO",), ("ECHO", "FLAKY"), ("FLAKY", "ECHO", "BLIP"))
"""Events that are sent in one frame, as a whole of which they can be taken."""


class Identity:
    """Who a client is."""

    def __init__(self, tenant: str, session: str, client: str) -> None:
        self.tenant, self.session, self.client = tenant, session, client


class SimClient:
    """One client of one session.

    Args:
        connect: opens a connection, or raises Broken while no engine answers.
        plan: how many events it sends.
        pace_s: the longest it waits before it sends the next.
        grants: False plays a stock client that neither acks nor grants.
        poison: whether it sends events that kill the engine.
        heartbeat_s: how often it pings; after 2.5 times that in silence its connection is dead.
    """

    def __init__(
        self,
        who: Identity,
        *,
        connect: Callable[[Identity], Awaitable[End]],
        faults: Faults,
        history: History,
        kinds: KindTable,
        plan: int,
        pace_s: float,
        grants: bool,
        poison: bool,
        heartbeat_s: float = 1.0,
    ) -> None:
        self.who = who
        self.grants = grants
        self.outbox = Outbox(max_attempts=8, restraint=Restraint(faults.rng.random))
        self.inbox = Inbox()
        self.segment: Segment | None = None
        self.sending = True
        self._connect = connect
        self._faults = faults
        self._rng: random.Random = faults.rng
        self._history = history
        self._kinds = kinds
        self._frames = Frames(kinds, lambda: asyncio.get_running_loop().time())
        self._plan = plan
        self._pace_s = pace_s
        self._poison = poison
        self._heartbeat_s = heartbeat_s
        self._leaving = False
        self._connected = False
        self._counter = 0
        self._last: dict[str, list[Sent]] = {"any": [], "run": []}
        self._header: dict[str, Any] = {}
        self._unread: deque[int] = deque()
        self._unread_bytes = 0
        self._read_something = asyncio.Event()
        self._speed = self._rng.choice((1e9, 1e9, 60_000.0, 8_000.0))
        self._chunk_chars = self._rng.choice((40, 100, 200))
        self._mute = grants and faults.happens("client never acks", faults.weather.mute)
        self._erred = self._fed_up = self._alien = self.rushes = False
        self._heard_at = 0.0
        self._attempt = 0
        self._pending: set[asyncio.Task[None]] = set()

    @property
    def settled(self) -> bool:
        """True once everything sent was answered and everything received was read."""
        return not self.sending and not len(self.outbox) and not self._unread

    def hurry(self) -> None:
        """Read at full speed from now on, and behave: who was mute comes back as one that acks."""
        self._speed = 1e9
        self._fed_up, self._mute = self._mute, False

    def leave(self) -> None:
        """Say goodbye at the next chance."""
        self._leaving = True
        self._header["bye"] = True
        self.outbox.wake.set()

    def come_back(self, plan: int) -> None:
        """Be ready to `run` again, after a `leave`, and to send so many events more."""
        self._plan, self.sending, self._leaving = plan, True, False

    async def run(self) -> None:
        """Live until `leave`."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._act(), name=f"{self.who.client} acts")
            reader = group.create_task(self._read_on(), name=f"{self.who.client} reads")
            await self._stay_connected()
            reader.cancel()

    # -- what it says -----------------------------------------------------------------------------

    async def _act(self) -> None:
        async with asyncio.TaskGroup() as group:
            burst: Sequence[str] = ()
            together = 0
            for _ in range(self._plan):
                if not together:
                    await self._faults.pause(0.0, self._pace_s)
                    if self._faults.happens("client sent a burst", _BURST):
                        burst, together = self._rng.choice(_BURSTS), self._rng.randint(4, 12)
                kind = self._rng.choice(burst) if together else self._choose()
                if kind is not None:
                    sent = self._make(kind, plain=together > 0)
                    together = max(0, together - 1)
                    group.create_task(self._send(sent), name=f"send {sent.id}")
        self.sending = False

    def _choose(self) -> str | None:
        names, weights = zip(*_PLANS, strict=True)
        kind: str = self._rng.choices(names, weights)[0]
        if kind == "POISON" and not self._poison:
            return "ECHO"
        if kind in ("INTERRUPT", "CANCEL") and not self._last["any" if kind == "CANCEL" else "run"]:
            return None
        return kind

    def _make(self, kind: str, *, plain: bool = False) -> Sent:
        self._counter += 1
        run = entity = after = ""
        body = f"{kind} {self._counter} of {self.who.client}".encode()
        deadline_s = None
        if kind == "USER_MESSAGE":
            run = f"r-{self.who.tenant}-{self.who.session}-{self.who.client}-{self._counter}"
            body *= self._rng.choice((1, 1, 1, 1, 40, 1500))
        elif kind == "INTERRUPT":
            run = self._rng.choice((*(sent.run for sent in self._last["run"][-2:]), ""))
        elif kind == "CANCEL":
            entity = self._rng.choice(self._last["any"][-4:]).id
        elif kind in ("ECHO", "FLAKY") and self._rng.random() < 0.1:
            deadline_s = self._rng.uniform(0.02, 2.0)
        if not plain and kind == "ECHO" and self._last["any"] and self._rng.random() < 0.1:
            after = self._rng.choice(self._last["any"][-4:]).id
        row = self._kinds.require(kind)
        now = asyncio.get_running_loop().time()
        env = envelope(
            kind, producer=self.who.client, counter=self._counter, tenant="spoofed", session="spoofed", lane=row.lane,
            run=run, entity=entity, after=after, body=body,
            deadline=NO_DEADLINE if deadline_s is None else now + deadline_s,
        )  # fmt: skip
        sent = Sent(self.who.tenant, self.who.session, env)
        if not row.control:
            self._last["any"].append(sent)
        if kind == "USER_MESSAGE":
            self._last["run"].append(sent)
        self._history.sent.append(sent)
        return sent

    async def _send(self, sent: Sent) -> None:
        try:
            sent.status = (await self.outbox.put(sent.env)).status
            sent.answered_s = asyncio.get_running_loop().time()
        except AdmissionError as error:
            sent.refusal = error.code
        except LanewayError as error:
            sent.refusal = str(error)

    # -- the connection ---------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        while not self._leaving:
            try:
                end = await self._connect(self.who)
                try:
                    if not self._leaving:
                        await self._talk(end)
                finally:
                    end.close()
            except Broken:
                pass
            except PeerProtocolError as error:
                self._history.violations.append(f"{self.who.client} of {self.who.session}: {error}")
            except LanewayError as error:
                self._history.ends[error.code] += 1
            self._connected = False
            self.outbox.resend()
            pause_s = full_jitter(min(self._attempt, 5), 0.05, 1.0, self._rng.random)
            self._attempt += 1
            await asyncio.sleep(0.0 if self.rushes else pause_s)
            self.rushes = False

    def _hello(self) -> dict[str, Any]:
        cursor: list[Any] | None = None
        self._alien = False
        if self.inbox.cursor.epoch and self.grants:
            cursor = list(self.inbox.cursor[:3])
            if self._faults.happens("client forgot everything", self._faults.weather.forget):
                cursor, self.inbox = None, Inbox()
            elif self._faults.happens("client of another epoch", self._faults.weather.other_epoch):
                cursor[0] = "another"
                self._alien = True
        return {
            "v": [1],
            "client": self.who.client,
            "session": self.who.session,
            "cursor": cursor,
            "skip": self.inbox.skip if cursor and self._rng.random() < 0.7 else 0,
            "caps": {
                "grants": self.grants,
                "heartbeat_ms": int(self._heartbeat_s * 1000),
                "chunk_chars": self._chunk_chars,
            },
            "topics": ["topic:news"],
        }

    async def _talk(self, end: End) -> None:
        self._heard_at = asyncio.get_running_loop().time()
        self._erred = self._fed_up = False
        self._header = {"hello": self._hello()}
        self.outbox.wake.set()
        parts = (self._read(end), self._write(end), self._watch())
        tasks = [asyncio.create_task(part, name=f"{self.who.client} {part.__name__}") for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in tasks:  # in a fixed order: a set's would differ from run to run
            if task in done and not task.cancelled():
                task.result()

    async def _read(self, end: End) -> None:
        while True:
            header, envs = self._frames.decode(await end.receive())
            now = asyncio.get_running_loop().time()
            self._heard_at = now
            self._begin(header)
            for received in self.inbox.receive(header, envs, now):
                self._got(received)
            if self.segment is not None:
                self.segment.voided = self.inbox.voided
            self._answers(header, now)
            self.outbox.wake.set()
            while self._unread_bytes > 65_536:
                self._read_something.clear()
                await self._read_something.wait()
                self._heard_at = asyncio.get_running_loop().time()  # we did not listen, so silence says nothing

    def _begin(self, header: Mapping[str, Any]) -> None:
        welcome = header.get("welcome")
        if welcome is None:
            return
        self._connected, self._attempt = True, 0
        self._history.welcomes[welcome["resume"] + (":" + welcome["reason"] if welcome["reason"] else "")] += 1
        if welcome["resume"] == "resumed" and self._alien:
            self._history.violations.append(f"{self.who.client} resumed from a cursor of another epoch")
        if welcome["resume"] != "resumed":
            epoch, urgent, data = welcome["cursor"]
            self.inbox.voided = 0
            self._unread.clear()  # the snapshot replaces what was not read yet
            self._unread_bytes = 0
            self.segment = Segment(self.who.tenant, self.who.session, self.who.client, epoch, (urgent, data))
            self._history.segments.append(self.segment)

    def _got(self, received: Received) -> None:
        if self.segment is None:
            self._history.violations.append(f"{self.who.client} got an event before a welcome")
            return
        self.segment.items.append(received)
        size = len(received.envelope[11])
        self._unread.append(size)
        self._unread_bytes += size
        self._read_something.set()

    def _answers(self, header: Mapping[str, Any], now: float) -> None:
        for first, count, grade in header.get("ok", ()):
            self.outbox.ok(first, count, grade)
        for counters, code, reason, message, retry_after_ms in header.get("refused", ()):
            self._history.refusals[f"{code} {reason}".strip()] += len(counters)
            kind = AdmissionError if retry_after_ms is not None else LanewayError
            for counter in counters:
                error = kind(f"{code}/{reason}: {message}", reason=reason, retry_after_ms=retry_after_ms)
                self.outbox.refused(counter, error, now)
        if "ping" in header:
            self._header["pong"] = header["ping"]
        notice = header.get("notice")
        if notice is not None:
            self._history.notices[notice["code"]] += 1
            if notice.get("fatal"):
                if notice["code"] == "MALFORMED":
                    if self._erred:
                        self._faults.fired["wrong ack refused"] += 1
                        raise Broken(True)
                    raise PeerProtocolError(f"the engine says: {notice['message']}", reason=notice["reason"])
                raise Broken(True)

    async def _write(self, end: End) -> None:
        loop = asyncio.get_running_loop()
        await self._send_frame(end, [])
        pinged_at = loop.time()
        while True:
            self.outbox.wake.clear()
            now = loop.time()
            if not self._connected:
                await self.outbox.wake.wait()
                continue
            if now - pinged_at >= self._heartbeat_s:
                self._header["ping"], pinged_at = int(now * 1000), now
            if self.grants:
                self._acknowledge(self.inbox.ack_due(now, self._unread_bytes) or {})
            items = self.outbox.take(now)
            if items or self._header:
                await self._send_frame(end, items)
                continue
            times = [
                self.outbox.deadline(),
                pinged_at + self._heartbeat_s,
                self.inbox.deadline() if self.grants else None,
            ]
            timer = loop.call_at(max(now + 0.001, min(t for t in times if t)), self.outbox.wake.set)
            try:
                await self.outbox.wake.wait()
            finally:
                timer.cancel()

    def _acknowledge(self, owed: dict[str, Any]) -> None:
        """Put an ack and a grant into the next frame, if this client is one that does, and does it right."""
        if self._mute:
            return
        if "ack" in owed and self._faults.happens("wrong ack", self._faults.weather.wrong_ack):
            epoch, urgent, data = owed["ack"]
            wrong = self._rng.choice(((epoch, urgent, data + 10_000), ("another", urgent, data), (epoch, 0, 0)))
            owed["ack"] = list(wrong)
            self._erred = self._erred or wrong[1:] != (0, 0)
        self._header.update(owed)

    async def _send_frame(self, end: End, envs: list[Envelope]) -> None:
        header, self._header = self._header, {}
        await end.send(self._frames.encode(header, envs), loose=not envs and header.keys() <= _LOOSE)

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._fed_up and (left_s := self._heard_at + _DEAD_BEATS * self._heartbeat_s - loop.time()) > 0:  # noqa: ASYNC110 - a watchdog
            await asyncio.sleep(left_s)
        raise Broken(False)

    # -- the application --------------------------------------------------------------------------

    async def _read_on(self) -> None:
        """Read what came, at this client's speed, and sometimes not at all for a while."""
        while True:
            while not self._unread:
                self._read_something.clear()
                await self._read_something.wait()
            size = self._unread.popleft()
            try:
                if self._speed < 1e9:
                    pause_s = size / self._speed
                    if self._faults.happens("reader stopped", 0.01):
                        pause_s += 1.0
                    await asyncio.sleep(pause_s)
            finally:  # also if it leaves now, and comes back
                self._unread_bytes = max(0, self._unread_bytes - size)
            self._read_something.set()
            self.outbox.wake.set()
