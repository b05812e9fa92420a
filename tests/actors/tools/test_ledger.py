"""At most one effect per call: X2, crashes at every write, and attached callers."""

from __future__ import annotations

import asyncio

import pytest

from laneway.actors.ports import Record
from laneway.actors.tools.entries import CallKey, Settled, digest
from laneway.actors.tools.ledger import Ledger, Ticket
from laneway.actors.tools.lifecycle import State
from laneway.actors.tools.recall import Recall
from laneway.routing.errors import IdempotencyMismatch, OutcomeUnknown, StoreError

KEY = CallKey("acme", "s1", "r1", "c1")
HASH = digest("pay", {"to": "bob", "eur": 5})
DONE = Settled(State.SUCCEEDED, '{"paid":true}')


class Notebook:
    """A versioned store that outlives ledgers and can be told to fail."""

    def __init__(self) -> None:
        self.values: dict[str, tuple[int, bytes]] = {}
        self.failing = False
        self.writes = 0

    async def get(self, key: str) -> Record:
        await asyncio.sleep(0)
        if self.failing:
            raise StoreError("the disk is gone")
        return Record(*self.values.get(key, (0, b"")))

    async def put(self, key: str, value: bytes, *, version: int | None = None, ttl_s: float | None = None) -> int:
        await asyncio.sleep(0)
        if self.failing:
            raise StoreError("the disk is gone")
        current = self.values.get(key, (0, b""))[0]
        if version is not None and version != current:
            return 0
        self.writes += 1
        self.values[key] = (current + 1, value)
        return current + 1


async def claim(ledger: Ledger, key: CallKey = KEY, hashed: bytes = HASH, *, repeatable: bool = False) -> Ticket:
    ticket = await ledger.claim(key, hashed, repeatable=repeatable)
    assert isinstance(ticket, Ticket)
    return ticket


def ledger_of(store: Notebook) -> Ledger:
    return Ledger(store)  # type: ignore[arg-type] # it needs get and put only


def test_the_same_call_again_gets_the_first_result() -> None:
    """X2: same args -> first result, from this process and from the next one on the same store."""

    async def main() -> None:
        store = Notebook()
        ledger = ledger_of(store)
        ticket = await claim(ledger)
        await ticket.start()
        assert await ticket.settle(DONE)
        assert await ledger.claim(KEY, HASH, repeatable=False) == DONE
        assert await ledger_of(store).claim(KEY, HASH, repeatable=False) == DONE
        assert ledger.running == 0

    asyncio.run(main())


def test_other_arguments_are_a_mismatch_and_other_tenants_are_independent() -> None:
    """X2: other args -> IDEMPOTENCY_MISMATCH, running or settled; other tenant -> its own call."""

    async def main() -> None:
        ledger = ledger_of(Notebook())
        ticket = await claim(ledger)
        other = digest("pay", {"to": "eve", "eur": 5})
        with pytest.raises(IdempotencyMismatch):
            await ledger.claim(KEY, other, repeatable=False)
        await ticket.start()
        await ticket.settle(DONE)
        with pytest.raises(IdempotencyMismatch):
            await ledger.claim(KEY, other, repeatable=False)
        await claim(ledger, CallKey("rival", "s1", "r1", "c1"), other)
        # ids cannot be made to look like another's path
        assert CallKey("a/b", "c", "d", "e").text != CallKey("a", "b/c", "d", "e").text

    asyncio.run(main())


def test_a_second_caller_attaches_to_the_first() -> None:
    """In progress -> attach: both get one result; a cancelled attached caller disturbs nobody."""

    async def main() -> None:
        ledger = ledger_of(Notebook())
        ticket = await claim(ledger)
        attached = [asyncio.create_task(ledger.claim(KEY, HASH, repeatable=False)) for _ in range(3)]
        await asyncio.sleep(0)
        attached[0].cancel()
        await ticket.start()
        await ticket.settle(DONE)
        assert await attached[1] == await attached[2] == DONE

    asyncio.run(main())


@pytest.mark.parametrize("repeatable", [False, True])
def test_a_crash_between_effect_and_record(repeatable: bool) -> None:
    """Not repeatable -> OUTCOME_UNKNOWN, every time; repeatable -> runs again."""

    async def main() -> None:
        store = Notebook()
        ticket = await claim(ledger_of(store), repeatable=repeatable)
        await ticket.start()  # and here the process dies
        after = ledger_of(store)
        if repeatable:
            await claim(after, repeatable=True)
            return
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await after.claim(KEY, HASH, repeatable=False)
        assert after.running == 0

    asyncio.run(main())


def test_a_late_report_corrects_an_unknown_outcome() -> None:
    """The process was only slow: its result is recorded and the next caller gets it."""

    async def main() -> None:
        store = Notebook()
        slow = await claim(ledger_of(store))
        await slow.start()
        other = ledger_of(store)
        with pytest.raises(OutcomeUnknown):
            await other.claim(KEY, HASH, repeatable=False)
        assert await slow.settle(DONE)
        assert await other.claim(KEY, HASH, repeatable=False) == DONE

    asyncio.run(main())


def test_two_processes_cannot_both_start_an_effect() -> None:
    """Both claim, one start wins by compare-and-set, the other is OUTCOME_UNKNOWN."""

    async def main() -> None:
        store = Notebook()
        one, two = await claim(ledger_of(store)), await claim(ledger_of(store))
        await one.start()
        with pytest.raises(OutcomeUnknown):
            await two.start()

    asyncio.run(main())


def test_a_failing_store_starts_nothing_and_hides_nothing() -> None:
    """No intent, no effect; but a result that cannot be recorded is still given to those who wait."""

    async def main() -> None:
        store = Notebook()
        ledger = ledger_of(store)
        store.failing = True
        with pytest.raises(StoreError):
            await ledger.claim(KEY, HASH, repeatable=False)
        store.failing = False
        ticket = await claim(ledger)
        store.failing = True
        with pytest.raises(StoreError):
            await ticket.start()
        store.failing = False
        await ticket.start()
        attached = asyncio.create_task(ledger.claim(KEY, HASH, repeatable=False))
        await asyncio.sleep(0)
        store.failing = True
        assert not await ticket.settle(DONE)
        assert await attached == DONE

    asyncio.run(main())


def test_an_abandoned_call_leaves_no_record() -> None:
    """What failed before its effect can be tried again under the same id."""

    async def main() -> None:
        store = Notebook()
        ledger = ledger_of(store)
        (await claim(ledger)).abandon(DONE)
        assert store.writes == 0
        await claim(ledger)

    asyncio.run(main())


def test_a_record_made_during_cancellation_is_awaited_by_close() -> None:
    """settle_later writes although its caller is gone."""

    async def main() -> None:
        store = Notebook()
        ledger = ledger_of(store)
        ticket = await claim(ledger)
        await ticket.start()
        ticket.settle_later(Settled(State.CANCELLED, "{}", "CANCELLED"))
        await ledger.close()
        again = await ledger_of(store).claim(KEY, HASH, repeatable=False)
        assert isinstance(again, Settled)
        assert again.code == "CANCELLED"

    asyncio.run(main())


def test_records_are_bounded() -> None:
    """A result too large to keep is given once; its repetition says so instead of running again."""

    async def main() -> None:
        store = Notebook()
        ledger = ledger_of(store)
        ticket = await claim(ledger)
        await ticket.start()
        await ticket.settle(Settled(State.SUCCEEDED, '"' + "x" * 1_000_000 + '"'))
        again = await ledger.claim(KEY, HASH, repeatable=False)
        assert isinstance(again, Settled)
        assert again.code == "RESULT_NOT_KEPT"
        assert sum(len(value) for _, value in store.values.values()) < 1000

    asyncio.run(main())


class Clock:
    at = 0.0

    def now(self) -> float:
        return self.at


def test_a_ledger_whose_store_dies_with_it_asks_no_store() -> None:
    """Nobody could read an intent; the call is run once all the same, and its result is there for the next who asks."""

    async def main() -> None:
        store = Notebook()
        store.failing = True
        ledger = Ledger(store, recall=Recall(Clock()))  # type: ignore[arg-type] # it needs get and put only
        ticket = await claim(ledger)
        assert ticket.silent
        attached = asyncio.create_task(ledger.claim(KEY, HASH, repeatable=False))
        await asyncio.sleep(0)
        assert ticket.settle_now(DONE)
        assert await attached == await ledger.claim(KEY, HASH, repeatable=False) == DONE
        with pytest.raises(IdempotencyMismatch):
            ledger.claim_now(KEY, digest("pay", {}), repeatable=False)
        ticket = await claim(ledger, KEY._replace(call_id="c2"))
        ticket.settle_later(DONE)
        assert ledger.claim_now(KEY._replace(call_id="c2"), HASH, repeatable=False) == DONE
        await ledger.close()
        assert ledger.running == 0

    asyncio.run(main())


def _unread(ledger: Ledger) -> Ticket:
    ticket = ledger.claim_now(KEY, HASH, repeatable=False)
    assert isinstance(ticket, Ticket)
    assert ticket.unread
    return ticket


def test_a_new_call_is_not_looked_up() -> None:
    """Its intent is written where nothing may stand: two writes and no reading."""

    async def main() -> None:
        store = Notebook()
        ticket = _unread(ledger_of(store))
        store.get = None  # type: ignore[method-assign,assignment] # nobody may ask
        assert await ticket.start() is None
        assert not ticket.unread
        assert await ticket.settle(DONE)
        assert store.writes == 2

    asyncio.run(main())


def test_an_intent_that_meets_a_record_begins_nothing() -> None:
    """The first result, a mismatch or an unknown outcome: what a look-up would have told."""

    async def main() -> None:
        store = Notebook()
        await _unread(ledger_of(store)).start()  # and here the process dies
        with pytest.raises(OutcomeUnknown):
            await _unread(ledger_of(store)).start()
        with pytest.raises(OutcomeUnknown):
            await _unread(ledger_of(store)).look_up()
        store.values.clear()
        first = _unread(ledger_of(store))
        await first.start()
        await first.settle(DONE)
        assert await _unread(ledger_of(store)).start() == DONE
        again = _unread(ledger_of(store))
        assert await again.look_up() == DONE
        assert await again.look_up() is None, "once"
        other = ledger_of(store).claim_now(KEY, digest("pay", {}), repeatable=False)
        assert isinstance(other, Ticket)
        with pytest.raises(IdempotencyMismatch):
            await other.start()

    asyncio.run(main())


@pytest.mark.parametrize("running", [False, True])
def test_what_must_wait_is_not_claimed_at_once(running: bool) -> None:
    """A repeatable call is looked up first, as it writes no intent; who attaches has to wait."""
    ledger = ledger_of(Notebook())
    if running:
        assert ledger.claim_now(KEY, HASH, repeatable=False)
    assert ledger.claim_now(KEY, HASH, repeatable=not running) is None
    assert ledger.running == running
