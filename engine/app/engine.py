"""The composition root: the one place where adapters, actors and policies are put together.

Law of this file: everything is built in `start` and torn down in `close` in the opposite order:
edges stop taking, runs end or are ended, logs are flushed, models, tools and store are closed.
Nothing else in the engine knows more than its own ports.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, Unpack, overload

from laneway.actors.directory.entry import Entry
from laneway.actors.dispatch.accounts import DispatcherStatistics
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.ports import Principal, Probe, Store
from laneway.actors.sessions.census import DirectoryStatistics
from laneway.engine.app.additions import AddedPools, PoolOptions
from laneway.engine.app.assembly import known_over, make_directory, surroundings_of
from laneway.engine.app.brain import Brain
from laneway.engine.app.calls import Calls
from laneway.engine.app.choices import choose_neighbours, choose_runtime, choose_store, first_number
from laneway.engine.app.clock import SystemClock
from laneway.engine.app.closing import close_patiently
from laneway.engine.app.embedded import EmbeddedSession
from laneway.engine.app.outlet import CheckedOutlet
from laneway.engine.app.overload import Overload
from laneway.engine.app.pools import BuiltinPools
from laneway.engine.app.tap import Tap
from laneway.engine.app.telemetry import Telemetry
from laneway.engine.app.toolbox import Toolbox
from laneway.engine.app.upkeep import Upkeep
from laneway.engine.client_errors import OnFailure, log_failure
from laneway.engine.settings import DEFAULTS
from laneway.routing.classify import Kind, KindTable
from laneway.routing.dispatch import DispatchCore
from laneway.routing.errors import LocalProtocolError, RuntimeUnavailable

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from laneway.engine.app.cluster import Cluster
    from laneway.engine.app.registrations import Registrations
    from laneway.engine.app.serving import Edge
    from laneway.engine.config import Config
    from laneway.engine.edge.asgi import Asgi
    from laneway.engine.edge.grpc import GrpcEdge
    from laneway.engine.edge.http import HttpEdge
    from laneway.engine.telemetry.families import Family
    from laneway.routing.membership import Member

__all__ = ["Engine"]

_F = TypeVar("_F", bound=Callable[..., Any])
_DRAIN_S: Final = 1.0


class Engine:
    """An event dispatch engine in this process: no server, no other process, unless asked for.

    ::

        async with Engine() as engine:
            engine.nlp.use(model)
            async with engine.session("s1") as session:
                async for event in session.ask("Hello?"):
                    print(event.text, end="")

    Args:
        config: settings; default: `Config()`, all safe defaults.
        runtime: "local" (all in this process) or "ray" (pools on hosts that Ray places); default: as
            `config.runtime.kind` says.
        store: where logs are kept: None = memory (volatile), a path = sqlite (durable), or a Store.
        kinds: kinds of your own that pools take (`engine.pool` adds missing ones as normal, durable).
        probe: a metrics port of your own, told what the engine counts and measures; see `metrics`.
        tracer_provider: your own OpenTelemetry provider: spans go there instead of to
            `config.telemetry.otlp`, and closing it stays yours. What is traced is still decided by
            `sample_ratio`, `follow_clients` and `traces_per_s`.

    One event loop owns it; `post` may be called from any thread.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        runtime: Literal["local", "ray"] | None = None,
        store: Store | str | os.PathLike[str] | None = None,
        kinds: Iterable[Kind] = (),
        probe: Probe | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        self.config = choose_runtime(config or DEFAULTS, runtime)
        self.kinds = KindTable(kinds)
        self.clock = SystemClock()
        self.telemetry = Telemetry(self.config.telemetry, self.clock, self._measured, probe, tracer_provider)
        self.tools = Toolbox(self.config.tools.workers)
        self.nlp = Brain(lambda: self.overload.level)
        self.tap = Tap(time.time, os.urandom(16).hex())
        if self.config.nlp.model:
            self.nlp.use(self.config.nlp.model, degraded=self.config.nlp.degraded_model or None)
        self._probe = self.telemetry.probe
        self._store = choose_store(self.config, store)
        self.neighbours = choose_neighbours(self.config, self._store)
        core = DispatchCore(self.kinds, self.config.dispatch_policy())
        shedding = core.admission.shedding
        self.overload = Overload(self.telemetry.lag, shedding, self.config.overload_policy(), self._probe)
        self.directory = make_directory(self, shedding)
        self.outlet = CheckedOutlet(self.directory)
        around = surroundings_of(self)
        first = first_number(self.neighbours)
        self.dispatcher = Dispatcher(
            core, around, journal=self.directory.journal, probe=self._probe, first_number=first
        )
        self.directory.bind(self.dispatcher)
        core.admission.known_over = known_over(self.directory)
        self.entry: Entry = self.directory
        if self.neighbours is not None:
            self.entry = self.neighbours.bind(self.directory, self.clock, self.kinds)
        self.calls = Calls(self)
        self.builtins = BuiltinPools(
            self.config,
            model=self.nlp,
            catalogue=self.tools.catalogue,
            store=self._store,
            directory=self.directory,
            kinds=self.kinds,
            clock=self.clock,
            probe=self._probe,
        )
        if self.neighbours is not None:
            self.builtins.share(self.neighbours)
        self.builtins.add_to(self.dispatcher)
        self.pools = AddedPools(self.kinds, self.config.runtime, self.dispatcher.add_pool)
        sweep = self.builtins.sweep
        self._upkeep = Upkeep(self.directory, durable=self._store.durable, sweep=sweep, probe=self._probe)
        self.cluster: Cluster | None = None
        self._edges: list[Edge] = []
        self._begun = False
        self._starting: asyncio.Task[Any] | None = None
        self._started = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # -- what an embedder sets up -------------------------------------------------------------

    @overload
    def pool(
        self, name: str, kinds: Iterable[str | Kind], handler: None = None, **options: Unpack[PoolOptions]
    ) -> Callable[[_F], _F]: ...
    @overload
    def pool(
        self, name: str, kinds: Iterable[str | Kind], handler: str, **options: Unpack[PoolOptions]
    ) -> Callable[..., Any]: ...
    @overload
    def pool(self, name: str, kinds: Iterable[str | Kind], handler: _F, **options: Unpack[PoolOptions]) -> _F: ...
    def pool(
        self,
        name: str,
        kinds: Iterable[str | Kind],
        handler: Callable[..., Any] | str | None = None,
        **options: Unpack[PoolOptions],
    ) -> Any:
        """Add a pool: events of these kinds go to `handler`; usable as a decorator.

        Args:
            kinds: names or `Kind` rows; an unknown name becomes a normal, durable inbound kind.
            handler: ``async def handle(event, context)``, or with `batch` lists of both, or the import
                path of one (``module:function``); what it may return is told at `handlers.adapt`.
            options: see `PoolOptions`.

        Raises ConfigError: a name is taken, an option is wrong, or the handler is not async or not there.
        """
        if handler is None:
            return lambda function: self.pools.add(name, kinds, function, **options)
        return self.pools.add(name, kinds, handler, **options)

    # -- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Engine:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the store and begin to take up what a former process left. Raises StoreError.

        What was left is dispatched again once the caller awaits something: pools and a model added
        right after the start (`async with Engine(...) as engine: ...`) still get theirs.
        """
        if self._begun:
            raise LocalProtocolError("an engine is started once; make a new one")
        self._begun = True
        self._loop, self._starting = asyncio.get_running_loop(), asyncio.current_task()
        try:
            await self.telemetry.start()
            await self._store.open()
            await self.dispatcher.start()
            if self.neighbours is not None:
                from laneway.engine.app.cluster import Cluster

                self.cluster = Cluster(self, self.neighbours)
                await self.cluster.start()
            self._upkeep.start()
        except BaseException:
            await self.close(0.0)
            raise
        finally:
            self._started.set()

    async def recovered(self) -> int:
        """Wait until everything a former process left was taken up; returns how many sessions had work.

        Raises StoreError if the store could not be read. Only before `close`.
        """
        return await self._upkeep.recovered()

    async def close(self, drain_s: float | None = None) -> None:
        """Drain and stop; idempotent. A start that is under way is waited for, and what it opened is closed.

        Args:
            drain_s: how long runs may still take; then they end with RUN_ERROR DRAINED. Default:
                `config.limits.drain_s` with an edge, 1 s without.
        """
        if not self._begun:  # tools and model may have been opened before the start
            self._begun = True
            await close_patiently({"the model": self.nlp, "the tools": self.tools})
        if self._starting not in (None, asyncio.current_task()):
            await self._started.wait()
        if self._loop is None:
            return
        if drain_s is None:
            drain_s = self.config.limits.drain_s if self._edges else _DRAIN_S
        edges, self._edges = self._edges, []
        self.directory.drain(retry_after_ms=int(drain_s * 500))
        leaving = [asyncio.create_task(edge.drain(drain_s)) for edge in edges]
        await self.dispatcher.drain(drain_s)
        await self.builtins.close()
        await self._upkeep.close()
        await self.directory.close()  # writes the logs; links send what is due and end, and so do their streams
        await asyncio.gather(*leaving)
        await close_patiently({"the model": self.nlp, "the tools": self.tools})
        if self.neighbours is not None:
            await self.neighbours.close()
        if self.cluster is not None:
            await self.cluster.close(drain_s)
        await self._store.close()
        await self.telemetry.close()
        self._loop = None

    # -- use ----------------------------------------------------------------------------------

    def session(
        self,
        name: str,
        *,
        user: str = "local",
        tenant: str = "default",
        scopes: Iterable[str] = ("admin",),
        topics: Iterable[str] = (),
        on_failure: OnFailure = log_failure,
    ) -> EmbeddedSession:
        """Return a session to use with `async with`: send, ask, interrupt, iterate over its events.

        Args:
            user, tenant, scopes: who speaks; the default may do everything in tenant "default".
            topics: ``topic:NAME`` each, to listen to.
            on_failure: called while iterating with `Receipt.id` and the error of an event that was
                accepted and failed outside of a run. Default: a warning in the log.
        """
        principal = Principal(user, tenant, frozenset(scopes))
        who = (principal, topics, on_failure, self.telemetry.traffic["embedded"], self.telemetry.sender(name))
        return EmbeddedSession(self.entry, self.kinds, self.clock, name, *who)

    def post(
        self, session: str, text: str, *, user: str = "local", tenant: str = "default"
    ) -> concurrent.futures.Future[Any]:
        """Send a user message from any thread; returns a future of the Receipt.

        Raises RuntimeUnavailable if the engine is not running. Do not wait for the future on the
        engine's own thread.
        """
        if self._loop is None:
            raise RuntimeUnavailable("the engine is not running; enter it with `async with` first")
        return asyncio.run_coroutine_threadsafe(self._post(session, text, user, tenant), self._loop)

    async def _post(self, session: str, text: str, user: str, tenant: str) -> Any:
        return await self.session(session, user=user, tenant=tenant).send(text)

    async def publish(self, topic: str, body: bytes, *, tenant: str = "default") -> int:
        """Send to `user:SUBJECT`, `tenant` or `topic:NAME`, without a run; returns how many sessions took it."""
        return await self.entry.publish(tenant, topic, body)

    async def serve_grpc(self, **options: Any) -> GrpcEdge:
        """Open a gRPC edge in front of this engine; returns it, with its `port`. Closed with the engine.

        Args:
            options: fields of `GrpcPolicy` and `authenticate`; default: loopback, any free port.

        Raises ConfigError: a public address without TLS and authentication, or the port is taken.
        """
        from laneway.engine.app.serving import open_grpc

        edge = await open_grpc(self, options)
        self._edges.append(edge)
        return edge

    async def serve_http(self, **options: Any) -> HttpEdge:
        """Open an HTTP edge in front of this engine; returns it, with its `port`. Closed with the engine.

        Args:
            options: host, port, tls, insecure, and those of `asgi`; default: loopback, any free port.

        Raises ConfigError as `serve_grpc`.
        """
        from laneway.engine.app.serving import open_http

        edge = await open_http(self, **options)
        self._edges.append(edge)
        return edge

    def asgi(self, **options: Any) -> Asgi:
        """Return the HTTP edge as an ASGI application, to mount below any path of yours.

        Args:
            options: authenticate (default: nobody is asked, and only this machine is served), origins,
                max_streams, max_streams_per_principal, agui: see `app.serving.make_asgi`.

        Call it on the engine's own event loop. `close` drains its streams.
        """
        from laneway.engine.app.serving import make_asgi

        app = make_asgi(self, **options)
        self._edges.append(app)
        return app

    @property
    def state(self) -> str:
        """One of: stopped, recovering (what a former process left is being taken up), running, draining."""
        if self._loop is None:
            return "stopped"
        if self.directory.draining:
            return "draining"
        return "running" if self._upkeep.done else "recovering"

    @property
    def hosts(self) -> Sequence[Member]:
        """Who is alive in the cluster, this front among them, by name: role, node, pid, pools of each.

        Empty while it is stopped, and with the local runtime.
        """
        return self.cluster.hosts if self.cluster is not None and self._loop is not None else ()

    @property
    def store(self) -> Store:
        """Where logs are kept."""
        return self._store

    def metrics(self) -> str:
        """Return every metric as text for Prometheus (format 0.0.4); docs/metrics.md lists them. About 2 ms."""
        from laneway.engine.telemetry.exposition import exposition

        return exposition(self.telemetry.read())

    def _measured(self) -> list[Family]:
        from laneway.engine.app.readings import measured

        return measured(self)

    def registrations(self) -> Registrations:
        """Return what this engine was told, as hosts are told it. Raises ConfigError for what has no import path."""
        from laneway.engine.app.registrations import Registrations

        return Registrations.of(self.kinds, self.pools, self.tools, self.nlp, self.config.runtime)

    def statistics(self) -> tuple[DispatcherStatistics, DirectoryStatistics]:
        """Return the counters and gauges of dispatcher and sessions."""
        return self.dispatcher.statistics(), self.directory.statistics()
