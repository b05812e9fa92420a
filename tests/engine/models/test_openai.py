"""OpenAI-compatible endpoints as a model, against a real HTTP server with scripted answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from laneway.actors.nlp.sequence import RunSequence
from laneway.actors.nlp.vocabulary import fields_of
from laneway.actors.ports import Out
from laneway.engine.models.openai import ChatOptions, OpenAIModel
from laneway.engine.models.scripted import Answer, ScriptedServer
from laneway.routing.errors import ModelFailed

Asking = Callable[..., dict[str, Any]]


def _in_turn(*answers: Answer) -> Callable[[Mapping[str, Any]], Answer]:
    """A script that gives these answers one after the other."""
    left = list(answers)
    return lambda request: left.pop(0)


def _run(
    answers: Iterable[Answer], run: Mapping[str, Any], context: Any, options: ChatOptions | None = None
) -> tuple[list[Out], list[dict[str, Any]]]:
    """Return the model's events and the requests that the server got."""

    async def main() -> tuple[list[Out], list[dict[str, Any]]]:
        async with ScriptedServer(_in_turn(*answers)) as server:
            model = OpenAIModel(server.url, "m", api_key="k", options=options)
            outs = [out async for out in model.stream(run, context)]
            return outs, list(server.requests)

    outs, requests = asyncio.run(main())
    sequence = RunSequence()
    for out in outs:
        sequence.offer(out)
    assert len(sequence) == 0
    return outs, requests


def _text(outs: list[Out]) -> str:
    return b"".join(out.body for out in outs if out.kind == "TEXT_MESSAGE_CONTENT").decode()


def test_text_streams_with_reasoning_and_usage(calling: Any, asking: Asking) -> None:
    """Reasoning, then text, each in its own message, exactly as the endpoint wrote it; usage at the end."""
    outs, requests = _run([Answer("Grüß  dich, 世界", reasoning="let me think")], asking("hi"), calling())
    assert _text(outs) == "Grüß  dich, 世界"
    assert outs[0].kind == "REASONING_START"
    usage = fields_of(outs[-1])["usage"]
    assert usage[0]["model"] == "laneway-scripted"
    assert requests[0]["messages"] == [{"role": "user", "content": "hi"}]
    assert (requests[0]["model"], requests[0]["stream"], "tools" in requests[0]) == ("m", True, False)


def test_tool_calls_go_through_the_context_and_back(calling: Any, asking: Asking) -> None:
    """Two calls of one answer are made with their ids, and their results are in the next request."""
    context = calling({"add": lambda a, b: a + b}, a="integer", b="integer")
    asked = Answer("Let me see.", calls=(("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})))
    outs, requests = _run([asked, Answer("3 and 7")], asking("sums?"), context)
    assert context.calls == [("add", {"a": 1, "b": 2}, "call_1"), ("add", {"a": 3, "b": 4}, "call_2")]
    assert _text(outs) == "Let me see.3 and 7"
    said, *results = requests[1]["messages"][1:]
    assert [call["function"]["arguments"] for call in said["tool_calls"]] == ['{"a": 1, "b": 2}', '{"a": 3, "b": 4}']
    assert results == [
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "tool", "tool_call_id": "call_2", "content": "7"},
    ]
    assert requests[0]["tools"][0]["function"]["name"] == "add"


def test_a_failed_tool_is_told_to_the_model(calling: Any, asking: Asking) -> None:
    """An unknown tool's error goes back as its result; the run goes on."""
    context = calling({"add": lambda: 1})
    _, requests = _run([Answer(calls=(("nope", {}),)), Answer("sorry")], asking("x"), context)
    assert requests[1]["messages"][-1]["content"] == "error TOOL_UNKNOWN: no tool nope"


def test_the_clients_own_tools_are_left_to_it(calling: Any, asking: Asking) -> None:
    """A tool from RunAgentInput is announced, not called; the run ends with its id pending."""
    run = asking("x", tools=[{"name": "ask_user", "description": "asks", "parameters": {"type": "object"}}])
    context = calling()
    outs, requests = _run([Answer(calls=(("ask_user", {"q": "sure?"}),))], run, context)
    assert [out.kind for out in outs] == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "RUN_FINISHED"]
    assert fields_of(outs[-1])["outcome"] == {"type": "success", "pendingToolCallIds": ["call_1"]}
    assert context.calls == []
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("required", "required"),
        ({"name": "add"}, {"type": "function", "function": {"name": "add"}}),
        ("none", None),
        (3, "auto"),
    ],
)
def test_a_run_may_steer_the_tools(calling: Any, asking: Asking, choice: object, sent: object) -> None:
    """forwardedProps.toolChoice reaches the endpoint."""
    run = asking("x", forwardedProps={"toolChoice": choice})
    _, requests = _run([Answer("ok")], run, calling({"add": lambda: 1}))
    assert requests[0].get("tool_choice") == sent


def test_a_model_that_never_stops_calling_is_stopped(calling: Any, asking: Asking) -> None:
    """Rounds are bounded."""
    answers = [Answer(calls=(("add", {}),))] * 3
    with pytest.raises(ModelFailed) as caught:
        _run(answers, asking("x"), calling({"add": lambda: 1}), ChatOptions(max_rounds=3))
    assert caught.value.reason == "ROUNDS"


def test_grammar_mode_asks_for_a_choice_then_answers(calling: Any, asking: Asking) -> None:
    """One request bound by a schema, the call through the context, then a plain answer with its result."""
    context = calling({"weather": lambda city: f"sun in {city}"}, city="string")
    choice = json.dumps({"tool": "weather", "arguments": {"city": "Rome"}})
    outs, requests = _run([Answer(choice), Answer("Sunny.")], asking("?"), context, ChatOptions(tools="grammar"))
    assert context.calls[0][:2] == ("weather", {"city": "Rome"})
    assert requests[0]["response_format"]["type"] == "json_schema"
    assert "sun in Rome" in requests[1]["messages"][-1]["content"]
    assert "response_format" not in requests[1]
    assert _text(outs) == "Sunny."


def test_grammar_mode_may_choose_no_tool(calling: Any, asking: Asking) -> None:
    """Then the answer follows without a call, and none of the choice is shown."""
    context = calling({"weather": lambda: 1})
    outs, _ = _run([Answer('{"tool": "none"}'), Answer("Hi.")], asking("hi"), context, ChatOptions(tools="grammar"))
    assert (context.calls, _text(outs)) == ([], "Hi.")


def test_a_busy_endpoint_is_asked_again_a_broken_stream_is_not(calling: Any, asking: Asking) -> None:
    """503 before the answer is retried; an answer cut in the middle fails the run as BROKEN."""
    outs, requests = _run([Answer("loading", status=503), Answer("ready")], asking("x"), calling())
    assert (_text(outs), len(requests)) == ("ready", 2)
    with pytest.raises(ModelFailed) as caught:
        _run([Answer("one two three", cut_after=2), Answer("never")], asking("x"), calling())
    assert caught.value.reason == "BROKEN"


@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_refusal_carries_the_endpoints_words(calling: Any, asking: Asking, status: int) -> None:
    """Other statuses are not retried, and the message says what the server said."""
    with pytest.raises(ModelFailed, match="because of reasons") as caught:
        _run([Answer("because of reasons", status=status)], asking("x"), calling())
    assert caught.value.reason == f"HTTP_{status}"


def test_cancelling_a_run_closes_the_upstream(calling: Any, asking: Asking) -> None:
    """A cancelled consumer leaves no answer being generated."""

    async def main() -> None:
        async with ScriptedServer(lambda request: Answer("word " * 5_000, gap_s=0.001)) as server:
            model, spoken = OpenAIModel(server.url), asyncio.Event()

            async def consume() -> None:
                async for out in model.stream(asking("go"), calling()):
                    if out.kind == "TEXT_MESSAGE_CONTENT":
                        spoken.set()

            task = asyncio.ensure_future(consume())
            await spoken.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await server.idle(5.0)
            assert server.interrupted == 1

    asyncio.run(main())
