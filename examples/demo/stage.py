"""The engine of the demo: real tools, a real model, a gRPC edge, and a wire that can be cut.

It is told the same for every runtime: the one difference is the setting `runtime.kind`. All other settings
of [runtime] are taken from the environment, as `laneway serve` does.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress, TaskID

from examples.demo import hosts
from examples.demo.hosts import Loss
from examples.demo.models import ARE_YOU_IDLE
from examples.demo.report import Books, Hosting, Verdict, judge
from examples.demo.work import SLOTS, WORK_KINDS, word_count, work
from laneway import Config, Engine
from laneway.engine.models.weights import fetch
from laneway.engine.testing.proxy import Proxy
from laneway.engine.tooling.mcp import MCPServer

_MODELS = {"local-llm": "examples.demo.models:local_llm", "synthetic": "examples.demo.models:synthetic"}
_CUT_AFTER_BYTES = 3000
_PATIENCE = {"LANEWAY_RUNTIME__READY_S": "60", "LANEWAY_RUNTIME__LOST_S": "10"}
"""Hosts of a busy little machine take long to import everything, and are not dead when they are slow to say so."""
_WORDS = 3
"""An answer is going on when so much of it has been read."""
_LOOK_S = 0.02


class Stage:
    """The engine and everything around it; enter it to start, leave it to stop.

    Args:
        model: "local-llm" or "synthetic".
        runtime: of the engine.
        directory: where the sqlite file goes.
    """

    def __init__(self, model: str, runtime: Literal["local", "ray"], directory: Path, progress: Progress) -> None:
        self.model_name = model
        self.on_hosts = runtime == "ray"
        cluster = f"demo-{os.urandom(4).hex()}"  # a Ray that runs may have a cluster of somebody else's
        environ = {**_PATIENCE, **os.environ}
        settings = Config.load(environ=environ, overrides={"runtime": {"kind": runtime, "cluster": cluster}}).runtime
        self.engine = Engine(Config(runtime=settings), store=directory / "demo.db", kinds=WORK_KINDS)
        self.proxy: Proxy | None = None
        self.port = 0
        self._progress = progress
        self._stack = AsyncExitStack()
        self._started_s = 0.0

    async def __aenter__(self) -> Stage:
        try:
            await self._set_up()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def _set_up(self) -> None:
        engine = self.engine
        self._stack.push_async_callback(engine.close)
        if self.model_name == "local-llm":
            await self._fetch_weights()
        engine.nlp.use(_MODELS[self.model_name])
        engine.tools.add(word_count, effects=False, idempotent=True)
        engine.pool("work", WORK_KINDS, work, concurrency=SLOTS)
        await self._prepare_tools()
        await self._start()
        await self._rehearse()
        edge = await engine.serve_grpc()
        self.port = edge.port
        self.proxy = await self._stack.enter_async_context(Proxy(edge.port))
        self.proxy.cut_after(_CUT_AFTER_BYTES)

    async def _fetch_weights(self) -> None:
        bar = self._progress.add_task("model weights (98 MB, once)", total=None, note="")

        def told(stage: str, done: int, total: int) -> None:
            self._progress.update(bar, completed=done, total=total or None, note=stage)

        await fetch(told)
        self._done(bar, "there")

    async def _prepare_tools(self) -> None:
        bar = self._progress.add_task("MCP server (own environment, once)", total=None, note="")

        def told(line: str) -> None:
            self._progress.update(bar, note=line[-40:])

        server = MCPServer.managed("mcp-server-time==2026.10.19", progress=told)
        specs = await self.engine.tools.mcp(server)
        self._done(bar, ", ".join(spec.name for spec in specs))

    async def _start(self) -> None:
        bar = self._progress.add_task("engine" + (" and its hosts" if self.on_hosts else ""), total=None, note="")
        begun = time.monotonic()
        await self.engine.start()
        self._started_s = time.monotonic() - begun
        self._done(bar, ", ".join(host.name for host in self.engine.hosts if host.role == "pool"))

    async def _rehearse(self) -> None:
        bar = self._progress.add_task("model", total=None, note="loading")
        self._done(bar, await self._ask_model())

    def _done(self, bar: TaskID, note: str) -> None:
        self._progress.update(bar, total=1, completed=1, note=note)

    # -- while the clients play -----------------------------------------------------------------

    async def lose_worker(self) -> Loss:
        """Kill the host of the `work` pool once the flood has filled every queue before it."""
        pool = self.engine.dispatcher.pool("work")
        assert pool is not None
        while not (self.engine.statistics()[0].refused and pool.load):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(_LOOK_S)
        return await hosts.lose(self.engine, "work")

    async def lose_model(self, session: str) -> Loss:
        """Kill the host of the model while it answers in a session."""
        async with self.engine.session(session) as listening:
            words = 0
            async for event in listening:
                words += event.kind == "TEXT_MESSAGE_CONTENT"
                if words == _WORDS:
                    break
        return await hosts.lose(self.engine, "nlp")

    # -- afterwards -----------------------------------------------------------------------------

    async def judge(self, results: Mapping[str, Mapping[str, Any]], losses: Sequence[Loss], took_s: float) -> Verdict:
        """Look at what the clients saw and at what is left in the engine."""
        idle = await self._ask_model()
        dispatcher, directory = self.engine.statistics()
        ended = dispatcher.handled + dispatcher.expired + dispatcher.dropped + dispatcher.cancelled
        ended += dispatcher.failed + dispatcher.dead
        hosting = None
        if self.on_hosts:
            hosting = Hosting(self.engine.hosts, self._started_s, losses, hosts.handled_again(self.engine))
        return judge(
            results,
            model=self.model_name,
            slots=idle,
            cuts=self.proxy.cuts if self.proxy is not None else 0,
            books=Books(dispatcher.accepted, ended + dispatcher.pending, directory.issued, dispatcher.dead),
            hosting=hosting,
            took_s=took_s,
        )

    async def _ask_model(self) -> str:
        """Return what the model says of itself, wherever it runs; the first time this loads it."""
        async with self.engine.session("prompter") as session:
            said = [event.text async for event in session.ask(ARE_YOU_IDLE) if event.kind == "TEXT_MESSAGE_CONTENT"]
        return "".join(said)

    def target(self, name: str) -> str:
        """Where a client connects: all but the one that will be cut go straight to the edge."""
        if name == "cut":
            assert self.proxy is not None
            return self.proxy.target
        return f"127.0.0.1:{self.port}"

    def steering(self) -> Sequence[str]:
        """Arguments for clients about the model."""
        return ("--model", self.model_name)
