"""Sends: kept until answered, resent under the same counter, retried as told, answered once."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.client_outbox import Outbox, Receipt
from laneway.routing.envelope import COUNTER, Envelope, envelope
from laneway.routing.errors import AccessError, LanewayError, LinkClosed, Overloaded, RateLimited
from laneway.routing.restraint import Restraint


def event(counter: int, lane: int = 1, size: int = 2) -> Envelope:
    return envelope(
        "USER_MESSAGE", producer="c", counter=counter, tenant="", session="", lane=lane, run="r", body=bytes(size)
    )


async def put(outbox: Outbox, env: Envelope) -> asyncio.Task[Receipt]:
    task = asyncio.create_task(outbox.put(env))
    await asyncio.sleep(0)
    return task


def counters(envelopes: list[Envelope]) -> list[int]:
    return [env[COUNTER] for env in envelopes]


def test_an_answer_ends_an_event() -> None:
    """OK gives the receipt; the event is not sent again; an answer to nobody is ignored."""

    async def main() -> None:
        outbox = Outbox()
        sent = await put(outbox, event(1))
        assert counters(outbox.take(0.0)) == [1]
        assert outbox.take(0.0) == []
        outbox.ok(1, 1, "durable")
        outbox.ok(1, 1, "duplicate")
        outbox.ok(99, 1, "durable")
        assert await sent == Receipt("c:1", "durable", "r")
        outbox.resend()
        assert outbox.take(0.0) == []
        assert len(outbox) == 0

    asyncio.run(main())


def test_a_lost_link_resends_in_order_and_critical_first() -> None:
    """Everything without an answer goes out again; an interrupt overtakes."""

    async def main() -> None:
        outbox = Outbox()
        tasks = [await put(outbox, event(n)) for n in (1, 2, 3)]
        outbox.take(0.0)
        outbox.ok(2, 1, "volatile")
        await tasks[1]
        tasks.append(await put(outbox, event(4, lane=0)))
        outbox.resend()
        assert counters(outbox.take(0.0)) == [4, 1, 3]
        outbox.fail(LinkClosed("over"))
        for task in (tasks[0], tasks[2], tasks[3]):
            with pytest.raises(LinkClosed):
                await task
        with pytest.raises(LinkClosed):
            await outbox.put(event(5))

    asyncio.run(main())


def test_a_refusal_is_retried_after_its_delay_and_not_for_ever() -> None:
    """Not before the delay, at most max_attempts in all; a refusal for good is raised at once."""

    async def main() -> None:
        outbox = Outbox(max_attempts=3)
        sent = await put(outbox, event(1))
        for attempt in range(3):
            now = attempt * 10.0
            assert counters(outbox.take(now)) == [1]
            outbox.refused(1, RateLimited("slow down", retry_after_ms=500), now)
            await asyncio.sleep(0)
            if attempt < 2:
                assert outbox.take(now + 0.4) == []
                assert outbox.deadline() == now + 0.5
        with pytest.raises(RateLimited):
            await sent
        denied = await put(outbox, event(2))
        outbox.take(0.0)
        outbox.refused(2, AccessError("no"), 0.0)
        with pytest.raises(AccessError):
            await denied
        assert outbox.deadline() is None

    asyncio.run(main())


def test_a_full_outbox_makes_senders_wait() -> None:
    """Bytes are bounded; room comes with answers, an oversized event passes alone, and a failure frees all."""

    async def main() -> None:
        outbox = Outbox(max_bytes=1000)
        first = await put(outbox, event(1, size=5000))
        second = await put(outbox, event(2))
        assert counters(outbox.take(0.0)) == [1]
        outbox.ok(1, 1, "volatile")
        await first
        await asyncio.sleep(0)
        assert counters(outbox.take(0.0)) == [2]
        third = await put(outbox, event(3, size=900))
        outbox.fail(LinkClosed("over"))
        for task in (second, third):
            with pytest.raises(LinkClosed):
                await task

    asyncio.run(main())


def test_a_cancelled_send_is_forgotten() -> None:
    """Its event does not go out any more."""

    async def main() -> None:
        outbox = Outbox()
        sent = await put(outbox, event(1))
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)
        assert outbox.take(0.0) == []

    asyncio.run(main())


async def put_all(outbox: Outbox, *counters: int) -> asyncio.Task[list[Receipt | LanewayError]]:
    task = asyncio.create_task(outbox.put_all([event(counter) for counter in counters]))
    await asyncio.sleep(0)
    return task


def test_events_sent_together_are_answered_together_and_each() -> None:
    """Frames of 64; a refusal is the answer of its event only; a single event beside them has its own."""

    async def main() -> None:
        outbox = Outbox()
        assert await outbox.put_all([]) == []
        many = await put_all(outbox, *range(1, 131))
        one = await put(outbox, event(131))
        assert [len(outbox.take(0.0)) for _ in range(4)] == [64, 64, 3, 0]
        outbox.refused(7, AccessError("no"), 0.0)
        outbox.ok(1, 10**12, "durable")
        answers = await many
        assert [type(answer) is Receipt for answer in answers] == [counter != 7 for counter in range(1, 131)]
        assert answers[0] == Receipt("c:1", "durable", "r")
        assert isinstance(answers[6], AccessError)
        assert (await one).id == "c:131"
        assert len(outbox) == 0

    asyncio.run(main())


def test_what_ends_a_client_ends_events_sent_together_and_a_cancel_forgets_them() -> None:
    """Neither leaves anything behind that would go out again."""

    async def main() -> None:
        outbox = Outbox()
        cancelled, failed = await put_all(outbox, 1, 2, 3), await put_all(outbox, 4, 5)
        outbox.ok(2, 1, "volatile")
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        outbox.resend()
        assert counters(outbox.take(0.0)) == [4, 5]
        outbox.fail(LinkClosed("over"))
        with pytest.raises(LinkClosed):
            await failed
        with pytest.raises(LinkClosed):
            await outbox.put_all([event(6)])
        assert len(outbox) == 0

    asyncio.run(main())


def test_a_large_frame_is_cut_and_critical_events_of_many_go_first() -> None:
    """512 KiB at a time; an interrupt among them overtakes."""

    async def main() -> None:
        outbox = Outbox()
        sent = [event(1, size=300_000), event(2, size=300_000), event(3), event(4, lane=0)]
        task = asyncio.create_task(outbox.put_all(sent))
        await asyncio.sleep(0)
        assert [counters(outbox.take(0.0)) for _ in range(3)] == [[4, 1], [2, 3], []]
        outbox.ok(1, 4, "volatile")
        assert len(await task) == 4

    asyncio.run(main())


_STEPS = st.sampled_from(["put", "many", "ok", "refuse", "lose", "take"])


@given(st.lists(st.tuples(_STEPS, st.integers(1, 12), st.integers(1, 4)), max_size=60))
def test_every_event_is_answered_exactly_once(steps: list[tuple[str, int, int]]) -> None:
    """Whatever the order of sends, answers, refusals and losses: one answer each, none lost."""

    async def main() -> None:
        outbox, tasks, now = Outbox(max_attempts=3), {}, 0.0
        answered: set[int] = set()
        refusals: Counter[int] = Counter()
        for step, counter, count in steps:
            now += 1.0
            some = [each for each in range(counter, counter + count) if each not in tasks]
            if step == "put" and counter not in tasks:
                tasks[counter] = await put(outbox, event(counter))
            elif step == "many" and some:
                tasks.update(dict.fromkeys(some, await put_all(outbox, *some)))
            elif step == "ok":
                outbox.ok(counter, count, "volatile")
                answered.update(tasks.keys() & set(range(counter, counter + count)))
            elif step == "refuse":
                outbox.refused(counter, RateLimited("later", retry_after_ms=10), now)
                if counter in tasks and counter not in answered:
                    refusals[counter] += 1
                    answered.update({counter} if refusals[counter] == 3 else ())
            elif step == "lose":
                outbox.resend()
            else:
                outbox.take(now)
            await asyncio.sleep(0)
        outbox.resend()
        assert sorted(counters(outbox.take(now + 1.0))) == sorted(set(tasks) - answered)
        outbox.fail(LinkClosed("over"))
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        assert len(outbox) == 0

    asyncio.run(main())


def test_a_retry_that_would_come_too_late_is_not_made() -> None:
    """An event with a deadline before the time that the engine named is refused at once."""

    async def main() -> None:
        outbox = Outbox()
        env = event(1)
        sent = await put(outbox, (*env[:8], 1.4, *env[9:]))
        outbox.take(1.0)
        outbox.refused(1, RateLimited("slow down", retry_after_ms=500), 1.0)
        with pytest.raises(RateLimited):
            await sent

    asyncio.run(main())


def test_while_the_engine_refuses_most_new_events_are_refused_here_in_its_words() -> None:
    """With the code, the reason and the time that is left; what is critical goes out all the same."""

    async def main() -> None:
        outbox = Outbox(max_attempts=1, restraint=Restraint(lambda: 0.0))
        now = asyncio.get_running_loop().time()
        full = Overloaded("the pool is full", reason="POOL", retry_after_ms=60_000)
        for counter in range(1, 11):
            sent = await put(outbox, event(counter))
            if sent.done():
                break
            outbox.refused(counter, full, now)
            with pytest.raises(Overloaded, match=r"^[^:]*OVERLOADED/POOL: the pool is full"):
                await sent
        with pytest.raises(Overloaded, match=r"not sent, .*the pool is full") as refusal:
            await sent
        assert counter == 10
        assert 59_000 < (refusal.value.retry_after_ms or 0) <= 60_000
        assert refusal.value.reason == "POOL"
        outbox.take(now)
        many = await outbox.put_all([event(number) for number in (20, 21)])
        assert [type(answer) for answer in many] == [Overloaded] * 2
        urgent = await put(outbox, event(11, lane=0))
        assert counters(outbox.take(now)) == [11]
        outbox.ok(11, 1, "durable")
        assert (await urgent).status == "durable"
        assert len(outbox) == 0

    asyncio.run(main())
