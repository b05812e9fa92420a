"""A small engine behind an edge: real links and rings, one in-memory session per name, no actors.

A USER_MESSAGE is answered with RUN_STARTED, the text again in deltas, RUN_FINISHED. The texts
``flood N`` and ``boom`` give N deltas of 100 bytes, and a RUN_ERROR.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from laneway.actors.ports import Principal
from laneway.actors.sessions.arrivals import Speaker
from laneway.actors.sessions.attachment import Attachment
from laneway.engine.codec import pack_body
from laneway.engine.frames import Frames
from laneway.routing.classify import KindTable
from laneway.routing.dedupe import ProducerWindow
from laneway.routing.envelope import BODY, COUNTER, KIND, RUN, Envelope, envelope
from laneway.routing.errors import AccessError, LanewayError, PeerProtocolError, RateLimited, Superseded
from laneway.routing.handshake import Hello, LinkPolicy, negotiate
from laneway.routing.link import Cursor, Link, LinkFrame
from laneway.routing.replay import ReplayRing

KINDS = KindTable()
FRAMES = Frames(KINDS, lambda: 0.0)


class SystemClock:
    def now(self) -> float:
        return time.monotonic()


class Session:
    """Numbers events and gives them to its attachments; enough of a home for the edge's tests."""

    def __init__(self, tenant: str, name: str, policy: LinkPolicy, clock: SystemClock) -> None:
        self.name = name
        self.tenant = tenant
        self.epoch = f"epoch-{name}"
        self.rings = (ReplayRing(), ReplayRing(max_events=100_000, max_bytes=16_777_216))
        self.attachments: dict[str, Attachment] = {}
        self.handled: list[Envelope] = []
        self.refuse_next = 0
        self._seen: dict[str, ProducerWindow] = {}
        self._policy = policy
        self._clock = clock
        self._counter = 0
        self._moved = asyncio.Event()
        self._runs: set[asyncio.Task[None]] = set()

    def attach(self, hello: Hello, principal: Principal) -> Attachment:
        older = self.attachments.get(hello.client)
        if older is not None:
            older.end(Superseded("a newer link of this client is live"))
        here = Cursor(self.epoch, self.rings[0].committed, self.rings[1].committed)
        cursor, resume = here, "new"
        if hello.cursor is not None:
            cursor, resume = (hello.cursor, "resumed") if hello.cursor.epoch == self.epoch else (here, "failed")
        now = self._clock.now()
        plan = negotiate(hello, self._policy)
        link = Link(plan, *self.rings, cursor, KINDS, now)
        if resume == "resumed" and hello.grant is not None:
            link.receive({"grant": hello.grant}, now)
        welcome = {
            "v": 1,
            "link": f"link-{now}",
            "session": self.name,
            "epoch": self.epoch,
            "resume": resume,
            "reason": "EPOCH_MISMATCH" if resume == "failed" else "",
            "cursor": [self.epoch, cursor.urgent, cursor.data],
            "position": link.start_position,
            "grant": link.granted,
            "plan": plan.describe(),
        }
        attachment = Attachment(
            self,
            link,
            client=hello.client,
            principal=principal,
            clock=self._clock,
            opening=[LinkFrame({"welcome": welcome}, [])],
        )
        self.attachments[hello.client] = attachment
        return attachment

    def ingest(self, attachment: Speaker, envelopes: Sequence[Envelope]) -> None:
        for env in envelopes:
            if KINDS.require(env[KIND]).direction == "out":
                error = AccessError(f"{env[KIND]} is sent by the engine only")
                attachment.tell(refused=[[[env[COUNTER]], error.code, "", error.message, None]])
                continue
            if self.refuse_next:
                self.refuse_next -= 1
                late = RateLimited("too fast", retry_after_ms=5)
                attachment.tell(refused=[[[env[COUNTER]], late.code, "", late.message, 5]])
                continue
            window = self._seen.setdefault(attachment.client, ProducerWindow())
            news = window.offer(env[COUNTER])
            attachment.tell(ok=[[env[COUNTER], 1, "volatile" if news == "new" else "duplicate"]])
            if news == "new":
                self.handled.append(env)
                self._run(self._answer(env))

    def _run(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._runs.add(task)
        task.add_done_callback(self._runs.discard)

    async def _answer(self, env: Envelope) -> None:
        if env[KIND] == "TOOL_CALL":
            body = {"messageId": "m", "toolCallId": "t1", "content": '"done"', "role": "tool"}
            await self.emit("TOOL_CALL_RESULT", pack_body(body), "t1", env[RUN])
        if env[KIND] != "USER_MESSAGE":
            return
        text = env[BODY].decode()
        await self.emit("RUN_STARTED", pack_body({"threadId": self.name, "runId": env[RUN]}), run=env[RUN])
        if text == "boom":
            await self.emit("RUN_ERROR", pack_body({"message": "boom", "code": "HANDLER_FAILED"}), run=env[RUN])
            return
        deltas = [b"%099d " % n for n in range(int(text[6:]))] if text.startswith("flood ") else words(text)
        for delta in deltas:
            await self.emit("TEXT_MESSAGE_CONTENT", delta, f"m-{env[RUN]}", env[RUN])
        await self.emit("RUN_FINISHED", pack_body({"threadId": self.name, "runId": env[RUN]}), run=env[RUN])

    async def emit(self, kind: str, body: bytes, entity: str = "", run: str = "") -> None:
        lane = int(KINDS.lane(kind))
        data = self.rings[1]
        while (
            lane and self.attachments and data.head_position >= max(a.link.granted for a in self.attachments.values())
        ):
            self._moved.clear()
            await self._moved.wait()
        self._counter += 1
        env = envelope(
            kind,
            producer="engine/run",
            counter=self._counter,
            tenant=self.tenant,
            session=self.name,
            lane=lane,
            run=run,
            entity=entity,
            body=body,
        )
        if kind == "RUN_ERROR":
            env = (*env[:11], pack_body({"message": "boom", "code": "HANDLER_FAILED", "after": data.head}), env[12])
        ring = self.rings[0 if lane == 0 else 1]
        seq, _, _ = ring.append(env)
        ring.commit(seq)
        for attachment in self.attachments.values():
            attachment.wake()

    def moved(self, attachment: Attachment) -> None:
        self._moved.set()

    def detached(self, attachment: Attachment) -> None:
        if self.attachments.get(attachment.client) is attachment:
            del self.attachments[attachment.client]
        self._moved.set()

    def snapshot(self) -> Envelope:
        raise NotImplementedError("this home has no transcript")

    async def read_log(self, stream: int, first: int) -> list[tuple[int, int, Envelope]]:
        return self.rings[stream].read(first, 1000)

    async def close(self) -> None:
        for task in list(self._runs):
            task.cancel()
        await asyncio.gather(*self._runs, return_exceptions=True)


def words(text: str) -> list[bytes]:
    return [f"{word} ".encode() for word in text.split()]


class Engine:
    """A gateway over such sessions."""

    def __init__(self, policy: LinkPolicy | None = None) -> None:
        self.clock = SystemClock()
        self.policy = policy or LinkPolicy()
        self.sessions: dict[tuple[str, str], Session] = {}
        self.attached = 0

    def session(self, name: str, tenant: str = "default") -> Session:
        key = (tenant, name)
        if key not in self.sessions:
            self.sessions[key] = Session(tenant, name, self.policy, self.clock)
        return self.sessions[key]

    async def attach(self, hello: Hello, principal: Principal, origin: Mapping[str, Any] = {}) -> Attachment:
        self.attached += 1
        return self.session(hello.session, principal.tenant).attach(hello, principal)

    async def ingest(self, session: str, speaker: Speaker, envelopes: Sequence[Envelope]) -> None:
        self.session(session, speaker.principal.tenant).ingest(speaker, envelopes)

    async def call(self, name: str, header: Mapping[str, Any], items: Sequence[bytes], principal: Principal) -> Any:
        if name == "status":
            return {"subject": principal.subject, "tenant": principal.tenant, "items": len(items)}
        if name == "crash":
            raise ZeroDivisionError
        if name == "refuse":
            error: LanewayError = RateLimited("too fast", retry_after_ms=250)
            raise error
        raise PeerProtocolError(f"there is no call {name!r}", reason="UNKNOWN_CALL")

    async def close(self) -> None:
        for session in self.sessions.values():
            await session.close()


def user_message(text: str, counter: int = 1, client: str = "c1", run: str = "r1") -> Envelope:
    return envelope(
        "USER_MESSAGE",
        producer=client,
        counter=counter,
        tenant="",
        session="",
        lane=1,
        run=run,
        body=text.encode(),
    )
