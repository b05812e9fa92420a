"""One simulated engine process: the real actors over a simulated disk, and the edge in front.

Law of this file: nothing in here survives `kill`; what the process promised must be on the disk.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.directory.entry import Entry, Joined
from laneway.actors.dispatch.books import OnDone
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.nlp.runs import RunDriver
from laneway.actors.pools.context import Surroundings
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, Observe, Out, Outcome, Principal, Store
from laneway.actors.sessions.session import SessionPolicy
from laneway.actors.tools.calls import ToolCalls
from laneway.actors.tools.catalogue import Catalogue
from laneway.actors.tools.ledger import Ledger
from laneway.engine.app.neighbours import Neighbours
from laneway.engine.codec import pack_body, pack_envelope, unpack_envelope
from laneway.engine.frames import Frames
from laneway.routing.classify import IN, Kind, KindTable
from laneway.routing.dispatch import DispatchCore, DispatchPolicy, Verdict
from laneway.routing.envelope import COUNTER, KIND, PRODUCER, Envelope, envelope_id
from laneway.routing.errors import LanewayError
from laneway.routing.handshake import parse_hello
from laneway.routing.lanes import Lane
from laneway.routing.unread import Unread
from tests.simulation.clocks import WallClock
from tests.simulation.disk import SimStore
from tests.simulation.faults import Faults
from tests.simulation.history import Ended, History, Started
from tests.simulation.loop import Lifetime, VirtualClock
from tests.simulation.network import Broken, Connection, End
from tests.simulation.script import ScriptedModel
from tests.simulation.tool import Weatherman

__all__ = ["Packing", "Process", "kind_table"]

_DRAIN_S: Final = 1.0
_WRAPPED: Final = 32
_UNREAD: Final[tuple[Unread, ...]] = ("pause", "continue", "close")
"""What becomes of runs that nobody reads, in one life of the engine after the other."""


def kind_table() -> KindTable:
    """The built-in kinds and the simulation's own."""
    return KindTable(
        (
            Kind("ECHO", Lane.NORMAL, direction=IN),
            Kind("FLAKY", Lane.HIGH, direction=IN),
            Kind("URGE", Lane.CRITICAL, direction=IN),
            Kind("BLIP", Lane.LOW, durable=False, droppable=True, direction=IN),
            Kind("POISON", Lane.NORMAL, direction=IN),
        )
    )


class Packing:
    """The Packer of logs: the wire codec."""

    def __init__(self, kinds: KindTable) -> None:
        self._kinds = kinds

    def pack(self, env: Envelope, now: float) -> bytes:
        """Envelope to bytes."""
        return pack_envelope(env, now, self._kinds)

    def unpack(self, data: bytes, now: float) -> Envelope:
        """Bytes to envelope."""
        return unpack_envelope(data, now, self._kinds)


class Books:
    """The dispatcher as sessions see it, with everything written down."""

    def __init__(self, dispatcher: Dispatcher, history: History, life: int, lifetime: Lifetime) -> None:
        self._dispatcher = dispatcher
        self._history = history
        self._life = life
        self._lifetime = lifetime
        self._wrapped: dict[OnDone | None, OnDone] = {}

    def introduce(self, tenant: str, session: str, producer: str, subject: str) -> None:
        """Pass on."""
        self._dispatcher.introduce(tenant, session, producer, subject)

    def admit_batch(self, envs: Sequence[Envelope]) -> list[Verdict]:
        """Pass on."""
        return self._dispatcher.admit_batch(envs)

    def release(self, env: Envelope) -> None:
        """Pass on."""
        self._dispatcher.release(env)

    def forget(self, tenant: str, session: str) -> bool:
        """Pass on."""
        return self._dispatcher.forget(tenant, session)

    def enqueue_batch(self, envs: Sequence[Envelope], on_done: OnDone | None = None) -> None:
        """Write down and pass on."""
        self._history.enqueued += [Started(self._life, "", env, at) for at, env in enumerate(envs, self._history.at)]
        if on_done not in self._wrapped:  # one object each, as the dispatcher asks for
            if len(self._wrapped) >= _WRAPPED:
                self._wrapped.clear()  # sessions that are asleep must not stay for our sake
            self._wrapped[on_done] = partial(self._done, on_done)
        self._dispatcher.enqueue_batch(envs, self._wrapped[on_done])

    def _done(self, on_done: OnDone | None, ended: Sequence[tuple[Envelope, Outcome]]) -> None:
        if self._lifetime.alive:
            self._history.ended += [Ended(self._life, env, outcome) for env, outcome in ended]
        if on_done is not None:
            try:
                on_done(ended)
            except Exception as error:
                if self._lifetime.alive:
                    ids = [envelope_id(env) for env, _ in ended]
                    self._history.violations.append(f"on_done of {ids} raised {error!r}")
                raise

    def cancel(
        self, tenant: str, session: str, run: str = "", event_id: str = "", reason: str = "", *, remember: bool = True
    ) -> int:
        """Pass on."""
        return self._dispatcher.cancel(tenant, session, run, event_id, reason, remember=remember)


class Process:
    """One life of the engine.

    Args:
        life: its number. wall: UNIX seconds.
        on_poison: called when a handler brings the process down.
        neighbours: makes what it shares with other fronts, over its store; without it there are none.
        scale: as in `Shape`.
    """

    def __init__(
        self,
        life: int,
        disk: Store,
        wall: WallClock,
        faults: Faults,
        history: History,
        kinds: KindTable,
        policy: SessionPolicy,
        on_poison: Callable[[], None],
        neighbours: Callable[[Store], Neighbours] | None = None,
        scale: int = 1,
    ) -> None:
        self.life = life
        self._scale = scale
        self.lifetime = Lifetime(f"engine {life}")
        self.store = SimStore(disk, faults)
        self.probe: Counter[str] = Counter()
        self.policy = policy
        self._connections: list[Connection] = []
        self._faults = faults
        self._history = history
        self._clock = VirtualClock(asyncio.get_running_loop())
        self._frames = Frames(kinds, self._clock.now)
        self._on_poison = on_poison
        self._links = 0
        self.echo_s = 0.02
        self.neighbours = neighbours(self.store) if neighbours is not None else None
        core = DispatchCore(kinds, DispatchPolicy())
        self.shedding = core.admission.shedding
        self.directory = SessionDirectory(
            self.store, clock=self._clock, kinds=kinds, packer=Packing(kinds), policy=policy,
            link_ids=self._link_id, wall=wall.now, shedding=self.shedding, probe=self,
            homes=None if self.neighbours is None else self.neighbours.homes,
        )  # fmt: skip
        self.entry: Entry = self.directory
        if self.neighbours is not None:
            self.entry = self.neighbours.bind(self.directory, self._clock, kinds)
        around = Surroundings(
            outlet=self.directory, clock=self._clock, kinds=kinds, ids=self._link_id,
            principal=self.directory.principal_of, tool_timeout_s=4.0,
        )  # fmt: skip
        self.dispatcher = Dispatcher(core, around, journal=self.directory.journal, probe=self)
        tools = Catalogue()
        tools.add(Weatherman(faults, history, self.lifetime))
        self.calls = ToolCalls(tools, Ledger(self.store), clock=self._clock, probe=self, random=faults.rng.random)
        self.directory.bind(Books(self.dispatcher, history, life, self.lifetime))
        for spec in self._pools():
            self.dispatcher.add_pool(spec)

    async def start(self) -> None:
        """Take up what the disk holds and serve. Raises what recovery raises."""
        await self.dispatcher.start()
        await self.directory.recover()

    @property
    def connections(self) -> int:
        """Connections that are open."""
        return len(self._connections)

    def hang_up(self) -> None:
        """Break every connection."""
        for connection in self._connections:
            connection.cut()

    async def kill(self) -> None:
        """kill -9."""
        self.store.kill()
        self.hang_up()
        await self.lifetime.kill()

    async def shut_down(self) -> None:
        """An orderly end."""
        self.directory.drain(1000)
        await self.dispatcher.drain(_DRAIN_S)
        await self.calls.close()
        await self.directory.flush()
        await self.directory.close()
        if self.neighbours is not None:
            await self.neighbours.close()

    # -- probe --------------------------------------------------------------------------------

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        """Count; what must never happen is a violation."""
        self.probe[name] += value
        self._history.left_out += value * (name == "overload.dropped")
        if self.lifetime.alive and name in ("dispatch.callback_failed", "cell.crashed"):
            self._history.violations.append(f"{name} {labels}")

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Nobody asks."""

    def histogram(self, name: str, **labels: str) -> Observe:
        """Ignored."""
        return lambda value, times=1: None

    # -- edge ---------------------------------------------------------------------------------

    def _link_id(self) -> str:
        self._links += 1
        return f"{self.life}.{self._links}"

    def accept(self, tenant: str, subject: str) -> End:
        """Take a connection; returns the client's end."""
        connection = Connection(self._faults, posts=self._faults.happens("client posts", self._faults.weather.posts))
        self._connections.append(connection)
        self.lifetime.start(self._serve(connection, Principal(subject, tenant)), f"serve {subject}")
        return connection.client

    async def _serve(self, connection: Connection, principal: Principal) -> None:
        end = connection.server
        attachment: Joined | None = None
        try:
            header, _ = self._frames.decode(await end.receive())
            attachment = await self.entry.attach(parse_hello(header.get("hello")), principal)
            tasks = [asyncio.create_task(self._in(end, attachment)), asyncio.create_task(self._out(end, attachment))]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
            for error in results:
                if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                    raise error
        except Broken:
            pass
        except LanewayError as error:
            await self._refuse(end, error)
        except Exception as error:
            self._history.violations.append(f"the edge caught {error!r}")
        finally:
            if attachment is not None:
                await attachment.close()
            end.close()
            self._connections.remove(connection)

    async def _refuse(self, end: End, error: LanewayError) -> None:
        notice = {"code": error.code, "reason": error.reason, "message": error.message, "fatal": True}
        try:
            async with asyncio.timeout(1.0):
                await end.send(self._frames.encode({"notice": notice}, ()))
        except (Broken, TimeoutError):
            return

    async def _in(self, end: End, attachment: Joined) -> None:
        while True:
            await attachment.receive(*self._frames.decode(await end.receive()))

    async def _out(self, end: End, attachment: Joined) -> None:
        while True:
            for header, envs in await attachment.frames():
                await end.send(self._frames.encode(header, envs))

    # -- pools --------------------------------------------------------------------------------

    def _pools(self) -> list[PoolSpec]:
        model = ScriptedModel(self._faults, lambda code: self._faults.fired.update({f"tool {code}": 1}))
        unread = _UNREAD[(self._faults.seed + self.life - 1) % len(_UNREAD)]
        driver = RunDriver(model, clock=self._clock, history=self.directory.messages, unread=unread)
        much = self._scale
        return [
            PoolSpec("nlp", ["USER_MESSAGE"], self._noted("nlp", driver), concurrency=6 * much, run_starting=True),
            PoolSpec(
                "echo",
                ["ECHO", "BLIP"],
                self._noted("echo", self._echo),
                cells=2,
                keyed="session",
                concurrency=8 * much,
            ),
            PoolSpec("flaky", ["FLAKY"], self._noted("flaky", self._flaky), concurrency=3 * much, grace_s=0.5),
            PoolSpec("urge", ["URGE"], self._noted("urge", self._echo), concurrency=much),
            PoolSpec("tools", ["TOOL_CALL"], self._noted("tools", self.calls), concurrency=4 * much),
            PoolSpec("poison", ["POISON"], self._noted("poison", self._poison), concurrency=much),
        ]

    def _noted(self, pool: str, handler: Any) -> Any:
        async def handle(env: Envelope, context: Context) -> object:
            if self.lifetime.alive:
                self._history.started.append(Started(self.life, pool, env, self._history.at))
            return await handler(env, context)

        return handle

    async def _echo(self, env: Envelope, context: Context) -> Out:
        await self._faults.pause(0.0, self.echo_s)
        return Out("CUSTOM", pack_body({"name": "echo", "value": envelope_id(env)}))

    async def _flaky(self, env: Envelope, context: Context) -> Out | None:
        mood = random.Random(f"{env[PRODUCER]}:{env[COUNTER]}:{self.life}").random()
        await self._faults.pause(0.0, 0.05)
        if mood < 0.2:
            self._faults.fired["handler failed"] += 1
            raise ValueError("this handler fails sometimes")
        if mood < 0.3:
            self._faults.fired["handler slow"] += 1
            await asyncio.sleep(1.5)
        elif mood < 0.4:
            await self._stubborn()
        return Out("CUSTOM", pack_body({"name": env[KIND], "value": envelope_id(env)}))

    async def _stubborn(self) -> None:
        """Work on for two seconds whoever asks to stop (a kill excepted)."""
        self._faults.fired["handler stubborn"] += 1
        loop = asyncio.get_running_loop()
        ends = loop.time() + 2.0
        while self.lifetime.alive and loop.time() < ends:
            try:
                await asyncio.sleep(ends - loop.time())
            except asyncio.CancelledError:
                self._faults.fired["cancel ignored"] += 1

    async def _poison(self, env: Envelope, context: Context) -> None:
        self._faults.fired["handler killed the process"] += 1
        self._on_poison()
        await asyncio.Event().wait()
