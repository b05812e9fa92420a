"""A small real model on this machine, in a niced process of its own.

Law of this file: the model never shares a process with the engine (its threads would take the
event loop's core) and never outlives it. One LocalLlm is one child, used by all runs of the host;
a child that died is started again by the next run, and the run it died in has failed. A run that
is interrupted closes its connection, and the slot is free at the model's next token.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laneway.actors.ports import Context, Out
from laneway.engine.models.endpoint import Endpoint, EndpointLimits
from laneway.engine.models.openai import ChatOptions, OpenAIModel
from laneway.engine.models.weights import GGUF_BYTES, Progress, fetch
from laneway.routing.errors import ConfigError, ModelFailed

__all__ = ["ChildOptions", "LocalLlm"]

MODEL_NAME: Final = "smollm2-135m-instruct"

_OPTIONS: Final = ChatOptions(
    tools="grammar",
    parameters={"max_tokens": 512, "temperature": 0.7, "seed": 1},
    max_prompt_chars=4_000,
)
"""Prompt and answer share a slot of 2,048 tokens; English has 3 to 4 characters a token."""
_HEALTH_POLL_S: Final = 0.1
_STOP_S: Final = 2.0
_SETTLE_S: Final = 0.5
_KEPT_OUTPUT_BYTES: Final = 2_000


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """The child process.

    Attributes:
        slots: answers generated at the same time; further requests wait in the child.
        slot_tokens: prompt and answer of one of them, in tokens (the model was trained for 8,192).
        threads: computing threads; 0 = the usable cores, at most 4.
        nice: added niceness, 0 to 19; the engine's own loop goes first.
        ready_s: seconds it may take to load (a cold disk took 12 s).
    """

    slots: int = 2
    slot_tokens: int = 2_048
    threads: int = 0
    nice: int = 10
    ready_s: float = 120.0


class LocalLlm:
    """SmolLM2-135M-Instruct as a Model; opens itself at its first run, must be closed.

    Args:
        child: the process.
        options: how it is asked; tools go through a grammar, because the model is too small for more.
        progress: told about download and load (see `weights.Progress`; also the stage "loading").
        weights: a .gguf file to use instead of the fetched one.
    """

    provider, name = "llama_cpp", "SmolLM2-135M-Instruct"
    pushes = True

    def __init__(
        self,
        child: ChildOptions | None = None,
        *,
        options: ChatOptions = _OPTIONS,
        progress: Progress | None = None,
        weights: Path | None = None,
    ) -> None:
        self._child = child or ChildOptions()
        self._options = options
        self._progress: Progress = progress or (lambda stage, done, total: None)
        self._weights = weights
        self._opening = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._stderr: asyncio.Task[None] | None = None
        self._said = bytearray()
        self._model: OpenAIModel | None = None
        self._root: Endpoint | None = None

    async def __aenter__(self) -> LocalLlm:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """Process id of the living child, or None."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def open(self) -> None:
        """Fetch the weights if needed and start the child if it is not running; idempotent.

        Raises ConfigError (xllamacpp is not installed), ModelFailed (WEIGHTS_* or LOCAL_SERVER).
        """
        async with self._opening:
            if self.pid is not None and self._model is not None:
                return
            await self._stop()
            if importlib.util.find_spec("xllamacpp") is None:
                raise ConfigError("the local model needs xllamacpp: pip install 'laneway[local-llm]'")
            weights = self._weights or await fetch(self._progress)
            try:
                async with asyncio.timeout(self._child.ready_s):
                    await self._start(weights)
            except TimeoutError as error:
                await self._stop()
                raise self._broken(f"was not ready after {self._child.ready_s:g} s") from error
            except BaseException:
                await self._stop()
                raise

    async def close(self) -> None:
        """End the child: it is asked, and killed by its id 2 s later; idempotent."""
        async with self._opening:
            await self._stop()

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Answer one run on the child. Raises what `open` and OpenAIModel.stream raise."""
        await self.open()
        assert self._model is not None
        process = self._process
        async with aclosing(self._model.stream(run, context)) as outs:  # type: ignore[type-var]
            try:
                async for out in outs:
                    yield out
            except ModelFailed:
                await _settled(process)
                raise

    async def busy_slots(self) -> int:
        """Return how many slots are generating now. Raises ModelFailed if the child is not running."""
        if self._root is None:
            raise ModelFailed("the local model is not running; open it first", reason="LOCAL_SERVER")
        return sum(bool(slot["is_processing"]) for slot in await self._root.get_json("/slots"))

    async def idle(self, timeout_s: float) -> None:
        """Return when no slot is generating. Raises TimeoutError, ModelFailed."""
        async with asyncio.timeout(timeout_s):
            while await self.busy_slots():  # noqa: ASYNC110 - another process's state; it can only be asked
                await asyncio.sleep(_HEALTH_POLL_S / 2)

    async def _start(self, weights: Path) -> None:
        self._progress("loading", 0, GGUF_BYTES)
        self._said.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "laneway.engine.models.local_server",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the engine, which then closes this
        )
        self._stderr = asyncio.ensure_future(self._listen(self._process))
        key = secrets.token_hex(16)
        url = await self._handshake(self._process, weights, key)
        self._root = Endpoint(url, api_key=key)
        await self._until_ready(self._root)
        limits = EndpointLimits(connect_s=2.0)
        self._model = OpenAIModel(Endpoint(f"{url}/v1", api_key=key, limits=limits), MODEL_NAME, options=self._options)
        self._progress("loading", GGUF_BYTES, GGUF_BYTES)

    async def _handshake(self, process: asyncio.subprocess.Process, weights: Path, key: str) -> str:
        """Give the child its set-up and learn where it listens."""
        assert process.stdin is not None
        assert process.stdout is not None
        setup = {
            "model": str(weights),
            "slots": self._child.slots,
            "slot_tokens": self._child.slot_tokens,
            "threads": self._child.threads or min(4, _usable_cores()),
            "nice": self._child.nice,
            "api_key": key,
            "alias": MODEL_NAME,
        }
        try:
            process.stdin.write(json.dumps(setup).encode() + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
            return str(json.loads(line)["url"])
        except (OSError, ValueError, KeyError) as error:
            await process.wait()
            if self._stderr is not None:
                await asyncio.wait({self._stderr}, timeout=_STOP_S)
            raise self._broken(f"ended with status {process.returncode} before it was ready") from error

    async def _until_ready(self, root: Endpoint) -> None:
        """Poll /health, which is 503 while the weights are being read."""
        while True:
            async with root.request("GET", "/health") as reply:
                if reply.status == 200:
                    return
            await asyncio.sleep(_HEALTH_POLL_S)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep the last words of the child, for the message of its failure."""
        assert process.stderr is not None
        while piece := await process.stderr.read(4_096):
            self._said += piece
            del self._said[:-_KEPT_OUTPUT_BYTES]

    async def _stop(self) -> None:
        process, self._process = self._process, None
        self._model = self._root = None
        if process is not None:
            try:
                if process.stdin is not None:
                    process.stdin.close()
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except (TimeoutError, asyncio.CancelledError) as error:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                if isinstance(error, asyncio.CancelledError):
                    raise
        listener, self._stderr = self._stderr, None
        if listener is not None:
            await listener

    def _broken(self, what: str) -> ModelFailed:
        said = " ".join(self._said.decode("utf-8", "replace").split())[-500:]
        return ModelFailed(f"the local model's process {what}; it said: {said or 'nothing'}", reason="LOCAL_SERVER")


async def _settled(process: asyncio.subprocess.Process | None) -> None:
    """Wait until a child that broke a connection by dying is known to be dead, so that the next run sees it."""
    if process is not None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_S):
                await process.wait()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
