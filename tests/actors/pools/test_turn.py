"""A turn answers each of its events exactly once, whatever its handler does."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from laneway.actors.pools.results import HANDLED
from laneway.actors.pools.turn import Adapted, SerialTurn
from laneway.actors.ports import Out
from laneway.routing.envelope import NO_DEADLINE
from laneway.routing.errors import ToolDenied


class Panic(BaseException):
    """What native code raises past `except Exception`."""


def _single(rig, handler):
    answers, contexts = rig.Answers(), []

    def make(env, trace):
        contexts.append(rig.Context(env, trace))
        return contexts[-1]

    return SerialTurn(handler, make, answers), answers, contexts


def _given(*envs):
    """What a turn takes."""
    return partial(next, iter(envs), None)


def _run_single(rig, handler):
    turn, answers, contexts = _single(rig, handler)
    asyncio.run(turn.run(_given(rig.event(1))))
    return answers[1], contexts[0].outs


def _agen(*items):
    async def handler(env, ctx):
        for item in items:
            yield item

    return handler


@pytest.mark.parametrize(
    ("result", "value", "emitted"),
    [
        (None, b"", 0),
        (b"answer", b"answer", 0),
        (Out("A"), b"", 1),
        ([Out("A"), Out("B")], b"", 2),
        (_agen(Out("A"), Out("B"))(None, None), b"", 2),
    ],
    ids=["nothing", "bytes", "one", "list", "iterator"],
)
def test_what_a_handler_returns_is_emitted_or_answered(rig, result, value, emitted):
    """None, bytes, an Out, a list of Out and an async iterator are all understood."""

    async def handler(env, ctx):
        return result

    outcome, outs = _run_single(rig, handler)
    assert (outcome.status, outcome.value, len(outs)) == ("handled", value, emitted)


def test_an_async_generator_function_is_a_handler(rig):
    """Its events go out in order."""
    outcome, outs = _run_single(rig, _agen(Out("A"), Out("B")))
    assert outcome.status == "handled"
    assert [out.kind for out in outs] == ["A", "B"]


def test_a_generator_is_closed_before_the_answer(rig):
    """Its `finally` runs inside the turn also when the emit fails, never by the garbage collector."""
    order = []

    async def handler(env, ctx):
        try:
            yield Out("A")
            yield "not an Out"
        finally:
            await asyncio.sleep(0)
            order.append("closed")

    turn, answers, _ = _single(rig, handler)
    asyncio.run(turn.run(_given(rig.event(1))))
    assert order == ["closed"]
    assert (answers[1].status, answers[1].code) == ("failed", "HANDLER_FAILED")


@pytest.mark.parametrize(
    ("error", "code"), [(ValueError("bad"), "HANDLER_FAILED"), (ToolDenied("no"), "TOOL_DENIED")], ids=["any", "tree"]
)
def test_an_exception_becomes_a_failure_with_its_code(rig, error, code):
    """An error of the tree keeps its code; anything else is HANDLER_FAILED and names itself."""

    async def handler(env, ctx):
        raise error

    outcome, _ = _run_single(rig, handler)
    assert (outcome.status, outcome.code) == ("failed", code)
    assert str(error.args[0]) in outcome.message


def test_a_bug_in_a_handler_is_logged_with_its_traceback_a_refusal_is_not(rig, caplog):
    """The outcome says what, the log says where; what a handler raises on purpose is no news."""

    async def broken(event, context):
        raise ZeroDivisionError("a bug")

    async def denied(event, context):
        raise ToolDenied("on purpose")

    _run_single(rig, broken)
    _run_single(rig, denied)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert "a handler failed on" in record.getMessage()


def test_a_result_of_another_type_is_a_failure(rig):
    """The message names what is allowed and what came."""

    async def handler(env, ctx):
        return 5

    outcome, _ = _run_single(rig, handler)
    assert outcome.code == "HANDLER_FAILED"
    assert "not int" in outcome.message


def test_a_panic_is_answered_and_raised_on(rig):
    """The asker gets a failure, and the worker crashes so that the cell can count it."""

    async def handler(env, ctx):
        raise Panic("native code")

    turn, answers, _ = _single(rig, handler)
    with pytest.raises(Panic):
        asyncio.run(turn.run(_given(rig.event(1))))
    assert answers[1].code == "HANDLER_FAILED"


def test_a_broken_context_fails_only_its_event(rig):
    """If no context can be made, the event fails and the worker lives."""
    answers = rig.Answers()

    def make(env, trace):
        raise LookupError("no session")

    asyncio.run(SerialTurn(_agen(), make, answers).run(_given(rig.event(1))))
    assert answers[1].status == "failed"


def test_what_waits_is_handled_straight_on(rig):
    """Without a switch of tasks, in order; an event that fails does not end the turn."""
    order = []

    async def handler(env, ctx):
        order.append(env[1])
        if env[1] == 2:
            raise ValueError("bad")

    async def main():
        turn, answers, contexts = _single(rig, handler)
        asyncio.get_running_loop().call_soon(order.append, "loop")
        await turn.run(_given(*(rig.event(number) for number in (1, 2, 3))))
        await asyncio.sleep(0)
        assert order == [1, 2, 3, "loop"]
        assert answers.status() == {1: "handled", 2: "failed", 3: "handled"}
        assert len({id(context) for context in contexts}) == 3
        assert turn.deadline() == NO_DEADLINE
        assert turn.stop(lambda env: True, HANDLED, asked=True) == (0, False)

    asyncio.run(main())


def test_a_cancel_that_gets_out_ends_the_turn_with_its_event(rig):
    """It is answered; what waits behind it is for the next turn."""

    async def handler(env, ctx):
        raise asyncio.CancelledError

    async def main():
        turn, answers, _ = _single(rig, handler)
        take = _given(rig.event(1), rig.event(2))
        with pytest.raises(asyncio.CancelledError):
            await turn.run(take)
        assert answers.status() == {1: "cancelled"}
        assert take()[1] == 2

    asyncio.run(main())


@pytest.mark.parametrize("given", [None, b"", b"value", Out("A"), "B", ["B", Out("A")], 7], ids=repr)
def test_an_adapted_handler_is_what_it_is_when_called(rig, given):
    """Taken apart by a turn or called as any handler: the same is given, emitted and answered."""
    seen = []

    async def function(view, context):
        seen.append(view)
        return given

    def result(what):
        return [Out(each) if isinstance(each, str) else each for each in ([what] if isinstance(what, str) else what)]

    def any_result(what):
        return what if what is None or isinstance(what, bytes | Out) else result(what)

    told = []
    for handler in (Adapted(function, lambda env: env[1] * 10, any_result), None):
        adapted = Adapted(function, lambda env: env[1] * 10, any_result)

        async def called(env, context, adapted=adapted):
            return await adapted(env, context)

        turn, answers, contexts = _single(rig, handler or called)
        asyncio.run(turn.run(_given(rig.event(1), rig.event(2))))
        told.append((answers.by_counter, [context.outs for context in contexts]))
    assert told[0] == told[1]
    assert seen == [10, 20, 10, 20]


def test_an_out_that_need_not_wait_is_sent_without(rig):
    """Only who must wait for credit does."""
    sent, waited = [], []

    class Context(rig.Context):
        def emit_now(self, out):
            if len(sent) < 1:
                sent.append(out.kind)
                return True
            return False

        async def emit(self, out):
            await asyncio.sleep(0)
            waited.append(out.kind)

    async def handler(env, context):
        return Out(f"K{env[1]}")

    answers = rig.Answers()
    asyncio.run(SerialTurn(handler, Context, answers).run(_given(rig.event(1), rig.event(2))))
    assert (sent, waited) == (["K1"], ["K2"])
    assert answers.status() == {1: "handled", 2: "handled"}
