"""The engine of the demo: real tools, a real model, a gRPC edge, and a wire that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.progress import Progress, TaskID

from examples.demo.report import Verdict, judge
from laneway import Context, Engine, EnvelopeView, Kind, Lane, Out
from laneway.engine.models.local_llm import ChildOptions, LocalLlm
from laneway.engine.models.openai import ChatOptions
from laneway.engine.models.synthetic import SyntheticModel
from laneway.engine.testing.proxy import Proxy
from laneway.engine.tooling.mcp import MCPServer

CAPACITY_PER_S = 500
"""What the `work` pool can do: 2 at a time, 4 ms each."""
_SLOTS = 2
_SERVICE_S = 0.004
_CUT_AFTER_BYTES = 3000
_SLOTS_OF_MODEL = 6
"""As many answers at once as the demo asks for, so that nobody's first word waits for another's last."""
_SHORT_ANSWERS = ChatOptions(
    tools="grammar", parameters={"max_tokens": 120, "temperature": 0.7, "seed": 1}, max_prompt_chars=4_000
)

WORK_KINDS = (
    Kind("ALERT", Lane.CRITICAL, direction="in"),
    Kind("ORDER", Lane.HIGH, direction="in"),
    Kind("JOB", Lane.NORMAL, direction="in"),
    Kind("HINT", Lane.LOW, direction="in", durable=False),
)


async def word_count(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


class Stage:
    """The engine and everything around it; enter it to start, leave it to stop.

    Args:
        model: "local-llm" or "synthetic".
        directory: where the sqlite file goes.
    """

    def __init__(self, model: str, directory: Path, progress: Progress) -> None:
        self.model_name = model
        self.engine = Engine(store=directory / "demo.db", kinds=WORK_KINDS)
        self.proxy: Proxy | None = None
        self.port = 0
        self._progress = progress
        self._stack = AsyncExitStack()
        self._model: LocalLlm | SyntheticModel | None = None

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
        await self._prepare_model()
        engine = await self._stack.enter_async_context(self.engine)
        assert self._model is not None
        engine.nlp.use(self._model)
        engine.tools.add(word_count, effects=False, idempotent=True)
        await self._prepare_tools()

        @engine.pool("work", kinds=WORK_KINDS, concurrency=_SLOTS)
        async def work(event: EnvelopeView, context: Context) -> Out:
            await asyncio.sleep(_SERVICE_S)
            return Out("CUSTOM", event.body, event.entity)

        edge = await engine.serve_grpc()
        self.port = edge.port
        self.proxy = await self._stack.enter_async_context(Proxy(edge.port))
        self.proxy.cut_after(_CUT_AFTER_BYTES)

    async def _prepare_model(self) -> None:
        if self.model_name == "synthetic":
            self._model = SyntheticModel(tokens=(60, 120), tokens_per_s=40)
            return
        bar = self._progress.add_task("model weights (98 MB, once)", total=None, note="")

        def told(stage: str, done: int, total: int) -> None:
            self._progress.update(bar, completed=done, total=total or None, note=stage)

        self._model = LocalLlm(ChildOptions(slots=_SLOTS_OF_MODEL), options=_SHORT_ANSWERS, progress=told)
        await self._model.open()
        self._done(bar, "loaded")

    async def _prepare_tools(self) -> None:
        bar = self._progress.add_task("MCP server (own environment, once)", total=None, note="")

        def told(line: str) -> None:
            self._progress.update(bar, note=line[-40:])

        server = MCPServer.managed("mcp-server-time==2026.10.19", progress=told)
        specs = await self.engine.tools.mcp(server)
        self._done(bar, ", ".join(spec.name for spec in specs))

    def _done(self, bar: TaskID, note: str) -> None:
        self._progress.update(bar, total=1, completed=1, note=note)

    async def judge(self, results: Mapping[str, Mapping[str, Any]], took_s: float) -> Verdict:
        """Look at what the clients saw and at what is left in the engine."""
        slots_free = await self._slots_free()
        dispatcher, directory = self.engine.statistics()
        cuts = self.proxy.cuts if self.proxy is not None else 0
        return judge(
            results,
            model=self.model_name,
            slots_free=slots_free,
            cuts=cuts,
            accepted=dispatcher.accepted,
            books=(
                dispatcher.accepted,
                dispatcher.handled
                + dispatcher.expired
                + dispatcher.cancelled
                + dispatcher.failed
                + dispatcher.dead
                + dispatcher.pending,
            ),
            issued=directory.issued,
            took_s=took_s,
        )

    async def _slots_free(self) -> bool:
        """True if no generation goes on now that all runs are over."""
        if not isinstance(self._model, LocalLlm):
            return True
        try:
            await self._model.idle(5.0)
        except TimeoutError:
            return False
        return True

    def target(self, name: str) -> str:
        """Where a client connects: all but the one that will be cut go straight to the edge."""
        if name == "cut":
            assert self.proxy is not None
            return self.proxy.target
        return f"127.0.0.1:{self.port}"

    def steering(self) -> Sequence[str]:
        """Arguments for clients about the model."""
        return ("--model", self.model_name)
