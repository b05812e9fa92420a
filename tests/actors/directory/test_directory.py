"""The sessions of one process: opened once, put to sleep, found, published to, taken up after a crash."""

from __future__ import annotations

import asyncio

import msgpack
import pytest

from laneway.actors.directory.deliveries import DeliveryJournal
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, DeadLetter, Entry, Out, Principal
from laneway.actors.sessions.attachment import Attachment
from laneway.actors.sessions.intake import INBOUND
from laneway.engine.app.packing import LogPacking
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.envelope import BODY, KIND, SESSION, Envelope
from laneway.routing.errors import (
    AccessError,
    Draining,
    Fenced,
    LaneFull,
    Overloaded,
    PeerProtocolError,
    StoreError,
    StoreUnavailable,
)
from laneway.routing.handshake import parse_hello
from laneway.routing.replay import Cursor
from tests.actors.sessions.stage import ALICE, BOB, Caller, Disk, a_directory, a_hello, an_event, kind_table, text
from tests.simulation.loop import run
from tests.simulation.stage import Stage


async def _heard(attachment: Attachment, quiet_s: float = 0.3) -> list[Envelope]:
    """Read until nothing more comes."""
    heard: list[Envelope] = []
    while True:
        try:
            async with asyncio.timeout(quiet_s):
                heard += [env for frame in await attachment.frames() for env in frame.envelopes]
        except TimeoutError:
            return heard


# -- opening ----------------------------------------------------------------------------------


def test_a_session_is_opened_once() -> None:
    """However many ask at the same time, there is one claim and one home; another tenant's is another."""

    async def main() -> None:
        disk = Disk()
        disk.claim_s = 0.1
        async with a_directory(disk) as (directory, _):
            homes = await asyncio.gather(*(directory.open("t", "s") for _ in range(20)))
            assert len(set(map(id, homes))) == 1
            assert directory.find("t", "s") is homes[0]
            assert (await disk.claim("t/session/s")).generation == 2
            assert await directory.open("u", "s") is not homes[0]
            assert directory.statistics().sessions == 2

    run(main())


def test_a_slow_store_is_not_waited_for_without_end() -> None:
    """Whoever asks is refused STORE_UNAVAILABLE after 10 s; the opening goes on and serves who comes later."""

    async def main() -> None:
        disk = Disk()
        disk.claim_s = 15.0
        async with a_directory(disk) as (directory, _):
            asked_at = asyncio.get_running_loop().time()
            with pytest.raises(StoreUnavailable) as caught:
                await directory.attach(a_hello(), ALICE)
            assert caught.value.code == "STORE_UNAVAILABLE"
            assert caught.value.retry_after_ms == 1000
            assert 9.9 < asyncio.get_running_loop().time() - asked_at < 10.1
            await directory.attach(a_hello(), ALICE)
            assert (await disk.claim("t/session/s")).generation == 2

    run(main())


def test_an_opening_that_failed_is_tried_again() -> None:
    """A store that was away when a session was opened leaves nothing behind."""

    async def main() -> None:
        disk = Disk()
        async with a_directory(disk) as (directory, _):
            disk.down = True
            with pytest.raises(StoreError):
                await directory.open("t", "s")
            disk.down = False
            assert (await directory.open("t", "s")).name == "s"
            assert directory.unreadable == {}

    run(main())


def test_sessions_awake_are_bounded() -> None:
    """Beyond `max_sessions` a new session is refused OVERLOADED; those awake are found as ever."""

    async def main() -> None:
        async with a_directory(Disk(), max_sessions=2) as (directory, _):
            await directory.open("t", "a")
            await directory.open("t", "b")
            with pytest.raises(Overloaded):
                await directory.open("t", "c")
            assert (await directory.open("t", "a")).name == "a"

    run(main())


def test_the_last_place_is_given_while_the_opening_before_ends() -> None:
    """Who asks in the very turn of the loop in which another's home came is not refused for counting it twice."""

    async def main() -> None:
        async with a_directory(Disk(), max_sessions=2) as (directory, _):

            async def second() -> str:
                for _ in range(20):
                    if directory.find("t", "a") is not None:
                        break
                    await asyncio.sleep(0)
                return (await directory.open("t", "b")).name

            _, name = await asyncio.gather(directory.open("t", "a"), second())
            assert name == "b"
            with pytest.raises(Overloaded):
                await directory.open("t", "c")

    run(main())


# -- attaching --------------------------------------------------------------------------------


def test_hellos_that_are_refused_leave_no_link() -> None:
    """A hundred hellos with a bad topic, a bad cursor or no common version take no place; a good one is served."""

    async def main() -> None:
        async with a_directory(Disk(), max_links=2) as (directory, _):
            for number in range(100):
                offer = {"v": [1], "client": f"c{number}", "session": "s"}
                with pytest.raises(PeerProtocolError, match="BAD_TOPIC"):
                    await directory.attach(parse_hello({**offer, "topics": ["topic:ok", "user:bob"]}), ALICE)
                with pytest.raises(PeerProtocolError, match="UNKNOWN_VERSION"):
                    await directory.attach(parse_hello({**offer, "v": [9]}), ALICE)
                ahead = Cursor("e1", 0, 99)
                with pytest.raises(PeerProtocolError, match="OUT_OF_RANGE"):
                    await directory.attach(a_hello(f"c{number}", cursor=ahead), ALICE)
            assert directory.statistics().links == 0
            good = parse_hello({"v": [1], "client": "c", "session": "s", "topics": ["topic:ok"]})
            attachment = await directory.attach(good, ALICE)
            assert (await attachment.frames())[0].header["welcome"]["resume"] == "new"
            assert directory.topics.listeners("t", "topic:ok") == ["s"]

    run(main())


def test_a_client_id_cannot_be_taken_over_by_somebody_else() -> None:
    """Another subject with the id of a live client is refused PERMISSION_DENIED, and that link goes on."""

    async def main() -> None:
        async with a_directory(Disk()) as (directory, _):
            mine = await directory.attach(a_hello("c"), ALICE)
            with pytest.raises(AccessError) as caught:
                await directory.attach(a_hello("c"), BOB)
            assert caught.value.code == "PERMISSION_DENIED"
            assert mine.live
            await directory.attach(a_hello("d"), BOB)
            assert directory.statistics().links == 2

    run(main())


def test_links_of_a_session_are_bounded() -> None:
    """Beyond `max_links` a client gets LANE_FULL with a hint; when a link is closed its place is free."""

    async def main() -> None:
        async with a_directory(Disk(), max_links=2) as (directory, _):
            first = await directory.attach(a_hello("a"), ALICE)
            await directory.attach(a_hello("b"), ALICE)
            with pytest.raises(LaneFull) as caught:
                await directory.attach(a_hello("c"), ALICE)
            assert (caught.value.code, caught.value.retry_after_ms) == ("LANE_FULL", 5000)
            await first.close()
            await directory.attach(a_hello("c"), ALICE)

    run(main())


def test_a_client_sees_its_own_tenant_only() -> None:
    """The same session name in another tenant is another session."""

    async def main() -> None:
        async with a_directory(Disk()) as (directory, _):
            other = await directory.attach(a_hello(), Principal("eve", "u"))
            await directory.emit(text(1, "secret"))
            assert await _heard(other) == []
            assert directory.messages("u", "s") == []

    run(main())


def test_a_stale_home_gives_way_instead_of_blaming_the_client() -> None:
    """A cursor ahead of this home is true if another process went on since: the session is opened afresh."""

    async def main() -> None:
        disk = Disk()
        async with a_directory(disk) as (stale, _), a_directory(disk) as (newer, _):
            old_home = await stale.open("t", "s")
            home = await newer.open("t", "s")
            for counter in range(3):
                await newer.emit(text(counter + 1, run=f"r{counter}"))
            await newer.flush()
            attachment = await stale.attach(a_hello(cursor=Cursor(home.epoch, 0, home.outbound.rings[1].head)), ALICE)
            assert (await attachment.frames())[0].header["welcome"]["resume"] == "resumed"
            assert stale.find("t", "s") is not old_home

    run(main())


# -- ports ------------------------------------------------------------------------------------


def test_what_handlers_emit_wakes_its_session() -> None:
    """An event for a session that sleeps opens it; one whose log another host has is refused NOT_OWNER."""

    async def main() -> None:
        disk = Disk()
        async with a_directory(disk) as (directory, _), a_directory(disk) as (other, _):
            await directory.emit(text(1))
            await directory.flush()
            assert directory.statistics().issued == 1
            await other.open("t", "s")
            await directory.emit(text(2))  # learns that the log is lost
            await directory.flush()
            assert directory.find("t", "s") is None
            with pytest.raises(Fenced):
                await directory.emit(text(3))
            await directory.attach(a_hello(), ALICE)  # a client wants it here: then it is taken back
            await directory.emit(text(4))

    run(main())


def test_what_is_emitted_together_wakes_its_session_too() -> None:
    """All of it, in order; and it is all one session's."""

    async def main() -> None:
        async with a_directory(Disk()) as (directory, _):
            for words in ("ab", "cd"):  # asleep, then awake
                await directory.emit_all([text(1, word) for word in words])
            await directory.flush()
            home = directory.find("t", "s")
            assert home is not None
            ring = home.outbound.rings[1]
            said = [ring.get(seq) for seq in range(1, ring.head + 1)]
            assert b"".join(env[BODY] for env in said if env is not None) == b"abcd"

    run(main())


def test_a_publication_reaches_who_listens() -> None:
    """Its tenant, its user, and the topics it named; each session once; nobody of another tenant."""

    async def main() -> None:
        async with a_directory(Disk()) as (directory, _):
            links = {
                "a": await directory.attach(a_hello("a", "sa", topics=("topic:x",)), ALICE),
                "b": await directory.attach(a_hello("b", "sb"), BOB),
                "e": await directory.attach(a_hello("e", "se", topics=("topic:x",)), Principal("alice", "u")),
            }
            assert await directory.publish("t", "topic:x", b"1") == 1
            assert await directory.publish("t", "user:bob", b"2") == 1
            assert await directory.publish("t", "tenant", b"3") == 2
            assert await directory.publish("t", "topic:nobody", b"4") == 0
            with pytest.raises(PeerProtocolError, match="BAD_TOPIC"):
                await directory.publish("t", "everybody", b"5")
            heard = {name: [env[BODY] for env in await _heard(link)] for name, link in links.items()}
            assert heard == {"a": [b"1", b"3"], "b": [b"2", b"3"], "e": []}

    run(main())


def test_publications_that_wait_are_bounded_per_tenant() -> None:
    """Beyond 4 MiB waiting for paused sessions a tenant is refused OVERLOADED; others, and later ones, are served."""

    async def main() -> None:
        async with a_directory(Disk(), budget_bytes=1) as (directory, _):
            await directory.attach(a_hello("c", "s"), ALICE)
            await directory.attach(a_hello("e", "s"), Principal("eve", "u"))
            filler = b"x" * 70_000
            assert await directory.publish("t", "tenant", filler) == 1  # uses up the credit of a link that never reads
            waiting = [asyncio.create_task(directory.publish("t", "tenant", b"y" * 1_000_000)) for _ in range(4)]
            await asyncio.sleep(0.1)
            with pytest.raises(Overloaded) as caught:
                await directory.publish("t", "user:alice", b"z" * 300_000)
            assert caught.value.retry_after_ms == 1000
            assert await directory.publish("u", "tenant", b"other") == 1
            assert await asyncio.gather(*waiting) == [0, 0, 0, 0]  # 5 s on, nobody has read
            assert await directory.publish("t", "user:alice", b"z" * 5_000_000) == 0  # one alone may be of any size
            assert directory.statistics().paused == 0

    run(main())


# -- life -------------------------------------------------------------------------------------


async def _answer(env: Envelope, context: Context) -> None:
    await context.emit(Out("TEXT_MESSAGE_START", msgpack.packb({"messageId": "m", "role": "assistant"}), "m"))
    await context.emit(Out("TEXT_MESSAGE_CONTENT", b"an answer", "m"))
    await context.emit(Out("RUN_FINISHED", msgpack.packb({"threadId": "s", "runId": env[5]})))


@pytest.mark.parametrize("store", [Disk, MemoryStore])
def test_sleeping_keeps_everything(store: type[MemoryStore]) -> None:
    """A session that is idle leaves memory; woken, it knows its events, its numbers and what was said."""

    async def main() -> None:
        pools = [PoolSpec("runs", ["USER_MESSAGE"], _answer, run_starting=True)]
        stage = await Stage(store(), pools=pools, idle_s=60.0).start()
        viewer = await stage.attach("c")
        await viewer.send("USER_MESSAGE", 1, body=b"a question", run="r")
        await viewer.read()
        await viewer.ack()
        said = stage.directory.messages("t", "s")
        assert [message["content"] for message in said] == ["a question", "an answer"]
        await viewer.attachment.close()
        await stage.directory.sweep()
        assert stage.directory.find("t", "s") is not None
        issued = stage.directory.statistics().issued
        await asyncio.sleep(61)
        home = stage.directory.find("t", "s")
        assert home is not None
        await stage.directory.sweep()
        assert stage.directory.find("t", "s") is None
        assert [len(ring) for ring in home.outbound.rings] == [0, 0], "at once, whoever still has the home"
        assert home.messages() == []
        assert stage.directory.messages("t", "s") == []
        assert stage.directory.statistics().issued == issued
        assert stage.directory.topics.listeners("t", "tenant") == []
        again = await stage.attach("c", inbox=viewer.inbox)
        await again.send("USER_MESSAGE", 1, body=b"a question", run="r")
        await again.read()
        assert again.welcome["resume"] == "resumed"
        assert again.items == []
        assert again.told("ok") == [[[1, 1, "duplicate"]]]
        assert stage.directory.messages("t", "s") == said
        await stage.close()

    run(main())


def test_who_comes_while_a_session_goes_to_sleep_waits_for_its_end() -> None:
    """The log is written to its end before the next home claims it, so nothing is lost in between."""

    async def main() -> None:
        disk = Disk()
        async with a_directory(disk, idle_s=1.0) as (directory, _):
            await directory.emit(text(1, "kept"))
            await directory.emit(text(2, " too"))
            await asyncio.sleep(2)
            disk.append_s = 1.0
            await directory.emit(text(3, "!"))
            home = directory.find("t", "s")
            assert home is not None
            asleep = asyncio.create_task(directory._sleep(home))
            await asyncio.sleep(0)
            assert directory.find("t", "s") is None
            again = await directory.open("t", "s")
            assert asleep.done()
            assert again.outbound.rings[1].head == 3

    run(main())


def test_shutting_down_refuses_new_links_and_ends_the_old() -> None:
    """Drain says where things are going; close writes everything, ends every link with DRAINING, and is idempotent."""

    async def main() -> None:
        async with a_directory(Disk()) as (directory, _):
            attachment = await directory.attach(a_hello(), ALICE)
            await attachment.frames()
            directory.drain(250)
            with pytest.raises(Draining):
                await directory.attach(a_hello("late"), ALICE)
            notice = (await attachment.frames())[0].header["notice"]
            assert (notice["code"], notice["retry_after_ms"]) == ("DRAINING", 250)
            await directory.close()
            assert (await attachment.frames())[-1].header["notice"]["code"] == "DRAINING"
            with pytest.raises(Draining):
                await attachment.frames()
            await directory.close()
            assert directory.homes() == []

    run(main())


# -- after a crash ----------------------------------------------------------------------------


async def _leave_behind(disk: Disk, *names: str) -> None:
    """A process that accepted an event in each session and died."""
    async with a_directory(disk) as (directory, _):
        for name in names:
            (await directory.open("t", name)).ingest(Caller(name), [an_event(1)])
        await directory.flush()


def test_recovery_takes_up_what_was_left() -> None:
    """Sessions with unfinished work are awake afterwards and their events dispatched; the others sleep."""

    async def main() -> None:
        disk = Disk()
        await _leave_behind(disk, "a", "b")
        async with a_directory(disk) as (directory, desk):
            await directory.emit(text(1))
            await directory.flush()
        told: list[tuple[int, int]] = []
        async with a_directory(disk) as (directory, desk):
            assert await directory.recover(lambda done, total: told.append((done, total))) == 2
            assert sorted(env[SESSION] for env, _ in desk.queued.values()) == ["a", "b"]
            assert [home.name for home in directory.homes()] == ["a", "b"]
            assert told == [(1, 3), (2, 3), (3, 3)]

    run(main())


def test_recovery_of_more_than_may_be_awake_leaves_the_rest_for_later() -> None:
    """Beyond `max_sessions` unfinished sessions stay as they are, and are taken up when somebody comes to them."""

    async def main() -> None:
        disk = Disk()
        await _leave_behind(disk, "a", "b", "c")
        async with a_directory(disk, max_sessions=2) as (directory, desk):
            assert await directory.recover() == 3
            assert sorted(env[SESSION] for env, _ in desk.queued.values()) == ["a", "b"]
        async with a_directory(disk, max_sessions=2) as (directory, desk):
            await directory.open("t", "c")
            assert [env[SESSION] for env, _ in desk.queued.values()] == ["c"]

    run(main())


@pytest.mark.parametrize("stream", [INBOUND, 1])
def test_one_session_that_cannot_be_read_does_not_stop_the_rest(stream: int) -> None:
    """A damaged log is set aside by name: other sessions are recovered, its clients get STORE_FAILED, not blame."""

    async def main() -> None:
        disk = Disk()
        await _leave_behind(disk, "a", "b", "c")
        claim = await disk.claim("t/session/b")
        seq, position = claim.heads.get(stream, (0, 0))
        blob = b"A\xc1 not msgpack" if stream == INBOUND else b"\xc1 not msgpack"
        await disk.append(claim, [Entry(stream, seq + 1, position + len(blob), blob)])
        async with a_directory(disk) as (directory, desk):
            assert await directory.recover() == 2
            assert sorted(env[SESSION] for env, _ in desk.queued.values()) == ["a", "c"]
            assert list(directory.unreadable) == [("t", "b")]
            with pytest.raises(StoreError) as caught:
                await directory.attach(a_hello("b", "b"), ALICE)
            assert (caught.value.code, caught.value.reason) == ("STORE_FAILED", "UNREADABLE")
            assert (await directory.attach(a_hello("a", "a"), ALICE)).live

    run(main())


def test_a_store_that_is_away_fails_the_recovery() -> None:
    """That nothing can be read is not a damaged session: the caller is told, and may try again."""

    async def main() -> None:
        disk = Disk()
        await _leave_behind(disk, "a")
        async with a_directory(disk) as (directory, _):
            disk.down = True
            with pytest.raises(StoreError):
                await directory.recover()
            disk.down = False
            assert directory.unreadable == {}
            assert await directory.recover() == 1

    run(main())


class _NoLetters(Disk):
    """A disk that cannot take dead letters at first."""

    letters_fail = True

    async def bury(self, letter: DeadLetter) -> int:
        if self.letters_fail:
            raise StoreError("no letters today")
        return await super().bury(letter)


def test_poison_is_buried_and_only_then_over() -> None:
    """After three starts an event becomes a dead letter that can be read; until that is stored it stays pending."""

    async def main() -> None:
        disk = _NoLetters()
        await _leave_behind(disk, "a")
        for _ in range(3):
            async with a_directory(disk) as (directory, desk):
                await directory.recover()
                await DeliveryJournal(directory.find).starting([env for env, _ in desk.queued.values()])
        async with a_directory(disk) as (directory, desk):
            assert await directory.recover() == 1
            assert desk.queued == {}
            disk.letters_fail = False
            await directory.sweep()
            assert directory.statistics().pending == 0
        (letter,) = await disk.dead("t")
        assert (letter.session, letter.code, letter.attempts) == ("a", "POISON", 3)
        assert LogPacking(kind_table()).unpack(letter.packed, 0.0)[KIND] == "WORK"
        async with a_directory(disk) as (directory, _):
            assert await directory.recover() == 0

    run(main())
