"""Clients of the stage: real ones over gRPC, which note what they asked, what they were told and what they got.

Law of this file: a note is made when the thing happens, by whom it happens to; a send that nobody answered is
noted as unknown. A client knows both fronts and goes to whichever takes it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from laneway import Client
from laneway.routing.backoff import Backoff
from laneway.routing.classify import KindTable
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.errors import LanewayError
from laneway.routing.inbox import Inbox, Received
from tests.simulation.history import Segment, Sent

__all__ = ["Asked", "Caller"]

TENANT: Final = "default"
_ANSWER_S: Final = 60.0


@dataclass(slots=True)
class Asked:
    """A job or a run: when it was asked for, and when its end was read (0 = not yet)."""

    kind: str
    at: float
    answered: float = 0.0


class _Notes(Inbox):
    """An inbox that notes where each item belongs; what is given out is noted by the application."""

    def __init__(self, session: str, client: str) -> None:
        super().__init__()
        self.segments: list[Segment] = []
        self.welcomes: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.of: dict[int, tuple[Received, Segment]] = {}
        self._who = (TENANT, session, client)

    def receive(self, header: Mapping[str, Any], envelopes: Sequence[Envelope], now: float) -> list[Received]:
        given = super().receive(header, envelopes, now)
        self.refused.update(str(code) for _, code, *_ in header.get("refused", ()))
        if "welcome" in header:
            resume = str(header["welcome"].get("resume"))
            self.welcomes[resume] += 1
            if resume != "resumed":
                epoch, urgent, data = self.cursor[:3]
                self.segments.append(Segment(*self._who, epoch, (urgent, data)))
        for each in given:
            self.of[id(each)] = (each, self.segments[-1])
        return given


class Caller:
    """One client that asks for jobs and runs until it is told to stop.

    Attributes:
        sent: what it sent, and the engine's word. asked: by entity of a job, by id of a run.
    """

    def __init__(self, session: str, name: str, ports: Sequence[int], kinds: KindTable, seed: str) -> None:
        self.session = session
        self.name = name
        self.sent: list[Sent] = []
        self.asked: dict[str, Asked] = {}
        self.notes = _Notes(session, name)
        self._kinds = kinds
        self._dice = random.Random(seed)
        self._sending: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self.client = Client(
            "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports),
            session=session,
            client_id=name,
            kinds=kinds,
            on_failure=self._failed,
            retries=1_000,
            connect_s=5.0,
            heartbeat_s=0.5,
            dead_after_s=2.0,
            backoff=Backoff(self._dice.random, base_s=0.05, cap_s=0.5),
        )
        self.client._inbox = self.notes
        self.failures: list[str] = []

    async def __aenter__(self) -> Caller:
        await self.client.__aenter__()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *error: object) -> None:
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self.client.close()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    async def load(self, stop: asyncio.Event, *, jobs_per_s: float, runs_per_s: float) -> None:
        """Ask at this rate until told to stop, answered or not."""
        share = runs_per_s / (runs_per_s + jobs_per_s)
        while not stop.is_set():
            self.ask("RUN" if self._dice.random() < share else "JOB")
            await asyncio.sleep(self._dice.uniform(0.5, 1.5) / (jobs_per_s + runs_per_s))

    def ask(self, kind: str) -> None:
        """Ask once, without waiting."""
        name = f"{self.name}-{len(self.asked)}"
        self.asked[name] = Asked(kind, time.monotonic())
        task = asyncio.create_task(self._send(kind, name))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    @property
    def quiet(self) -> bool:
        """Whether everything was answered, and everything that was accepted was read to its end."""
        return not self._sending and not self.waiting

    @property
    def waiting(self) -> list[str]:
        """What was accepted and has no end that was read."""
        accepted = {sent.env[5] or sent.env[6] for sent in self.sent if sent.status}
        return [name for name in accepted if not self.asked[name].answered]

    def answers(self, kind: str, since: float) -> Iterator[Asked]:
        """What was asked for since a moment, in order."""
        return (asked for asked in self.asked.values() if asked.kind == kind and asked.at >= since)

    async def _send(self, kind: str, name: str) -> None:
        run, entity = (name, "") if kind == "RUN" else ("", name)
        event = "USER_MESSAGE" if kind == "RUN" else kind
        env = envelope(
            event, producer=self.name, counter=self.client.next_counter, tenant=TENANT, session=self.session,
            run=run, entity=entity, lane=int(self._kinds.lane(event)),
        )  # fmt: skip
        note = Sent(TENANT, self.session, env)
        self.sent.append(note)
        try:
            async with asyncio.timeout(_ANSWER_S):
                told = await self.client.send_event(event, name.encode(), run=run, entity=entity)
        except TimeoutError:
            return
        except LanewayError as error:
            note.refusal = f"{error.code} {error.reason}: {error.message}"
        else:
            note.status = told.status

    async def _read(self) -> None:
        async for event in self.client:
            _, segment = self.notes.of.pop(id(event.received))
            segment.items.append(event.received)
            ended = event.run if event.ends_run else event.entity if event.kind == "CUSTOM" else ""
            asked = self.asked.get(ended)
            if asked is not None and not asked.answered:
                asked.answered = time.monotonic()

    def _failed(self, event: str, error: LanewayError) -> None:
        self.failures.append(f"{event}: {error.code} {error.reason}: {error.message}")
