"""A pool host serves the fronts that are connected to it: each its share, each its own end.

The fronts here are scripted: they send what a front sends and keep what they are told.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

from laneway.actors.hosts.guests import Guests, HostOptions
from laneway.actors.hosts.peers import ANSWER, ASK, CANCEL, DELIVER, DONE, EMIT, EMITTED, HANDLED, ROOM, Message
from laneway.actors.hosts.switchboard import Switchboard
from laneway.actors.nlp.runs import RunDriver
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, Out, Principal, ToolSpec
from laneway.engine.app.packing import HostPacking
from laneway.routing.classify import KindTable
from laneway.routing.envelope import ACCEPTED, BODY, COUNTER, DEADLINE, KIND, NO_DEADLINE, TRACE, Envelope
from laneway.routing.errors import ConfigError, LanewayError
from laneway.routing.lanes import Lane
from tests.actors.pairs import End, connect
from tests.actors.recording import TRACE as TRACEPARENT
from tests.actors.recording import KeptTracer

WHO = ["ada", "t", ["admin"], None]
CELL = "work/0"


class _Front:
    """A scripted front: tells what it is sent, acknowledges if `takes`."""

    def __init__(self, host: _Host, name: str = "front") -> None:
        self.host, self.takes = host, True
        self.board = Switchboard()
        self.board.add(self)
        self.rooms: dict[str, tuple[int, int]] = {}
        self.said: dict[int, list[Envelope]] = {}
        self.messages: list[Message] = []
        self.taken: dict[int, int] = {}
        self.done: dict[int, Message] = {}
        self.asked: list[Message] = []
        self.why = ""
        self.theirs: End  # the host's end
        self.peer: End
        self.theirs, self.peer = connect(host.board, self.board, "host", name)

    def handlers(self) -> Mapping[int, Any]:
        own = {ROOM: self._room, EMIT: self._emit, DONE: self._done, ASK: self._ask}
        return {**own, HANDLED: self._handled}

    def connected(self, peer: Any) -> None: ...

    def lost(self, peer: Any, error: LanewayError) -> None:
        self.why = error.message

    def _room(self, peer: Any, message: Message) -> None:
        self.rooms[message[3]] = (message[4], message[5])

    def _emit(self, peer: Any, message: Message) -> None:
        _, number, packed = message
        assert number not in self.done, "nothing follows the end"
        self.messages.append(message)
        self.said.setdefault(number, []).extend(self.host.packing.unpack(data, 0.0) for data in packed)
        self.taken[number] = self.taken.get(number, 0) + sum(map(len, packed))
        if self.takes:
            self.acknowledge(number)

    def acknowledge(self, number: int) -> None:
        self.peer.send((EMITTED, number, self.taken[number], "", "", False))

    def _done(self, peer: Any, message: Message) -> None:
        assert message[1] not in self.done, "an end is told once"
        self.done[message[1]] = message

    def _handled(self, peer: Any, message: Message) -> None:
        for number, packed in message[2]:
            if packed:
                self._emit(peer, (EMIT, number, packed))
            self._done(peer, (DONE, number, "handled", b"", "", "", False))

    def _ask(self, peer: Any, message: Message) -> None:
        self.asked.append(message)

    def deliver(
        self, number: int, lane: int = Lane.NORMAL, *, cell: str = CELL, history: Any = None, **fields: Any
    ) -> Envelope:
        fields.setdefault("kind", "WORK")
        env: Envelope = self.host.rig.event(number, lane=lane, **fields)
        packed = self.host.packing.pack(env, self.host.clock.now())
        told = msgpack.packb(history) if history is not None else None
        self.peer.send((DELIVER, number, cell, packed, WHO, told), urgent=lane == Lane.CRITICAL)
        return env

    def cancel(self, number: int, reason: str = "enough") -> None:
        self.peer.send((CANCEL, number, reason), urgent=True)

    def status(self) -> dict[int, tuple[str, str]]:
        return {number: (message[2], message[4]) for number, message in sorted(self.done.items())}

    def bodies(self, number: int) -> list[bytes]:
        return [env[BODY] for env in self.said.get(number, ())]


class _Host:
    """A pool host with one pool "work" of one cell."""

    def __init__(self, rig: SimpleNamespace, handler: Any, **spec: Any) -> None:
        self.rig = rig
        self.clock = rig.VirtualClock(asyncio.get_running_loop())
        self.kinds, self.tracer, self.probe = KindTable(), KeptTracer(self.clock), rig.Probe()
        self.packing = HostPacking(self.kinds)
        numbers = itertools.count(1)
        self.guests = Guests(
            HostOptions(
                self.clock,
                self.kinds,
                self.packing,
                ids=lambda: "fresh",
                number=lambda: next(numbers),
                tools=lambda principal: [ToolSpec(principal.subject, "", {})],
                tracer=self.tracer,
                probe=self.probe,
                max_fronts=3,
            ),
        )
        self.board = Switchboard()
        self.board.add(self.guests)
        spec.setdefault("concurrency", 2)
        self.guests.add_pool(PoolSpec("work", ("WORK",), handler, **spec))

    async def close(self) -> None:
        await self.guests.drain(self.clock.now())
        assert self.guests.statistics().deliveries == 0


async def _turns(count: int = 8) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def _sleepy(env: Envelope, context: Context) -> None:
    await asyncio.sleep(10)


async def _deaf(env: Envelope, context: Context) -> None:
    for _ in range(30):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            await context.emit(Out("LOG", b"no"))


def test_a_delivery_is_handled_and_answered(rig: SimpleNamespace) -> None:
    """What its handler says comes first, then its value; the context speaks for the front's principal."""

    async def handle(env: Envelope, context: Context) -> bytes:
        await context.emit(Out("LOG", b"1", "m"))
        await context.emit(Out("LOG", context.principal.subject.encode() + context.tools()[0].name.encode(), "m"))
        assert context.principal == Principal("ada", "t", frozenset({"admin"}))
        assert (env[ACCEPTED], context.deadline) == (env[ACCEPTED], pytest.approx(env[ACCEPTED] + 9.0, abs=0.01))
        return b"value"

    async def scenario() -> None:
        host = _Host(rig, handle)
        front = _Front(host)
        await _turns()
        assert front.rooms == {CELL: (4, 2)}
        front.deliver(1, run="r", deadline=host.clock.now() + 9.0)
        await asyncio.sleep(1)
        assert front.done == {1: (DONE, 1, "handled", b"value", "", "", False)}
        assert front.bodies(1) == [b"1", b"adaada"]
        assert len(front.messages) == 1, "one turn, one message"
        assert front.said[1][0][:7] == ("engine/r", 1, "LOG", "t", "s", "r", "m")
        assert front.said[1][0][DEADLINE] == NO_DEADLINE
        await host.close()

    rig.run(scenario())


def test_an_error_of_a_handler_travels(rig: SimpleNamespace) -> None:
    """Code, sentence and whether a retry may help; a kind that nobody declared is the handler's bug."""

    async def handle(env: Envelope, context: Context) -> None:
        if env[COUNTER] == 1:
            raise ConfigError("set it up")
        await context.emit(Out("NOBODY_KNOWS"))

    async def scenario() -> None:
        host = _Host(rig, handle)
        front = _Front(host)
        front.deliver(1)
        front.deliver(2)
        await asyncio.sleep(1)
        assert front.done[1][2:] == ("failed", b"", "CONFIG", "set it up", False)
        assert front.status()[2] == ("failed", "LOCAL_PROTOCOL")
        await host.close()

    rig.run(scenario())


def test_tokens_of_a_turn_travel_together(rig: SimpleNamespace) -> None:
    """A model that does not wait sends a few messages with a few events, not thousands."""

    async def handle(env: Envelope, context: Context) -> AsyncIterator[Out]:
        for number in range(10_000):
            yield Out("TEXT_MESSAGE_CONTENT", b"%04d " % number, "m")
            if not number % 64:
                await asyncio.sleep(0)

    async def scenario() -> None:
        host = _Host(rig, handle)
        front = _Front(host)
        front.deliver(1, run="r")
        await asyncio.sleep(1)
        assert b"".join(front.bodies(1)) == b"".join(b"%04d " % number for number in range(10_000))
        assert len(front.messages) < 200
        assert len(front.said[1]) < 400
        await host.close()

    rig.run(scenario())


def test_a_session_that_takes_nothing_pauses_its_handler(rig: SimpleNamespace) -> None:
    """10,000 tokens for a slow reader: never more than the window and an event on its way, all arrive."""

    async def handle(env: Envelope, context: Context) -> None:
        for _ in range(10_000):
            await context.emit(Out("TEXT_MESSAGE_CONTENT", b"x" * 40, "m"))

    async def scenario() -> None:
        host = _Host(rig, handle)
        front = _Front(host)
        front.takes = False
        front.deliver(1, run="r")
        rounds = 0
        while 1 not in front.done:
            await asyncio.sleep(1)
            statistics = host.guests.statistics()
            assert statistics.on_its_way_bytes <= 65_536 + 2_048
            assert statistics.waiting == (1 not in front.done)
            front.acknowledge(1)
            rounds += 1
        assert len(b"".join(front.bodies(1))) == 400_000
        assert rounds > 5
        await host.close()

    rig.run(scenario())


def test_a_session_that_is_over_ends_its_handler(rig: SimpleNamespace) -> None:
    """What the session said against it is raised where the handler speaks."""

    async def handle(env: Envelope, context: Context) -> None:
        while True:
            await context.emit(Out("LOG", b"x" * 1_000))

    async def scenario() -> None:
        host = _Host(rig, handle)
        front = _Front(host)
        front.takes = False
        front.deliver(1)
        await asyncio.sleep(1)
        front.peer.send((EMITTED, 1, 1_000, "SLOW_CONSUMER", "nobody reads", True))
        await asyncio.sleep(1)
        assert front.done[1][2:] == ("failed", b"", "SLOW_CONSUMER", "nobody reads", True)
        await host.close()

    rig.run(scenario())


def test_a_tool_call_goes_to_the_front_that_delivered(rig: SimpleNamespace) -> None:
    """ASK after what was told of the call, ANSWER to the model; the call has a deadline."""

    async def handle(env: Envelope, context: Context) -> bytes:
        result = await context.call_tool("double", {"x": 4})
        return result.content.encode()

    async def scenario() -> None:
        host = _Host(rig, handle)
        front, other = _Front(host), _Front(host, "other")
        front.deliver(1, run="r", deadline=host.clock.now() + 30.0)
        await asyncio.sleep(1)
        assert [env[KIND] for env in front.said[1]] == ["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"]
        _, question, number, packed, timeout_s = front.asked[0]
        call = host.packing.unpack(packed, 0.0)
        assert (number, call[KIND], timeout_s) == (1, "TOOL_CALL", pytest.approx(30.0, abs=0.01))
        assert call[DEADLINE] == pytest.approx(30.0, abs=0.01)
        assert host.guests.statistics().asks == 1
        value = msgpack.packb({"content": "8", "code": "", "retryable": False})
        front.peer.send((ANSWER, question, "handled", value, "", "", False))
        await asyncio.sleep(1)
        assert front.done[1][3] == b"8"
        assert front.said[1][-1][KIND] == "TOOL_CALL_RESULT"
        assert not other.asked
        await host.close()

    rig.run(scenario())


def test_cancel_while_queued_running_and_before_arrival(rig: SimpleNamespace) -> None:
    """Each is answered once as cancelled, with the reason; a cancel of what is over does nothing."""

    async def scenario() -> None:
        host = _Host(rig, _sleepy, concurrency=1)
        front = _Front(host)
        front.deliver(1)
        front.deliver(2)
        await asyncio.sleep(1)
        front.cancel(2)
        front.cancel(1)
        await asyncio.sleep(1)
        assert front.status() == {1: ("cancelled", "CANCELLED"), 2: ("cancelled", "CANCELLED")}
        assert front.done[1][5] == front.done[2][5] == "enough"
        front.cancel(1)
        front.peer.hold()
        front.deliver(3)
        front.cancel(3, "too late")
        await asyncio.sleep(1)
        front.peer.let_go()
        await asyncio.sleep(1)
        assert front.done[3][2:6] == ("cancelled", b"", "CANCELLED", "too late")
        front.deliver(4)
        await asyncio.sleep(11)
        assert front.status()[4] == ("handled", "")
        await host.close()

    rig.run(scenario())


def test_a_handler_that_ignores_its_cancel_is_given_up(rig: SimpleNamespace) -> None:
    """It is answered for after the grace, and what it says then goes nowhere."""

    async def scenario() -> None:
        host = _Host(rig, _deaf, grace_s=2.0)
        front = _Front(host)
        front.deliver(1)
        await asyncio.sleep(1.5)
        front.cancel(1)
        await asyncio.sleep(1)
        assert (front.bodies(1), front.done) == ([b"no"], {})
        await asyncio.sleep(2)
        assert front.status() == {1: ("cancelled", "CANCELLED")}
        await asyncio.sleep(40)
        assert host.guests.statistics().pools[0].abandoned == 0
        await host.close()

    rig.run(scenario())


def test_a_lost_front_takes_its_own_with_it(rig: SimpleNamespace) -> None:
    """Queued, running, waiting for the session or for a tool: all are cancelled at once; others go on."""
    ends: list[tuple[int, str]] = []

    async def handle(env: Envelope, context: Context) -> None:
        try:
            if env[COUNTER] == 1:
                await asyncio.sleep(60)
            elif env[COUNTER] == 2:
                for _ in range(100):
                    await context.emit(Out("LOG", b"x" * 2_000))
            else:
                await context.call_tool("slow", {})
        except asyncio.CancelledError:
            await context.emit(Out("LOG", b"last words"))
            assert context.cancelled
            ends.append((env[COUNTER], "cancelled"))
            raise

    async def scenario() -> None:
        host = _Host(rig, handle, concurrency=4)
        front = _Front(host)
        front.takes = False
        for number in (1, 2, 3):
            front.deliver(number)
        await asyncio.sleep(1)
        other = _Front(host, "other")
        other.deliver(1)
        await asyncio.sleep(1)
        assert (other.rooms, front.rooms) == ({CELL: (4, 2)}, {CELL: (4, 2)})
        sent = len(front.theirs.sent)
        front.peer.cut()
        await asyncio.sleep(1)
        assert sorted(ends) == [(1, "cancelled"), (2, "cancelled"), (3, "cancelled")]
        assert len(front.theirs.sent) == sent, "nothing more is sent"
        statistics = host.guests.statistics()
        assert (statistics.fronts, statistics.deliveries, statistics.asks, statistics.waiting) == (1, 1, 0, 0)
        assert other.rooms == {CELL: (8, 4)}
        other.cancel(1)
        await asyncio.sleep(1)
        assert other.status() == {1: ("cancelled", "CANCELLED")}
        await host.close()

    rig.run(scenario())


def test_one_front_floods_and_the_others_critical_event_gets_in(rig: SimpleNamespace) -> None:
    """With every slot taken and every share of the flooder full, it starts at once."""
    started: list[tuple[str, int, float]] = []

    async def handle(env: Envelope, context: Context) -> None:
        started.append((context.session, env[COUNTER], asyncio.get_running_loop().time()))
        await asyncio.sleep(10)

    async def scenario() -> None:
        host = _Host(rig, handle)
        flooder, other = _Front(host, "flooder"), _Front(host, "other")
        await _turns()
        ordinary, critical = flooder.rooms[CELL]
        assert (ordinary, critical) == other.rooms[CELL] == (2, 1)
        for number in range(1, ordinary + 1):
            flooder.deliver(number, session="flood")
        await asyncio.sleep(1)
        other.deliver(1, Lane.CRITICAL, session="urgent")
        other.deliver(2, session="urgent")
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(1)
        assert started[-1][:2] == ("urgent", 1)
        assert started[-1][2] == pytest.approx(now, abs=0.01)
        await asyncio.sleep(25)
        assert {front.why for front in (flooder, other)} == {""}
        assert len(other.done) == 2
        await host.close()

    rig.run(scenario())


def test_shares_follow_the_fronts_that_are_here(rig: SimpleNamespace) -> None:
    """A front that comes shrinks the others', one beyond the bound gets none until another goes."""

    async def scenario() -> None:
        host = _Host(rig, _sleepy, concurrency=6)
        fronts: list[_Front] = []
        for expected in ((12, 6), (6, 3), (4, 2)):
            fronts.append(_Front(host, f"front{len(fronts)}"))
            await _turns()
            assert {front.rooms[CELL] for front in fronts} == {expected}
        late = _Front(host, "late")
        await _turns()
        assert late.rooms[CELL] == (0, 0)
        fronts[0].peer.cut()
        await _turns()
        assert late.rooms[CELL] == fronts[1].rooms[CELL] == (4, 2)
        await host.close()

    rig.run(scenario())


def test_who_uses_a_cell_has_the_room_of_those_who_do_not(rig: SimpleNamespace) -> None:
    """One busy front among idle ones has all of it; it gives back as soon as another begins, which never waits."""
    started: list[tuple[str, float]] = []

    async def handle(env: Envelope, context: Context) -> None:
        started.append((context.session, asyncio.get_running_loop().time()))
        await asyncio.sleep(10)

    async def scenario() -> None:
        host = _Host(rig, handle, concurrency=6)
        busy, other, idle = (_Front(host, name) for name in ("busy", "other", "idle"))
        await _turns()
        assert busy.rooms[CELL] == (4, 2)
        busy.deliver(1, session="busy")
        await _turns()
        assert (busy.rooms[CELL], other.rooms[CELL]) == ((12, 2), (4, 2))
        for number in range(2, 13):
            busy.deliver(number, session="busy")
        await asyncio.sleep(1)
        other.deliver(1, session="other")
        await _turns()
        assert (busy.rooms[CELL], other.rooms[CELL], idle.rooms[CELL]) == ((6, 2), (6, 2), (4, 2))
        await asyncio.sleep(30.5)
        assert other.done.keys() == {1}
        busy.deliver(13)
        await _turns()
        assert busy.rooms[CELL] == (12, 2), "its own again, a second after the other was done"
        await asyncio.sleep(30)
        assert {front.rooms[CELL] for front in (busy, other, idle)} == {(4, 2)}
        assert {front.why for front in (busy, other, idle)} == {""}
        await host.close()

    rig.run(scenario())


def test_a_share_that_shrinks_may_cross_with_deliveries(rig: SimpleNamespace) -> None:
    """A front that has not heard of it yet breaks no contract, and nothing overflows."""

    async def scenario() -> None:
        host = _Host(rig, _sleepy, concurrency=3)
        fronts = []
        for name in ("a", "b", "c"):
            front = _Front(host, name)
            fronts.append(front)
            await _turns()
            ordinary, critical = front.rooms[CELL]
            front.peer.hold()
            front.peer.hold(urgent=True)
            for number in range(1, ordinary + critical + 1):
                front.deliver(number, Lane.NORMAL if number <= ordinary else Lane.CRITICAL)
        for front in fronts:
            front.peer.let_go()
            front.peer.let_go(urgent=True)
        await asyncio.sleep(100)
        assert [len(front.done) for front in fronts] == [9, 4, 3]
        assert {status for front in fronts for status, _ in front.status().values()} == {"handled"}
        await host.close()

    rig.run(scenario())


def test_a_quarantined_cell_takes_nothing_for_a_while(rig: SimpleNamespace) -> None:
    """Its room is none while it rests; what comes anyway is told to try again."""

    class Panic(BaseException):
        """What native code raises."""

    async def handle(env: Envelope, context: Context) -> None:
        raise Panic

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        host = _Host(rig, handle)
        front = _Front(host)
        for number in range(1, 8):
            front.deliver(number)
            await asyncio.sleep(0.1)
        assert front.rooms == {CELL: (0, 0)}
        assert front.done[7][6] is True
        await asyncio.sleep(60)
        assert front.rooms == {CELL: (4, 2)}
        await host.close()

    rig.run(scenario())


def _short(front: _Front, number: int) -> None:
    front.peer.send((DELIVER, number))


def _elsewhere(front: _Front, number: int) -> None:
    front.deliver(number, cell="other/0")


def _garbage(front: _Front, number: int) -> None:
    front.peer.send((DELIVER, number, CELL, b"\xc1", WHO, None))


def _nobody(front: _Front, number: int) -> None:
    packed = front.host.packing.pack(front.host.rig.event(number), 0.0)
    front.peer.send((DELIVER, number, CELL, packed, "ada", None))


def _flood(front: _Front, number: int) -> None:
    for each in range(number, number + 6):
        front.deliver(each)


def _twice(front: _Front, number: int) -> None:
    front.deliver(1)


def _acknowledged(front: _Front, number: int) -> None:
    front.peer.send((EMITTED, 1, 10**9, "", "", False))


def _unknown_outcome(front: _Front, number: int) -> None:
    front.peer.send((ANSWER, 1, "happy", b"", "", "", False))


@pytest.mark.parametrize(
    "breaks", [_short, _elsewhere, _garbage, _nobody, _flood, _twice, _acknowledged, _unknown_outcome]
)
def test_a_front_that_breaks_the_contract_loses_its_connection(rig: SimpleNamespace, breaks: Any) -> None:
    """With a reason; what it delivered is cancelled, and other fronts notice nothing."""

    async def scenario() -> None:
        host = _Host(rig, _sleepy)
        other, front = _Front(host, "other"), _Front(host)
        other.deliver(1)
        front.deliver(1)
        await asyncio.sleep(1)
        breaks(front, 2)
        await asyncio.sleep(1)
        assert not front.peer.alive
        assert front.why
        assert front.done == {}
        assert host.guests.statistics().deliveries == 1
        await asyncio.sleep(10)
        assert other.status() == {1: ("handled", "")}
        await host.close()

    rig.run(scenario())


def test_a_run_knows_what_was_said_before(rig: SimpleNamespace) -> None:
    """Each run of a session gets the history that came with it, also side by side."""

    class Echo:
        async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
            yield Out("TEXT_MESSAGE_START", msgpack.packb({"messageId": "m", "role": "assistant"}), "m")
            await asyncio.sleep(1)
            text = "|".join(message["content"] for message in run["messages"])
            yield Out("TEXT_MESSAGE_CONTENT", text.encode(), "m")

    async def scenario() -> None:
        host = _Host(rig, None)
        driver = RunDriver(Echo(), clock=host.clock, history=host.guests.history)
        host.guests.add_pool(PoolSpec("nlp", ("USER_MESSAGE",), driver, concurrency=4, run_starting=True))
        front = _Front(host)
        for number, said in ((1, ["a", "b"]), (2, ["c"]), (3, None)):
            history = said and [{"id": text, "role": "user", "content": text} for text in said]
            env = {"kind": "USER_MESSAGE", "run": f"r{number}", "body": b"now"}
            front.deliver(number, cell="nlp/0", history=history, **env)
        await asyncio.sleep(2)
        texts = [[env[BODY] for env in front.said[n] if env[KIND] == "TEXT_MESSAGE_CONTENT"] for n in (1, 2, 3)]
        assert texts == [[b"a|b|now"], [b"c|now"], [b"now"]]
        assert {front.said[n][-1][KIND] for n in (1, 2, 3)} == {"RUN_FINISHED"}
        assert host.guests.history("t", "s") == []
        assert host.guests.front() is None
        bad = msgpack.packb(7)
        packed = host.packing.pack(rig.event(4, kind="USER_MESSAGE", run="r4", body=b"now"), 0.0)
        front.peer.send((DELIVER, 4, "nlp/0", packed, WHO, bad))
        await asyncio.sleep(1)
        assert "history" in front.why
        await host.close()

    rig.run(scenario())


def test_the_front_of_a_delivery_is_known_where_it_is_handled(rig: SimpleNamespace) -> None:
    """So that a tool's ledger is that front's: in the handler and in the tasks that it starts."""
    seen: dict[str, list[str | None]] = {}

    async def scenario() -> None:
        host = _Host(rig, None)

        async def note(session: str) -> None:
            seen.setdefault(session, []).append(host.guests.front())

        async def handle(env: Envelope, context: Context) -> None:
            await note(context.session)
            await asyncio.sleep(1)
            await asyncio.create_task(note(context.session))

        host.guests.add_pool(PoolSpec("tools", ("TOOL_CALL",), handle, concurrency=2))
        for name in ("a", "b"):
            _Front(host, name).deliver(1, cell="tools/0", session=name)
        await asyncio.sleep(3)
        assert seen == {"a": ["a", "a"], "b": ["b", "b"]}
        await host.close()

    rig.run(scenario())


def test_sampled_events_have_a_span_here(rig: SimpleNamespace) -> None:
    """`handle` is made on this host, below what the event carries; what it says belongs to it."""

    async def handle(env: Envelope, context: Context) -> None:
        with context.span("step"):
            await context.emit(Out("LOG", b"1"))

    async def scenario() -> None:
        host = _Host(rig, handle)
        front = _Front(host)
        front.deliver(1, trace=TRACEPARENT)
        front.deliver(2)
        await asyncio.sleep(1)
        assert [(name, code) for name, code in host.tracer.told] == [("handle work", ""), ("step", "")]
        assert host.tracer.spans[0].parent == TRACEPARENT
        assert host.tracer.spans[0].attributes["laneway.cell"] == CELL
        assert front.said[1][0][TRACE] == host.tracer.spans[1].traceparent
        assert front.said[2][0][TRACE] == ""
        assert host.probe.counts["queue.wait"] == 2
        await host.close()

    rig.run(scenario())


def test_batches(rig: SimpleNamespace) -> None:
    """Events of several fronts share a batch; each speaks to its own, and one that is over speaks to nobody."""
    sizes: list[int] = []

    async def handle(envs: Sequence[Envelope], contexts: Sequence[Context]) -> list[bytes]:
        sizes.append(len(envs))
        await asyncio.sleep(2)
        for env, context in zip(envs, contexts, strict=True):
            await context.emit(Out("LOG", env[BODY]))
            assert (await context.call_tool("x", {})).code if context.cancelled else True
        return [env[BODY] for env in envs]

    async def scenario() -> None:
        host = _Host(rig, handle, batch=True, concurrency=1)
        first, second = _Front(host, "a"), _Front(host, "b")
        first.deliver(1, body=b"first")
        await asyncio.sleep(1)
        first.deliver(2, body=b"a2")
        second.deliver(1, body=b"b1")
        await asyncio.sleep(1.5)
        second.cancel(1)
        await asyncio.sleep(3)
        assert sizes == [1, 2]
        assert (first.bodies(1), first.bodies(2), second.bodies(1)) == ([b"first"], [b"a2"], [])
        assert first.done[2][3] == b"a2"
        assert second.status() == {1: ("cancelled", "CANCELLED")}
        assert host.guests.statistics().pools[0].late_emits == 1
        await host.close()

    rig.run(scenario())


def test_drain(rig: SimpleNamespace) -> None:
    """No more room; what is here may end, also what waits; at the deadline the rest is told DRAINED."""

    async def handle(env: Envelope, context: Context) -> None:
        await asyncio.sleep(1 if env[COUNTER] == 1 else 60)

    async def scenario() -> None:
        host = _Host(rig, handle)
        front = _Front(host)
        for number in (1, 2, 3, 4):
            front.deliver(number)
        await _turns()
        draining = asyncio.ensure_future(host.guests.drain(host.clock.now() + 10))
        await _turns()
        assert front.rooms == {CELL: (0, 0)}
        assert host.guests.statistics().draining
        await draining
        await _turns()
        assert front.status() == {1: ("handled", ""), **dict.fromkeys((2, 3, 4), ("cancelled", "DRAINED"))}
        front.deliver(5)
        await asyncio.sleep(1)
        assert front.status()[5] == ("cancelled", "DRAINED")
        began = asyncio.get_running_loop().time()
        await host.close()
        assert asyncio.get_running_loop().time() - began < 1.0

    rig.run(scenario())


def test_what_crosses_with_the_beginning_of_a_drain_is_handled(rig: SimpleNamespace) -> None:
    """A front that has not heard of it delivers to an idle host, and is not told to send it again."""

    async def scenario() -> None:
        host = _Host(rig, _sleepy)
        front = _Front(host)
        await asyncio.sleep(1)
        front.peer.hold()
        front.deliver(1)
        draining = asyncio.ensure_future(host.guests.drain(host.clock.now() + 30))
        await asyncio.sleep(0.2)
        front.peer.let_go()
        await draining
        await _turns()
        assert front.status() == {1: ("handled", "")}

    rig.run(scenario())


def test_a_pool_has_one_name(rig: SimpleNamespace) -> None:
    """Added twice it is a mistake; added later it is announced to those who are here."""

    async def scenario() -> None:
        host = _Host(rig, _sleepy)
        front = _Front(host)
        with pytest.raises(ConfigError, match="work"):
            host.guests.add_pool(PoolSpec("work", ("WORK",), _sleepy))
        host.guests.add_pool(PoolSpec("more", ("MORE",), _sleepy, cells=2, concurrency=1))
        await _turns()
        assert front.rooms == {CELL: (4, 2), "more/0": (2, 2), "more/1": (2, 2)}
        await host.close()

    rig.run(scenario())
