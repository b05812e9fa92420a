"""One client of a session inside this process: what an edge does, without a wire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from itertools import count, repeat
from typing import Any

from benchmarks.workload import Job
from laneway import Engine, Principal
from laneway.actors.sessions.attachment import Attachment
from laneway.routing.envelope import NO_DEADLINE, Envelope
from laneway.routing.handshake import Hello
from laneway.routing.inbox import Inbox

__all__ = ["SessionLink"]


class SessionLink:
    """Sends batches, receives batches, grants what it has received.

    Attributes:
        refused: rows of events that were not taken: [counters, code, ...].
        failures: notices of events that were taken and came to nothing: counter, code, ...
        accepted: events that were answered OK. taken: their counters, if there is a list for them.
    """

    def __init__(self, attachment: Attachment, tenant: str, session: str, client: str) -> None:
        self.refused: list[Any] = []
        self.failures: list[Any] = []
        self.accepted = 0
        self.taken: list[int] | None = None
        self._attachment = attachment
        self._tenant = tenant
        self._session = session
        self._client = client
        self._inbox = Inbox()
        self._counter = 0

    @classmethod
    async def open(cls, engine: Engine, session: str, client: str = "bench", tenant: str = "t") -> SessionLink:
        """Attach to a session of a tenant."""
        hello = Hello(versions=(1,), client=client, session=session, heartbeat_s=300.0)
        return cls(await engine.directory.attach(hello, Principal("bench", tenant)), tenant, session, client)

    async def send(self, batch: Sequence[Job], entity: str = "", deadlines: Iterable[float] | None = None) -> None:
        """Send a frame of events, all of one entity, with their monotonic deadlines if they have some."""
        client, tenant, session = self._client, self._tenant, self._session
        until = repeat(NO_DEADLINE) if deadlines is None else deadlines
        events = [
            (client, number, job[0], tenant, session, "", entity, +job[1], deadline, "", "", job[2], 0.0)
            for number, job, deadline in zip(count(self._counter + 1), batch, until, strict=False)
        ]
        self._counter += len(events)
        await self._attachment.receive({}, events)

    async def receive(self) -> list[Envelope]:
        """Wait for frames and return the events in them, which may be none."""
        clock = asyncio.get_running_loop().time
        if (due := self._inbox.ack_due(clock())) is not None:
            await self._attachment.receive(due, ())
        given: list[Envelope] = []
        for frame in await self._attachment.frames():
            ok = frame.header.get("ok", ())
            self.accepted += sum(count for _, count, _ in ok)
            if self.taken is not None:
                self.taken += [counter for first, count, _ in ok for counter in range(first, first + count)]
            self.refused += frame.header.get("refused", ())
            if "counter" in (notice := frame.header.get("notice") or {}):
                self.failures.append(notice)
            given += self._inbox.receive(frame.header, frame.envelopes, clock()).envelopes
        return given

    async def close(self) -> None:
        """Leave the session."""
        await self._attachment.close()
