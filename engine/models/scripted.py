"""A real OpenAI-compatible HTTP server with exact answers, labelled as such, for assertions.

Law of this file: everything but the thinking is real: sockets, HTTP, chunked SSE, streamed tool
calls, a closed connection seen as an interrupt. What a request is answered with is a pure function
of the request, so a test can say beforehand what must come out at the other end.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from laneway.actors.ports import Context, Out
from laneway.engine.models.directive import call_directive, last_text
from laneway.engine.models.openai import ChatOptions, OpenAIModel

__all__ = ["Answer", "Script", "ScriptedModel", "ScriptedServer", "obedient"]

_MAX_BODY_BYTES: Final = 16_777_216
_REQUEST_S: Final = 30.0
_KEPT_REQUESTS: Final = 256
_MODEL_NAME: Final = "laneway-scripted"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one request is answered with.

    Attributes:
        text: said in pieces of one word.
        reasoning: said before it.
        calls: (tool name, arguments) asked for after it; ids are call_1, call_2, ...
        status: an HTTP status other than 200 is sent with `text` as its error message.
        cut_after: close the connection without an end after this many pieces; None = never.
        gap_s: seconds between two pieces.
        pushes: generated whether it is read or not, as by a model server; else at the pace of its reader.
    """

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    status: int = 200
    cut_after: int | None = None
    gap_s: float = 0.0
    pushes: bool = False


Script: TypeAlias = Callable[[Mapping[str, Any]], Answer]
"""Request body -> answer. Pure."""


def obedient(request: Mapping[str, Any]) -> Answer:
    """The default script: ``call NAME {json}`` calls a tool, a tool's result is repeated, text is echoed."""
    messages = request.get("messages") or []
    if messages and messages[-1].get("role") == "tool":
        return Answer(f"[SCRIPTED] the tool returned: {last_text(messages, 'tool')}")
    asked = last_text(messages, "user")
    directive = call_directive(asked)
    if directive is None:
        return Answer(f"[SCRIPTED] you said: {asked}")
    offered = [tool["function"]["name"] for tool in request.get("tools") or ()]
    if directive[0] not in offered:
        return Answer(f"[SCRIPTED] there is no tool {directive[0]}")
    return Answer(calls=(directive,))


@dataclass(slots=True)
class _Counters:
    served: int = 0
    interrupted: int = 0
    active: int = 0
    said: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)


class ScriptedServer:
    """The server, on a free loopback port; an async context manager.

    Args:
        script: what to answer.
        slots: answers at once; a request beyond them is refused (503), as by a full model server.
    """

    def __init__(self, script: Script = obedient, *, slots: int = 1_000_000) -> None:
        self._slots = slots
        self.requests: deque[dict[str, Any]] = deque(maxlen=_KEPT_REQUESTS)
        self._script = script
        self._server: asyncio.Server | None = None
        self._counters = _Counters()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ScriptedServer:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen on a free port; idempotent."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop listening and end every connection; idempotent."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        await server.wait_closed()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client. Only while open."""
        if self._server is None:
            raise RuntimeError("the scripted server is not open; use `async with`")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    @property
    def active(self) -> int:
        """Answers being streamed at this moment."""
        return self._counters.active

    @property
    def served(self) -> int:
        """Answers streamed to their end."""
        return self._counters.served

    @property
    def interrupted(self) -> int:
        """Answers whose reader went away."""
        return self._counters.interrupted

    def statistics(self) -> dict[str, int]:
        """Return what `GET /slots` tells: slots in use, answers served and interrupted, pieces generated."""
        counted = self._counters
        rows = (("active", counted.active), ("served", counted.served), ("interrupted", counted.interrupted))
        return {**dict(rows), "said": counted.said}

    async def idle(self, timeout_s: float) -> None:
        """Return when no answer is being streamed. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._counters.changed:
            await self._counters.changed.wait_for(lambda: self._counters.active == 0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            async with asyncio.timeout(_REQUEST_S):
                request = await _read_request(reader)
            await self._serve(request, reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            self._counters.interrupted += 1  # the reader went away, or never spoke HTTP: nobody is left to tell
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._connections.discard(task)

    async def _serve(
        self, request: tuple[str, str, bytes], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, path, body = request
        if (method, path) == ("GET", "/health"):
            await _send_json(writer, 200, {"status": "ok"})
        elif (method, path) == ("GET", "/slots"):
            await _send_json(writer, 200, self.statistics())
        elif (method, path) == ("GET", "/v1/models"):
            await _send_json(writer, 200, {"object": "list", "data": [{"id": _MODEL_NAME, "object": "model"}]})
        elif (method, path) == ("POST", "/v1/chat/completions"):
            asked = json.loads(body)
            self.requests.append(asked)
            await self._answer(self._script(asked), asked, reader, writer)
        else:
            await _send_json(writer, 404, {"error": {"message": f"no such path: {method} {path}"}})

    async def _answer(
        self, answer: Answer, asked: Mapping[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if answer.status != 200:
            await _send_json(writer, answer.status, {"error": {"message": answer.text}})
            return
        if self._counters.active >= self._slots:
            await _send_json(writer, 503, {"error": {"message": "every slot is taken"}})
            return
        self._counters.active += 1
        gone = asyncio.ensure_future(reader.read(1))  # a client sends nothing more: anything here is its end
        try:
            writer.write(_head(200, "text/event-stream", chunked=True))
            whole = await self._stream(answer, asked, writer, gone)
            self._counters.served += whole
            self._counters.interrupted += not whole and gone.done()
            if not whole:
                writer.transport.abort()
        finally:
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            self._counters.active -= 1
            async with self._counters.changed:
                self._counters.changed.notify_all()

    async def _stream(
        self, answer: Answer, asked: Mapping[str, Any], writer: asyncio.StreamWriter, gone: asyncio.Future[bytes]
    ) -> bool:
        """Send the answer piece by piece; False if it was cut or its reader went away."""
        for number, chunk in enumerate(_chunks(answer, asked)):
            if answer.cut_after is not None and number >= answer.cut_after:
                return False
            if answer.gap_s:
                await asyncio.wait({gone}, timeout=answer.gap_s)
            else:
                await asyncio.sleep(0)
            if gone.done() or writer.is_closing():
                return False
            self._counters.said += 1
            writer.write(_chunk(f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()))
            if not answer.pushes:
                await writer.drain()
        writer.write(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        if not answer.pushes:
            await writer.drain()
        writer.write_eof()
        return True


class ScriptedModel:
    """The scripted server together with a model on it; opens itself at its first run.

    Args:
        script: what to answer.
        options: how the server is asked.
    """

    provider, name = "laneway", "scripted"
    pushes = True

    def __init__(self, script: Script = obedient, *, options: ChatOptions | None = None) -> None:
        self.server = ScriptedServer(script)
        self._options = options
        self._model: OpenAIModel | None = None

    async def open(self) -> None:
        """Start the server; idempotent."""
        await self.server.open()
        self._model = self._model or OpenAIModel(self.server.url, options=self._options)

    async def close(self) -> None:
        """Stop the server; idempotent."""
        self._model = None
        await self.server.close()

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Answer one run from the script."""
        await self.open()
        assert self._model is not None
        outs = self._model.stream(run, context)
        try:
            async for out in outs:
                yield out
        finally:
            await outs.aclose()  # type: ignore[attr-defined]


def _chunks(answer: Answer, asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    deltas += [{"reasoning_content": piece} for piece in _pieces(answer.reasoning)]
    deltas += [{"content": piece} for piece in _pieces(answer.text)]
    for index, (name, arguments) in enumerate(answer.calls):
        text = json.dumps(arguments, ensure_ascii=False)
        half = len(text) // 2
        first = {"index": index, "id": f"call_{index + 1}", "type": "function"}
        deltas.append({"tool_calls": [{**first, "function": {"name": name, "arguments": text[:half]}}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": text[half:]}}]})
    chunks = [_completion([{"index": 0, "delta": delta, "finish_reason": None}]) for delta in deltas]
    reason = "tool_calls" if answer.calls else "stop"
    chunks.append(_completion([{"index": 0, "delta": {}, "finish_reason": reason}]))
    if (asked.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": len(str(asked.get("messages"))) // 4, "completion_tokens": len(deltas)}
        chunks.append({**_completion([]), "usage": {**usage, "total_tokens": sum(usage.values())}})
    return chunks


def _completion(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "scripted", "object": "chat.completion.chunk", "model": _MODEL_NAME, "choices": choices}


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [word if number == 0 else f" {word}" for number, word in enumerate(words)] if text else []


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= _MAX_BODY_BYTES:
        raise ValueError(f"a body of {length} bytes")
    return method, path, await reader.readexactly(length)


async def _send_json(writer: asyncio.StreamWriter, status: int, body: Mapping[str, Any]) -> None:
    payload = json.dumps(body).encode()
    writer.write(_head(status, "application/json", length=len(payload)) + payload)
    await writer.drain()
    writer.write_eof()


def _head(status: int, content_type: str, *, chunked: bool = False, length: int = 0) -> bytes:
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"
    return (
        f"HTTP/1.1 {status} Scripted\r\nContent-Type: {content_type}\r\n{framing}\r\nConnection: close\r\n\r\n".encode()
    )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
