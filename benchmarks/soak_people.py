"""Who comes to the soak: each visit enters a session, does one thing, checks it, and leaves.

Talkers read a model's answer; workers have events of three lanes handled; some cancel, some make handlers
fail, some call tools; some read slowly and leave in the middle; and some are cut off again and again
while they read.

Law of this file: every answer is checked to the last token: a visit that gets less, more or something else
raises Lost. What leaves without waiting for the end is meant to.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from benchmarks.counts import Lost
from benchmarks.soak_served import FILL_BYTES, KINDS
from benchmarks.token_source import Reading
from laneway import Client
from laneway.engine.delivery import Event
from laneway.engine.testing.proxy import Proxy
from laneway.routing.backoff import Backoff
from laneway.routing.classify import KindTable
from laneway.routing.errors import LanewayError
from laneway.routing.replay import Cursor

__all__ = ["People", "leaves"]

_PAUSE_S: Final = 0.05
_SESSIONS_EACH: Final = 20
"""Of each visitor: sessions fall asleep and are woken again, and how many there are comes to an end."""
_VISIT_S: Final = 30.0
_TOKENS: Final = 40
_EVENTS: Final = 30
_SLOWLY_S: Final = 0.02
_LOOKS: Final = 25
_CROWD_S: Final = 120.0
_AT_THE_DOORS: Final = 20
"""So many speak at once, where all are to be there."""

Visit = Callable[["People", Client], Awaitable[None]]


class People:
    """All visitors of one engine.

    Args:
        target: HOST:PORT of its gRPC edge. crowd: before their sessions' names.

    Attributes:
        counts: what they did and saw, by name.
    """

    def __init__(self, target: str, crowd: str = "") -> None:
        self.counts: Counter[str] = Counter()
        self._target = target
        self._crowd = crowd
        self._kinds = KindTable(KINDS)
        self._known: dict[str, tuple[int, Cursor | None]] = {}
        self._leaving = asyncio.Event()

    async def stay(self, seconds: float) -> None:
        """Come and go for so long; returns when the last has left. May be asked again: sessions go on. Raises Lost."""
        self._leaving.clear()
        try:
            async with asyncio.TaskGroup() as group:
                for name, (visit, count) in _CROWD.items():
                    for number in range(count):
                        group.create_task(self._come_and_go(f"{name}{number}", visit))
                for number in range(_CUT_OFF):
                    group.create_task(self._cut_off(f"cut{number}"))
                await asyncio.sleep(seconds)
                self._leaving.set()
        except BaseExceptionGroup as errors:
            raise leaves(errors)[0] from errors

    async def be_there(self, count: int) -> None:
        """Have so many sessions awake at once, each with an answer: nobody leaves before all have come. Raises Lost."""
        here, all_there = set[int](), asyncio.Event()
        doors = asyncio.Semaphore(_AT_THE_DOORS)

        def arrived(number: int) -> None:
            here.add(number)
            if len(here) == count:
                all_there.set()

        async def come(number: int) -> None:
            async def talk_and_wait(people: People, client: Client) -> None:
                async with doors:
                    await people.talk(client)
                arrived(number)
                await all_there.wait()

            try:
                await self._visit(f"{self._crowd}there-{number}", talk_and_wait, self._target, _CROWD_S)
            finally:
                arrived(number)  # who was turned away is not waited for

        try:
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    group.create_task(come(number))
        except BaseExceptionGroup as errors:
            raise leaves(errors)[0] from errors

    async def _come_and_go(self, name: str, visit: Visit) -> None:
        """Visit after visit, in one session after the other, round and round."""
        for number in itertools.cycle(range(_SESSIONS_EACH)):
            if self._leaving.is_set():
                return
            await self._visit(f"{self._crowd}{name}-{number}", visit, self._target)
            await asyncio.sleep(_PAUSE_S)

    async def _visit(self, session: str, visit: Visit, target: str, within_s: float = _VISIT_S) -> None:
        """One visit; who is turned away for now, as an engine under load may, comes again later."""
        try:
            async with asyncio.timeout(within_s), self._client(session, target) as client:
                try:
                    await visit(self, client)
                finally:
                    self._known[session] = client.next_counter, client.cursor
        except* LanewayError as errors:
            if not all(_for_now(error) for error in leaves(errors)):
                raise Lost(f"soak, session {session}: {leaves(errors)[0]!r}") from errors
            self.counts["turned away"] += 1
        except* (TimeoutError, ValueError) as errors:
            raise Lost(f"soak, session {session}: {leaves(errors)[0]!r}") from errors
        else:
            self.counts["sessions"] += 1

    def _client(self, session: str, target: str) -> Client:
        """Return the session's one client, which goes on where it stopped the last time."""
        counter, cursor = self._known.get(session, (1, None))
        return Client(
            target,
            session=session,
            client_id="visitor",
            first_counter=counter,
            cursor=cursor,
            kinds=self._kinds,
            on_failure=self._failed,
            backoff=Backoff(random.random, base_s=0.05, cap_s=0.2),
        )

    def _failed(self, receipt: str, error: LanewayError) -> None:
        self.counts["failures told"] += 1

    # -- what a visit is ------------------------------------------------------------------------

    async def talk(self, client: Client) -> None:
        """Ask a model and read all of its answer."""
        await self.ask(client, _TOKENS, 0.001)

    async def work(self, client: Client) -> None:
        """Have events of three lanes handled, and get each one's own answer."""
        bodies = [b"%d" % (client.next_counter + number) for number in range(_EVENTS)]
        lanes = ("HIGH", "NORMAL", "LOW")
        sending = [client.send_event(f"S_WORK_{lanes[number % 3]}", body) for number, body in enumerate(bodies)]
        answers = await asyncio.gather(*sending, return_exceptions=True)
        taken = [body for body, answer in zip(bodies, answers, strict=True) if not _refused(answer)]
        came = [(await anext(client)).body for _ in taken]
        if sorted(came) != sorted(taken):
            raise Lost("a worker's answers are not those it asked for")
        self.counts["turned away"] += len(bodies) - len(taken)
        self.counts["events"] += len(came)

    async def call(self, client: Client) -> None:
        """Call a tool, and one that there is not."""
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(_read(client))
            found = await client.call_tool("wait", {"number": 7})
            if json.loads(found["content"]) != 7:
                raise Lost(f"a tool answered {found}")
            await client.call_tool("nobody", {})
            reader.cancel()
        self.counts["tool calls"] += 2

    async def cancel(self, client: Client) -> None:
        """Start what sleeps for half a minute, and cancel it; interrupt a run in the middle."""
        receipt = await client.send_event("S_SLEEP")
        await client.cancel(receipt.id)
        run = (await client.send(_asked(10_000, 0.01))).run
        first = await anext(client)
        await client.interrupt(run)
        await _end_of(client, run, first)
        self.counts["cancels"] += 2

    async def fail(self, client: Client) -> None:
        """Send what its handler fails at, and what nobody takes."""
        told = self.counts["failures told"]
        await client.send_event("S_FAIL")
        try:
            await client.send_event("S_NOBODY")
        except LanewayError:
            self.counts["refusals"] += 1
        else:
            raise Lost("an event of no kind was taken")
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(_read(client))
            while self.counts["failures told"] == told:  # noqa: ASYNC110 - told to a callback
                await asyncio.sleep(_SLOWLY_S)
            reader.cancel()

    async def linger(self, client: Client) -> None:
        """Read slowly what is far more than credit and budget together, and cancel it before leaving."""
        receipt = await client.send_event("S_FILL")
        await self._look(client)
        await client.cancel(receipt.id)

    async def leave(self, client: Client) -> None:
        """Read slowly, and leave without a word: the run is nobody's any more."""
        await client.send(_asked(5_000, 0.0))
        await self._look(client)

    async def _look(self, client: Client) -> None:
        for _ in range(_LOOKS):
            event = await anext(client)
            if event.kind == "S_FILLER" and len(event.body) != FILL_BYTES:
                raise Lost(f"a slow reader got {len(event.body)} bytes")
            await asyncio.sleep(_SLOWLY_S)
        self.counts["slow reads"] += 1

    async def ask(self, client: Client, tokens: int, gap_s: float) -> None:
        """Ask a model for so many tokens, and read them all. Raises Lost."""
        reading = Reading()
        run = (await client.send(_asked(tokens, gap_s))).run
        async for event in client:
            if event.run == run:
                reading.take(event.text)
                if event.ends_run:
                    break
        if len(reading.lags_s) != tokens:
            raise Lost(f"an answer had {len(reading.lags_s)} tokens, not {tokens}")
        self.counts["tokens"] += tokens

    # -- cut off ------------------------------------------------------------------------------

    async def _cut_off(self, name: str) -> None:
        """Read answers that take a second, while the connection is cut twice in each."""
        async with Proxy(int(self._target.rpartition(":")[2])) as proxy:
            for number in itertools.cycle(range(_SESSIONS_EACH)):
                if self._leaving.is_set():
                    break
                cutting = asyncio.create_task(_cut(proxy))
                try:
                    await self._visit(f"{self._crowd}{name}-{number}", _patiently, proxy.target)
                finally:
                    cutting.cancel()
                    await asyncio.gather(cutting, return_exceptions=True)
            self.counts["cuts"] += proxy.cuts


def _for_now(error: BaseException) -> bool:
    return isinstance(error, LanewayError) and error.retryable


def _refused(answer: object) -> bool:
    """Whether a send was turned away for now. Raises what else became of it."""
    if isinstance(answer, BaseException) and not _for_now(answer):
        raise answer
    return isinstance(answer, BaseException)


def leaves(error: BaseException) -> list[BaseException]:
    """Return what a group of errors is made of."""
    parts = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return [leaf for part in parts for leaf in leaves(part)] if parts else [error]


async def _patiently(people: People, client: Client) -> None:
    await people.ask(client, 100, 0.01)
    people.counts["reconnects"] += client.reconnects


async def _cut(proxy: Proxy) -> None:
    for _ in range(2):
        await asyncio.sleep(0.4)
        proxy.cut()


async def _read(client: Client) -> None:
    async for _ in client:
        pass


async def _end_of(client: Client, run: str, event: Event) -> None:
    while not (event.run == run and event.ends_run):
        event = await anext(client)


def _asked(tokens: int, gap_s: float) -> str:
    return json.dumps({"count": tokens, "gap_s": gap_s})


_CUT_OFF: Final = 2
_CROWD: Final[Mapping[str, tuple[Any, int]]] = {
    "talk": (People.talk, 2),
    "work": (People.work, 2),
    "call": (People.call, 1),
    "cancel": (People.cancel, 1),
    "fail": (People.fail, 1),
    "linger": (People.linger, 2),
    "leave": (People.leave, 1),
}
"""Name -> what they do, and how many at once."""
