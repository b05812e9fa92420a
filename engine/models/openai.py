"""Any OpenAI-compatible chat endpoint as a model, with tool calls that go through the dispatcher.

Law of this file: the model asks, the context calls. Tool calls of one answer run side by side
through `context.call_tool`, so each is scheduled, traced and cancellable, and their results go back
in a follow-up request. Closing the iterator closes the connection. Nothing is asked again once the
first byte of an answer has been seen.

Three ways to tools: `native` uses the endpoint's own `tools`; `grammar` lets the model choose
through a JSON schema, once per run, for models too small for the former; `none` offers no tools.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from laneway.actors.nlp import vocabulary
from laneway.actors.ports import Context, Out
from laneway.engine.models.completion import AskedCall, Completion
from laneway.engine.models.conversation import ChatMessage, ToolNames, chat_messages, client_tools, cut_to
from laneway.engine.models.endpoint import Endpoint
from laneway.engine.models.grammar import choice_format, choice_prompt, chosen
from laneway.engine.models.speech import Speech
from laneway.engine.models.sse import SseDecoder
from laneway.routing.backoff import full_jitter
from laneway.routing.errors import ModelFailed

__all__ = ["ChatOptions", "OpenAIModel"]

_RETRIED: Final = frozenset({"CONNECT", "HTTP_429", "HTTP_502", "HTTP_503"})
"""What may be asked again: the endpoint has not begun to work on it."""
_MAX_ID_CHARS: Final = 64
_RETRY_BASE_S: Final = 0.4
_RETRY_CAP_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How an endpoint is asked.

    Attributes:
        tools: "native", "grammar" or "none".
        system: a system message before everything, or empty.
        parameters: more fields of every request (temperature, max_tokens, seed, ...).
        max_rounds: requests of one run at most; each round of tool calls costs one.
        max_prompt_chars: older turns are left out above this; about 4 characters are a token.
        attempts: times a request is tried while the endpoint is unreachable or busy.
    """

    tools: Literal["native", "grammar", "none"] = "native"
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    max_rounds: int = 8
    max_prompt_chars: int = 400_000
    attempts: int = 3


class OpenAIModel:
    """A Model on ``POST {endpoint}/chat/completions``.

    A run may steer tools by `forwardedProps.toolChoice`: "auto" (default), "none", "required" or
    ``{"name": tool}``. Tools that the client brought in RunAgentInput.tools are left to the client:
    the run ends with outcome success and their ids in pendingToolCallIds.

    Args:
        endpoint: base URL including its version prefix (``http://127.0.0.1:8080/v1``), or an Endpoint.
        model: the endpoint's model name; empty leaves it to the endpoint.
        api_key: bearer token, if `endpoint` is a URL.
        options: how it is asked.
        ids: new message and call ids.
    """

    def __init__(
        self,
        endpoint: str | Endpoint,
        model: str = "",
        *,
        api_key: str = "",
        options: ChatOptions | None = None,
        ids: Callable[[], str] = lambda: uuid.uuid4().hex,
    ) -> None:
        self.provider, self.name = "openai", model
        self.pushes = True  # a server goes on whether its answer is read or not
        self.endpoint = Endpoint(endpoint, api_key=api_key) if isinstance(endpoint, str) else endpoint
        self._model = model
        self._options = options or ChatOptions()
        self._ids = ids

    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        """Answer one run. Raises ModelFailed, or PeerProtocolError for content it cannot be given."""
        turn = _Turn(self, run, context, self._options)
        steps = turn.by_grammar() if turn.grammar else turn.natively()
        async with aclosing(steps) as outs:
            async for out in outs:
                yield out
        outcome = {"type": "success", "pendingToolCallIds": turn.pending} if turn.pending else None
        yield vocabulary.run_finished(context.session, context.run, outcome=outcome, usage=turn.usage or None)

    async def ask(
        self, request: Mapping[str, Any], completion: Completion, trace: str = ""
    ) -> AsyncGenerator[tuple[str, str], None]:
        """Send one request and yield (reasoning, text) as it arrives, folding into `completion`.

        Args:
            trace: traceparent for the endpoint, or empty.
        """
        body = {**self._options.parameters, **request, "stream": True, "stream_options": {"include_usage": True}}
        if self._model:
            body["model"] = self._model
        for attempt in range(1, self._options.attempts + 1):
            begun = False
            try:
                async with aclosing(self._events(body, trace)) as events:
                    async for data in events:
                        begun = True
                        yield completion.feed(data)
                completion.check_whole()
                return
            except ModelFailed as error:
                delay_s = _retry_delay_s(error, attempt)
                if begun or error.reason not in _RETRIED or attempt == self._options.attempts or delay_s is None:
                    raise
            await asyncio.sleep(delay_s)

    async def _events(self, body: Mapping[str, Any], trace: str) -> AsyncGenerator[str, None]:
        async with self.endpoint.request("POST", "/chat/completions", body, trace=trace) as reply:
            await reply.check()
            if "text/event-stream" not in reply.headers.get("content-type", ""):
                raise ModelFailed(f"the model endpoint {self.endpoint.url} does not stream", reason="MALFORMED")
            decoder = SseDecoder()
            async with aclosing(reply.body()) as pieces:
                async for piece in pieces:
                    for data in decoder.feed(piece):
                        if data.strip() == "[DONE]":
                            return
                        yield data

    def new_id(self) -> str:
        """Return a new message or call id."""
        return self._ids()


class _Turn:
    """One run on the endpoint: the growing chat, and what the tools gave."""

    def __init__(self, model: OpenAIModel, run: Mapping[str, Any], context: Context, options: ChatOptions) -> None:
        self._model = model
        self._context = context
        self._options = options
        ours = list(context.tools())
        theirs = client_tools(run)
        self._client_side = {spec.name for spec in theirs} - {spec.name for spec in ours}
        self._names = ToolNames([*ours, *theirs] if options.tools != "none" else ())
        self._choice = _tool_choice(run)
        self.grammar = options.tools == "grammar"
        chat = chat_messages(run, self._names, system=options.system, flat=self.grammar)
        self._chat = cut_to(chat, options.max_prompt_chars)
        self.usage: list[dict[str, Any]] = []
        self.pending: list[str] = []

    async def natively(self) -> AsyncGenerator[Out, None]:
        """Ask, call what is asked for, ask again, until an answer asks for nothing."""
        for number in range(self._options.max_rounds):
            speech, completion = Speech(self._model.new_id), Completion()
            request: dict[str, Any] = {"messages": self._chat}
            if len(self._names) and self._choice != "none":
                request["tools"] = self._names.functions()
                request["tool_choice"] = self._native_choice() if number == 0 else "auto"
            async with aclosing(self._speak(request, completion, speech)) as outs:
                async for out in outs:
                    yield out
            if not completion.calls:
                return
            async with aclosing(self._perform(completion.calls, speech)) as outs:
                async for out in outs:
                    yield out
            if self.pending:
                return
        raise ModelFailed(f"the model still asks for tools after {self._options.max_rounds} rounds", reason="ROUNDS")

    async def by_grammar(self) -> AsyncGenerator[Out, None]:
        """Let the model choose at most one call, make it, then answer without tools."""
        names = self._named()
        if len(names) and self._choice != "none":
            completion, text = Completion(), []
            prompt = [*self._chat, {"role": "user", "content": choice_prompt(names)}]
            form = choice_format(names, required=self._choice != "auto")
            request = {"messages": prompt, "response_format": form, "temperature": 0.0}
            async with aclosing(self._model.ask(request, completion, self._context.trace)) as pieces:
                text = [piece async for _, piece in pieces]
            self._count(completion)
            if (choice := chosen("".join(text))) is not None:
                call = AskedCall(self._model.new_id(), choice[0], [_json(choice[1])])
                async with aclosing(self._perform([call], Speech(self._model.new_id))) as outs:
                    async for out in outs:
                        yield out
        if not self.pending:
            spoken = self._speak({"messages": self._chat}, Completion(), Speech(self._model.new_id))
            async with aclosing(spoken) as outs:
                async for out in outs:
                    yield out

    async def _speak(
        self, request: Mapping[str, Any], completion: Completion, speech: Speech
    ) -> AsyncGenerator[Out, None]:
        async with aclosing(self._model.ask(request, completion, self._context.trace)) as pieces:
            async for reasoning, text in pieces:
                for out in speech.say(reasoning, text):
                    yield out
        self._count(completion)
        for out in speech.end():
            yield out

    async def _perform(self, calls: Sequence[AskedCall], speech: Speech) -> AsyncGenerator[Out, None]:
        """Make the calls of one answer, and put them with their results into the chat."""
        taken: set[str] = set()
        for call in calls:
            if not call.id or len(call.id) > _MAX_ID_CHARS or call.id in taken:
                call.id = self._model.new_id()
            taken.add(call.id)
        ours = [call for call in calls if self._names.original(call.name) not in self._client_side]
        async with asyncio.TaskGroup() as group:
            results = [(call, group.create_task(self._call(call))) for call in ours if call.parsed() is not None]
        contents = {call.id: task.result() for call, task in results}
        for call in calls:
            name = self._names.original(call.name)
            if call.id not in contents:
                for out in _told(call, name, speech.message_id):
                    yield out
            if call in ours and call.id not in contents:
                contents[call.id] = f"the arguments of {name} are not a JSON object; write them again"
                yield vocabulary.tool_result(self._model.new_id(), call.id, contents[call.id])
            elif call not in ours:
                self.pending.append(call.id)
        self._chat += self._answered(calls, contents, speech.text)

    async def _call(self, call: AskedCall) -> str:
        arguments = call.parsed() or {}
        result = await self._context.call_tool(self._names.original(call.name), arguments, call.id)
        return result.content if result.ok else f"error {result.code}: {result.content}"

    def _answered(self, calls: Sequence[AskedCall], contents: Mapping[str, str], said: str) -> list[ChatMessage]:
        if self.grammar:
            return [
                {"role": "user", "content": f"The tool {call.name} returned: {contents.get(call.id, '')}\nNow answer."}
                for call in calls
            ]
        asked = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}
            for call in calls
        ]
        chat: list[ChatMessage] = [{"role": "assistant", "content": said or None, "tool_calls": asked}]
        return chat + [{"role": "tool", "tool_call_id": name, "content": text} for name, text in contents.items()]

    def _count(self, completion: Completion) -> None:
        if completion.usage is not None:
            self.usage.append(completion.usage)

    def _native_choice(self) -> str | dict[str, Any]:
        if self._choice in ("auto", "required"):
            return self._choice
        return {"type": "function", "function": {"name": self._names.wire(self._choice)}}

    def _named(self) -> ToolNames:
        """The tools to choose from: all, or the one that the run named."""
        if self._choice in ("auto", "none", "required"):
            return self._names
        return ToolNames(spec for _, spec in self._names.items() if spec.name == self._choice)


def _tool_choice(run: Mapping[str, Any]) -> str:
    """Return "auto", "none", "required" or a tool's name."""
    props = run.get("forwardedProps")
    choice = props.get("toolChoice", "auto") if isinstance(props, Mapping) else "auto"
    if isinstance(choice, Mapping):
        choice = choice.get("name", "auto")
    return choice if isinstance(choice, str) else "auto"


def _told(call: AskedCall, name: str, parent: str | None) -> list[Out]:
    """Return the events of a call that does not go through the context."""
    return [
        vocabulary.tool_start(call.id, name, parent),
        vocabulary.tool_arguments(call.id, call.arguments or "{}"),
        vocabulary.tool_end(call.id),
    ]


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _retry_delay_s(error: ModelFailed, attempt: int) -> float | None:
    """Return what the endpoint asks for, else full jitter; None if it asks for too long to wait here."""
    if error.retry_after_ms is not None:
        asked_s = error.retry_after_ms / 1000
        return asked_s if asked_s <= _RETRY_CAP_S else None
    return full_jitter(attempt - 1, _RETRY_BASE_S, _RETRY_CAP_S, random.random)
