"""The pools every engine has: nlp, tools, state, publish.

Law of this file: these are pools like an embedder's own, added the same way; what they need beyond
an event (ledger, documents) is owned and closed here.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from laneway.actors.directory.directory import SessionDirectory
from laneway.actors.directory.entry import Entry
from laneway.actors.dispatch.dispatcher import Dispatcher
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Clock, Context, Model, Probe, Store
from laneway.actors.tools.catalogue import Catalogue
from laneway.engine.app.placements import FRONT_POOLS, HOSTS, placement_of
from laneway.routing.classify import KindTable
from laneway.routing.envelope import BODY, ENTITY, TENANT, Envelope

if TYPE_CHECKING:
    from laneway.actors.nlp.runs import RunDriver
    from laneway.actors.sync.documents import Documents
    from laneway.actors.sync.shared import SharedDocuments
    from laneway.actors.tools.calls import ToolCalls
    from laneway.actors.tools.desk import ToolStatistics
    from laneway.engine.app.neighbours import Neighbours
    from laneway.engine.config import Config

__all__ = ["NLP_KINDS", "TOOL_KINDS", "BuiltinPools"]

NLP_KINDS: Final = ("USER_MESSAGE", "RUN_INPUT")
TOOL_KINDS: Final = ("TOOL_CALL",)


class BuiltinPools:
    """Handlers of the built-in kinds.

    Args:
        model: what answers runs. catalogue: the tools.
    """

    def __init__(
        self,
        config: Config,
        *,
        model: Model,
        catalogue: Catalogue,
        store: Store,
        directory: SessionDirectory,
        kinds: KindTable,
        clock: Clock,
        probe: Probe,
    ) -> None:
        self._config = config
        self._store = store
        self._directory = directory
        self._kinds = kinds
        self._clock = clock
        self._probe = probe
        self._model = model
        self._runs: RunDriver | None = None
        self._catalogue = catalogue
        self._tools: ToolCalls | None = None
        self._entry: Entry = directory
        self._documents: Documents | SharedDocuments | None = None
        self._known: set[tuple[str, str]] = set()

    def add_to(self, dispatcher: Dispatcher) -> None:
        """Add the pools."""
        runs, calls = self._config.nlp.concurrency, self._config.tools.concurrency
        state = ("DOC_SYNC", "DOC_PATCH", "PRESENCE")
        for name in FRONT_POOLS:
            placement_of(self._config.runtime, name)  # refused if it is to be elsewhere
        nlp, tools = (placement_of(self._config.runtime, name) == HOSTS for name in ("nlp", "tools"))
        run_wait_s, call_wait_s = self._config.nlp.target_wait_s or inf, self._config.tools.target_wait_s or inf
        dispatcher.add_pool(
            PoolSpec(
                "nlp",
                NLP_KINDS,
                self._on_run,
                concurrency=runs,
                run_starting=True,
                target_wait_s=run_wait_s,
                tenant_share=self._config.nlp.tenant_share,
                remote=nlp,
            )
        )
        dispatcher.add_pool(
            PoolSpec("tools", TOOL_KINDS, self._on_call, concurrency=calls, target_wait_s=call_wait_s, remote=tools)
        )
        dispatcher.add_pool(PoolSpec("state", state, self._on_documents, cells=2, keyed="entity", batch=True))
        dispatcher.add_pool(PoolSpec("publish", ("PUBLISH",), self._on_publish))

    def share(self, neighbours: Neighbours) -> None:
        """There are other fronts: documents and publications are everybody's. Before the first event."""
        self._entry = neighbours.fronts
        self._documents = neighbours.share(partial(self._make_documents, neighbours))

    def _make_documents(self, neighbours: Neighbours, elsewhere: Callable[[str, str], None]) -> Documents:
        from laneway.engine.app.documents import make_documents

        around = (self._store, neighbours.fronts, self._clock, self._kinds, self._probe)
        return make_documents(*around, homes=neighbours.homes, elsewhere=elsewhere)

    def _driver(self) -> RunDriver:
        """Return what drives runs; the first one loads it, as many engines have no model."""
        if self._runs is None:
            from laneway.actors.nlp.runs import RunDriver

            nlp, history = self._config.nlp, self._directory.messages
            self._runs = RunDriver(
                self._model, clock=self._clock, history=history, raw=nlp.raw, probe=self._probe, unread=nlp.unread
            )
        return self._runs

    def _on_run(self, env: Envelope, context: Context) -> Coroutine[Any, Any, None]:
        return (self._runs or self._driver())(env, context)

    def _calls(self) -> ToolCalls:
        """Return what handles calls; the first one loads it, as many engines have no tools."""
        if self._tools is None:
            import random

            from laneway.actors.tools.calls import ToolCalls
            from laneway.actors.tools.ledger import Ledger
            from laneway.actors.tools.recall import Recall

            store, clock = self._store, self._clock
            ledger = Ledger(store, recall=None if store.durable or store.shared else Recall(clock))
            self._tools = ToolCalls(self._catalogue, ledger, clock=clock, probe=self._probe, random=random.random)
        return self._tools

    def _on_call(self, env: Envelope, context: Context) -> Coroutine[Any, Any, bytes]:
        return (self._tools or self._calls())(env, context)

    async def _on_documents(
        self, envs: Sequence[Envelope], contexts: Sequence[Context]
    ) -> Sequence[BaseException | None]:
        """Take document events; the first ones load the CRDT library."""
        if self._documents is None:
            from laneway.engine.app.documents import make_documents

            self._documents = make_documents(self._store, self._directory, self._clock, self._kinds, self._probe)
        return await self._documents.handle_all(envs, contexts)

    async def _on_publish(self, env: Envelope, context: Context) -> None:
        await self._entry.publish(env[TENANT], env[ENTITY], env[BODY], context.trace)

    def tools(self) -> dict[str, ToolStatistics]:
        """Return the gauges of every tool."""
        return self._calls().statistics() if len(self._catalogue) else {}

    def sweep(self) -> None:
        """End the subscriptions of sessions that have gone to sleep since the last call. O(sessions awake)."""
        if self._documents is None:
            return
        awake = {(home.tenant, home.name) for home in self._directory.homes()}
        for tenant, session in self._known - awake:
            self._documents.leave(tenant, session)
        self._known = awake

    async def close(self) -> None:
        """End what still runs and write what waits."""
        if self._tools is not None:
            await self._tools.close()
        if self._documents is not None:
            await self._documents.close()
