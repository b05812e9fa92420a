"""Sessions of a cluster: three fronts in one loop, one store, and what becomes of links when fronts come and go."""

from __future__ import annotations

import asyncio
from typing import Any

import msgpack
import pytest

from laneway.actors.homes.deeds import Deeds, Life
from laneway.actors.hosts.peers import (
    ATTACH,
    ATTACHED,
    ENDED,
    HAND,
    HANDED,
    INGEST,
    LEAVE,
    LINK_IN,
    LINK_OUT,
    NEXT,
    TOLD,
    TOOK,
)
from laneway.actors.pools.pool import PoolSpec
from laneway.actors.ports import Context, Out
from laneway.actors.sessions.intake import INBOUND
from laneway.engine.app.embedded import EmbeddedSession
from laneway.routing.envelope import BODY, COUNTER, KIND, RUN, SESSION, Envelope
from laneway.routing.errors import (
    DeadlineExceeded,
    Draining,
    Fenced,
    HostLost,
    LinkLost,
    Overloaded,
    PeerProtocolError,
    RuntimeUnavailable,
    StoreError,
    Superseded,
    UnknownSession,
)
from laneway.routing.placement import rendezvous
from tests.actors.fronts.towns import ALICE, Town, Villager
from tests.actors.sessions.stage import Caller, Disk, a_hello, an_event, text
from tests.simulation.loop import VirtualClock, run

NAMES = ("a", "b", "c")


def a_name(*chain: str, skip: int = 0) -> str:
    """A session that rendezvous gives to chain[0] of a, b, c, and to chain[1] without that one."""

    def fits(name: str) -> bool:
        left = list(NAMES)
        for front in chain:
            if rendezvous(f"t/session/{name}", left) != front:
                return False
            left.remove(front)
        return True

    return [name for n in range(3000) if fits(name := f"s{n}")][skip]


async def a_town(store: Any = None, names: tuple[str, ...] = NAMES, **fields: Any) -> Town:
    """Fronts that know each other and serve."""
    town = Town()
    disk = store or Disk()
    fields.setdefault("pools", [WORK])
    town.join(*(Villager(name, disk, **fields) for name in names))
    return await town.start()


def said(session: str, counter: int, words: str, run_id: str = "r") -> Envelope:
    """A text delta of a session."""
    env = list(text(counter, words, run=run_id))
    env[SESSION] = session
    return tuple(env)  # type: ignore[return-value]


async def say(front: Villager, session: str, *words: str) -> None:
    """Let the session's home say something."""
    for counter, word in enumerate(words, 1):
        await front.directory.emit(said(session, counter, word))
    await front.directory.flush()


async def _answer(env: Envelope, context: Context) -> None:
    await context.emit(Out("TEXT_MESSAGE_CONTENT", b"re: " + env[BODY], "m"))
    await context.emit(Out("RUN_FINISHED", msgpack.packb({"threadId": env[SESSION], "runId": env[RUN]})))


async def _for_ever(env: Envelope, context: Context) -> None:
    await asyncio.Event().wait()


async def _work(env: Envelope, context: Context) -> None: ...


WORK = PoolSpec("work", ["WORK"], _work)
RUNS = PoolSpec("runs", ["USER_MESSAGE"], _answer, run_starting=True)


# -- links ----------------------------------------------------------------------------------------


def test_a_client_of_one_front_has_its_session_on_another() -> None:
    """Welcome, answers, a run's events, acks and grants pass both ways, and the other front has the home."""

    async def main() -> None:
        town = await a_town(pools=[RUNS])
        name = a_name("b")
        reader = await town.members["a"].attach("c", name)
        await reader.read()
        assert reader.welcome["resume"] == "new"
        assert town.homes_of(name) == ["b"]
        await reader.send("USER_MESSAGE", 1, body=b"hello", run="r1")
        await reader.read()
        assert reader.told("ok") == [[[1, 1, "durable"]]]
        assert (reader.text, reader.kinds[-1]) == ("re: hello", "RUN_FINISHED")
        home = town.members["b"].directory.find("t", name)
        assert home is not None
        assert home.links.get("c").link.acked[:3] == reader.inbox.cursor[:3]
        assert (len(town.members["a"].neighbours.relay), len(town.members["b"].neighbours.reception)) == (1, 1)
        await reader.leave()
        await asyncio.sleep(0.1)
        assert (
            len(town.members["a"].neighbours.relay),
            len(town.members["b"].neighbours.reception),
            len(home.links),
        ) == (0, 0, 0)
        await town.close()

    run(main())


def test_what_is_at_home_here_is_not_relayed() -> None:
    """The link is the home's own, and nothing passes between the fronts for it."""

    async def main() -> None:
        town = await a_town()
        name = a_name("a")
        reader = await town.members["a"].attach("c", name)
        sent = len(town.between("a", "b")[0].sent)
        assert reader.link is town.members["a"].directory.find("t", name).links.get("c")
        await town.members["a"].fronts.ingest(name, Caller(), [an_event(1)])
        await reader.read()
        assert len(town.between("a", "b")[0].sent) == sent
        await reader.leave()
        await town.close()

    run(main())


def test_two_clients_on_two_fronts_see_the_same_order() -> None:
    """Each gets every seq once and in order, whatever is said meanwhile by whom."""

    async def main() -> None:
        town = await a_town(pools=[RUNS])
        name = a_name("c")
        readers = [await town.members[front].attach(front, name) for front in NAMES]
        for counter in range(1, 8):
            await asyncio.gather(
                *(each.send("USER_MESSAGE", counter, body=b"x%d" % counter, run=f"{each.client}{counter}")
                  for each in readers)
            )  # fmt: skip
        for each in readers:
            await each.read()
        orders = [[(item.stream, item.first, item.envelope[RUN], item.envelope[KIND]) for item in each.items]
                  for each in readers]  # fmt: skip
        assert orders[0] == orders[1] == orders[2]
        assert sum(kind == "RUN_FINISHED" for kind in readers[0].kinds) == 21
        for each in readers:
            await each.leave()
        await town.close()

    run(main())


def test_a_newer_link_by_another_front_supersedes_the_older() -> None:
    """The same client id attaches elsewhere and resumes: the newest wins, and the older is told SUPERSEDED."""

    async def main() -> None:
        town = await a_town()
        name = a_name("b")
        first = await (await town.members["a"].attach("c", name)).read()
        await say(town.members["b"], name, "one ", "two ")
        await first.read()
        second = await (await town.members["c"].attach("c", name, first.inbox)).read()
        await first.read()
        assert isinstance(first.error, Superseded)
        assert first.told("notice")[-1]["code"] == "SUPERSEDED"
        assert second.welcome["resume"] == "resumed"
        await say(town.members["b"], name, "three")
        await second.read()
        assert (first.text, second.text) == ("one two ", "three")
        third = await (await town.members["b"].attach("c", name, second.inbox)).read()  # now at home
        await second.read()
        assert isinstance(second.error, Superseded)
        for each in (first, second, third):
            await each.leave()
        await town.close()

    run(main())


def test_what_a_home_refuses_is_refused_at_the_edge() -> None:
    """A cursor out of range, a foreign client id, a version unknown: with the home's own code, and no link is left."""

    async def main() -> None:
        town = await a_town()
        name = a_name("b")
        reader = await (await town.members["a"].attach("c", name)).read()
        ahead = reader.inbox.cursor._replace(data=99)
        with pytest.raises(PeerProtocolError) as caught:
            await town.members["c"].attach("d", name, type("I", (), {"cursor": ahead})())
        assert caught.value.reason == "OUT_OF_RANGE"
        assert [len(front.neighbours.relay) for front in town.members.values()] == [1, 0, 0]
        await reader.link.receive({"ack": ["wrong", 0, 0]}, ())
        await reader.read()
        assert reader.error.reason == "EPOCH_MISMATCH"  # type: ignore[union-attr]
        assert reader.told("notice")[-1]["fatal"] is True
        await reader.leave()
        await town.close()

    run(main())


def test_a_client_that_does_not_read_costs_its_home_nothing() -> None:
    """Two batches are under way, the rest stays in the session's rings; producers pause as for a local link."""

    async def main() -> None:
        town = await a_town(budget_bytes=65_536)
        name = a_name("b")
        reader = await (await town.members["a"].attach("c", name)).read()
        end = town.between("b", "a")[0]
        before = len([message for message in end.sent if message[0] == 14])
        words = ["x" * 1000] * 300
        talking = asyncio.create_task(say(town.members["b"], name, *words))
        await asyncio.sleep(1)
        assert not talking.done()
        assert len([message for message in end.sent if message[0] == 14]) - before <= 2
        home = town.members["b"].directory.find("t", name)
        assert home.outbound.paused == 1
        while not talking.done():
            await reader.read(0.01)
        await talking
        await reader.read()
        assert len(reader.text) == 300_000
        await reader.leave()
        await town.close()

    run(main())


def test_many_links_share_a_window_between_fronts() -> None:
    """A storm of resumes waits for room; no more than the window is under way, and everybody gets everything."""

    async def main() -> None:
        town = await a_town(window_bytes=100_000, ring_bytes=1_000_000)
        names = [a_name("b", skip=skip) for skip in range(12)]
        for name in names:
            await town.members["b"].directory.open("t", name)
            await say(town.members["b"], name, "y" * 40_000)
        mine = town.between("b", "a")[0]
        mine.hold()
        opening = asyncio.gather(*(town.members["a"].attach("c", name, run="r") for name in names))
        await asyncio.sleep(0.5)
        mine.let_go()
        readers = await opening
        for reader in readers:
            await reader.read(0.05)
        flow = town.members["b"].neighbours.relay._flow
        assert flow.waiting() == 0
        assert all(reader.welcome["resume"] == "new" for reader in readers)
        for reader in readers:
            await reader.leave()
        await town.close()

    run(main())


# -- loss -----------------------------------------------------------------------------------------


def test_losing_the_home_ends_links_so_that_clients_resume_elsewhere() -> None:
    """The gap is complete from the shared log, on whatever front the client comes back."""

    async def main() -> None:
        town = await a_town()
        name = a_name("b", "c")
        reader = await (await town.members["a"].attach("c", name)).read()
        await say(town.members["b"], name, "one ", "two ")
        await reader.read()
        town.between("b", "a")[0].hold()  # what is said now is not seen by the client
        await say(town.members["b"], name, "three ")
        await town.kill("b")
        await reader.read()
        assert isinstance(reader.error, HostLost)
        assert reader.error.retryable
        again = await (await town.members["a"].attach("c", name, reader.inbox)).read()
        assert again.welcome["resume"] == "resumed"
        assert town.homes_of(name) == ["c"]
        await say(town.members["c"], name, "four")
        await again.read()
        assert reader.text + again.text == "one two three four"
        await again.leave()
        await town.close()

    run(main())


def test_a_client_may_come_back_before_the_loss_is_known() -> None:
    """It waits at the door until the membership has decided, and is then served."""

    async def main() -> None:
        town = await a_town()
        name = a_name("b", "c")
        reader = await (await town.members["a"].attach("c", name)).read()
        await say(town.members["b"], name, "one ")
        await reader.read()
        await town.members["b"].die()
        town.cut_off("b")
        coming = asyncio.create_task(town.members["a"].attach("c", name, reader.inbox))
        await asyncio.sleep(2.5)
        assert not coming.done()
        town.lose("b")
        again = await (await coming).read()
        assert again.welcome["resume"] == "resumed"
        assert town.homes_of(name) == ["c"]
        await again.leave()
        await town.close()

    run(main())


def test_a_door_does_not_stay_closed_for_ever() -> None:
    """A home that is a member and cannot be reached is given up looking for after 8 s, retryably."""

    async def main() -> None:
        town = await a_town()
        name = a_name("b")
        await (await town.members["a"].attach("c", name)).leave()
        town.cut_off("b")
        began = asyncio.get_running_loop().time()
        with pytest.raises(RuntimeUnavailable) as caught:
            await town.members["a"].attach("c", name)
        assert caught.value.retryable
        assert 7 < asyncio.get_running_loop().time() - began < 9
        await town.close()

    run(main())


def test_losing_the_client_s_front_is_a_disconnect_and_no_cancel() -> None:
    """Its runs go on at home, and the client resumes by another front."""

    async def main() -> None:
        going = asyncio.Event()

        async def slow(env: Envelope, context: Context) -> None:
            await context.emit(Out("TEXT_MESSAGE_CONTENT", b"begun ", "m"))
            await going.wait()
            await context.emit(Out("TEXT_MESSAGE_CONTENT", b"done", "m"))
            await context.emit(Out("RUN_FINISHED", msgpack.packb({"threadId": "s", "runId": "r"})))

        town = await a_town(pools=[PoolSpec("runs", ["USER_MESSAGE"], slow, run_starting=True)])
        name = a_name("b")
        reader = await (await town.members["a"].attach("c", name)).read()
        await reader.send("USER_MESSAGE", 1, body=b"go", run="r")
        await reader.read()
        dead = await town.kill("a")
        await reader.read()
        home = town.members["b"].directory.find("t", name)
        assert len(home.links) == 0
        assert home.ingress.pending == 1
        again = await (await town.members["c"].attach("c", name, reader.inbox)).read()
        going.set()
        await again.read()
        assert (reader.text + again.text, again.kinds[-1]) == ("begun done", "RUN_FINISHED")
        await again.leave()
        await town.close()
        del dead

    run(main())


def test_a_run_of_a_lost_home_ends_with_host_lost() -> None:
    """Nobody has to come for it: the front that is responsible now takes the session up and says so."""

    async def main() -> None:
        async def endless(env: Envelope, context: Context) -> None:
            await context.emit(Out("TEXT_MESSAGE_CONTENT", b"begun ", "m"))
            await asyncio.Event().wait()

        pools = [PoolSpec("runs", ["USER_MESSAGE"], endless, run_starting=True)]
        town = await a_town(pools=pools)
        name = a_name("b", "c")
        reader = await (await town.members["a"].attach("c", name)).read()
        await reader.send("USER_MESSAGE", 1, body=b"go", run="r")
        await reader.read()
        await town.kill("b")
        await reader.read()
        await asyncio.sleep(1)
        assert len(await town.members["c"].store.read(f"t/session/{name}", 0, 1)) == 1  # told, and asleep again
        again = await (await town.members["a"].attach("c", name, reader.inbox)).read()
        assert again.kinds == ["RUN_ERROR"]
        assert msgpack.unpackb(again.items[0].envelope[BODY])["code"] == "HOST_LOST"
        assert town.members["c"].directory.find("t", name).ingress.pending == 0
        await again.leave()
        await town.close()

    run(main())


def test_only_who_is_responsible_takes_up_what_a_lost_front_left() -> None:
    """Each session with work is taken up once, what was done is not, and live homes are left alone."""

    async def main() -> None:
        waiting = asyncio.Event()

        async def work(env: Envelope, context: Context) -> None:
            await waiting.wait()

        disk = Disk()
        town = await a_town(disk, pools=[PoolSpec("work", ["WORK"], work)], idle_s=0.5)
        names = [a_name("b", heir, skip=skip) for heir in ("a", "c") for skip in range(5)]
        for name in names:
            await town.members["a"].fronts.ingest(name, Caller(), [an_event(1)])
        await asyncio.sleep(0.1)
        done = a_name("b", "a", skip=9)
        await town.members["b"].directory.open("t", done)
        live = a_name("a")
        reader = await (await town.members["a"].attach("c", live)).read()
        await town.kill("b")
        await asyncio.sleep(1)
        assert {name: town.homes_of(name) for name in names} == {
            name: ["a" if index < 5 else "c"] for index, name in enumerate(names)
        }
        assert town.homes_of(done) == []
        assert town.homes_of(live) == ["a"]
        assert (await disk.claim(f"t/session/{live}")).generation == 2  # this claim's
        waiting.set()
        await asyncio.sleep(0.1)
        assert sum(front.directory.statistics().pending for front in town.members.values()) == 0
        await reader.leave()
        await town.close()

    run(main())


def test_what_a_lost_front_left_is_taken_up_once_the_store_is_back() -> None:
    """A store that is away at that moment is asked again."""

    async def main() -> None:
        disk = Disk()
        town = await a_town(disk, pools=[PoolSpec("work", ["WORK"], _for_ever)])
        name = a_name("b", "c")
        await town.members["a"].fronts.ingest(name, Caller(), [an_event(1)])
        disk.down = True
        await town.kill("b")
        await asyncio.sleep(3)
        assert town.homes_of(name) == []
        disk.down = False
        await asyncio.sleep(3)
        assert town.homes_of(name) == ["c"]
        await town.close()

    run(main())


def test_what_a_lost_front_left_is_taken_up_after_a_failure_nobody_foresaw(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else would take it up before a client comes; why it failed is in the log."""

    async def main() -> None:
        town = await a_town(pools=[PoolSpec("work", ["WORK"], _for_ever)])
        name, directory = a_name("b", "c"), town.members["c"].directory
        await town.members["a"].fronts.ingest(name, Caller(), [an_event(1)])
        recover, calls = directory.recover, 0

        async def fails_once(*arguments: Any, **options: Any) -> int:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ValueError("a mistake")
            return await recover(*arguments, **options)

        monkeypatch.setattr(directory, "recover", fails_once)
        await town.kill("b")
        await asyncio.sleep(3)
        assert town.homes_of(name) == ["c"]
        await town.close()

    run(main())
    assert "a mistake" in caplog.text


def test_a_start_takes_up_only_what_is_this_front_s() -> None:
    """What others have live stays theirs; what nobody has goes to whom rendezvous says."""

    async def main() -> None:
        disk = Disk()
        before = await a_town(disk, ("a",), pools=[PoolSpec("work", ["WORK"], _for_ever)])
        names = [f"s{n}" for n in range(30)]
        for name in names:
            await before.members["a"].fronts.ingest(name, Caller(), [an_event(1)])
        await before.members["a"].directory.flush()
        await before.kill("a")
        town = await a_town(disk, pools=[PoolSpec("work", ["WORK"], _for_ever)])
        taken = [await front.directory.recover() for front in town.members.values()]
        assert sum(taken) == 30
        assert all(taken)
        for name in names:
            assert town.homes_of(name) == [rendezvous(f"t/session/{name}", NAMES)]
        late = Villager("d", disk)
        town.join(late)
        assert await late.directory.recover() == 0
        assert all(town.homes_of(name) != ["d"] for name in names)
        await town.close()

    run(main())


# -- zombies ----------------------------------------------------------------------------------------


def test_a_zombie_writes_nothing() -> None:
    """A home that was taken for dead and goes on: links end NOT_OWNER, nothing more is written or answered."""

    async def main() -> None:
        disk = Disk()
        town = await a_town(disk, pools=[RUNS])
        name = a_name("b", "c")
        local = await (await town.members["b"].attach("l", name)).read()
        away = await (await town.members["a"].attach("c", name)).read()
        await say(town.members["b"], name, "one ")
        await local.read()
        zombie = town.lose("b")
        await away.read()
        again = await (await town.members["a"].attach("c", name, away.inbox)).read()
        assert town.homes_of(name) == ["c"]
        heads = await _heads(disk, name)
        await say(zombie, name, "lie ")  # taken in, and never written
        with pytest.raises(Fenced):
            await zombie.directory.emit(said(name, 9, "more"))
        zombie.neighbours.drop()
        await local.read()
        assert isinstance(local.error, Fenced)
        assert local.error.retryable
        with pytest.raises(Fenced):
            await zombie.fronts.attach(a_hello("x", name), ALICE)
        with pytest.raises(Fenced):
            await zombie.fronts.ingest(name, Caller(), [an_event(1)])
        assert await _heads(disk, name) == heads
        await say(town.members["c"], name, "two")
        await again.read()
        assert away.text + again.text == "one two"
        assert local.text == "one "
        await again.leave()
        await local.leave()
        await town.close(zombie)

    run(main())


def test_a_front_that_was_dropped_gives_everything_up_at_once() -> None:
    """Before it is fenced by anybody: what waits is not written, its runs are cancelled; a new life serves again."""

    async def main() -> None:
        disk = Disk()
        town = await a_town(disk)
        name = a_name("b", "c")
        b = town.members["b"]
        link = await (await b.attach("l", name)).read()
        await say(b, name, "one ")
        await link.read()
        heads = await _heads(disk, name)
        disk.append_s = 1.0
        await b.directory.emit(said(name, 2, "waits "))
        town.lose("b", tell=False)
        b.neighbours.drop()
        assert b.directory.homes() == []
        await link.read()
        assert isinstance(link.error, Fenced)
        await asyncio.sleep(2)
        assert await _heads(disk, name) == heads
        disk.append_s = 0.0
        b.incarnation = "2"
        b.neighbours.begin("2")
        town.join(b)
        again = await (await b.attach("l", name, link.inbox)).read()
        assert again.welcome["resume"] == "resumed"
        assert town.homes_of(name) == ["b"]
        await again.leave()
        await town.close()

    run(main())


def test_what_was_not_done_is_done_in_the_next_life() -> None:
    """Giving a home up stops its handlers; that is no cancel for whoever takes the same events up again."""

    async def main() -> None:
        begun: list[int] = []
        done: list[int] = []

        async def work(env: Envelope, context: Context) -> None:
            begun.append(env[COUNTER])
            if len(begun) == 1:
                await asyncio.Event().wait()
            done.append(env[COUNTER])

        town = await a_town(pools=[PoolSpec("work", ["WORK"], work, concurrency=1)])
        name, b, caller = a_name("b"), town.members["b"], Caller()
        await b.fronts.ingest(name, caller, [an_event(1), an_event(2)])
        await asyncio.sleep(1)
        assert (caller.ok, begun) == ([(1, "durable"), (2, "durable")], [1])
        town.lose("b", tell=False)
        b.neighbours.drop()
        await asyncio.sleep(1)
        b.incarnation = "2"
        b.neighbours.begin("2")
        town.join(b)
        link = await (await b.attach("l", name)).read()
        await asyncio.sleep(1)
        assert done == [1, 2]
        await link.leave()
        await town.close()

    run(main())


async def _heads(disk: Disk, name: str) -> list[int]:
    return [len(await disk.read(f"t/session/{name}", stream, 1)) for stream in (0, 1, INBOUND)]


# -- joining and leaving ------------------------------------------------------------------------------


def test_nothing_moves_when_a_front_joins() -> None:
    """Live sessions stay until they sleep, and are reached there from the newcomer; then rendezvous decides."""

    async def main() -> None:
        town = await a_town(names=("a", "b"), idle_s=1.0)
        name = next(
            name for n in range(3000)
            if rendezvous(f"t/session/{(name := f's{n}')}", ("a", "b")) == "a"
            and rendezvous(f"t/session/{name}", NAMES) == "c"
        )  # fmt: skip
        reader = await (await town.members["a"].attach("c", name)).read()
        town.join(Villager("c", town.members["a"].store, idle_s=1.0))
        await town.start()
        late = await (await town.members["c"].attach("d", name)).read()
        await say(town.members["a"], name, "still here")
        assert (await reader.read()).text == (await late.read()).text == "still here"
        assert reader.error is None
        assert town.homes_of(name) == ["a"]
        await reader.leave()
        await late.leave()
        await asyncio.sleep(2)
        for front in town.members.values():
            await front.directory.sweep()
        assert town.homes_of(name) == []
        again = await (await town.members["a"].attach("c", name, reader.inbox)).read()
        assert again.welcome["resume"] == "resumed"
        assert town.homes_of(name) == ["c"]
        await again.leave()
        await town.close()

    run(main())


def test_a_front_that_shuts_down_hands_its_sessions_on() -> None:
    """Clients are told DRAINING; what is awake is served to its end, also by other fronts; then it moves."""

    async def main() -> None:
        town = await a_town()
        name = a_name("b", "c")
        b = town.members["b"]
        reader = await (await town.members["a"].attach("c", name)).read()
        await say(b, name, "one ")
        b.directory.drain(100)
        await reader.read()
        assert reader.told("notice")[-1]["code"] == "DRAINING"
        again = await (await town.members["c"].attach("c", name, reader.inbox)).read()  # while it is awake
        assert again.welcome["resume"] == "resumed"
        assert town.homes_of(name) == ["b"]
        fresh = await (await town.members["a"].attach("c", a_name("b", "a"))).read()
        assert town.homes_of(a_name("b", "a")) == ["a"]
        with pytest.raises(Draining):
            await b.attach("x", a_name("b", "a"))
        await b.directory.close()
        await again.read()
        assert isinstance(again.error, Draining)
        assert (await Deeds(b.store).read(f"t/session/{name}"))[1] is None
        third = await (await town.members["a"].attach("c", name, again.inbox)).read()
        assert third.welcome["resume"] == "resumed"
        assert town.homes_of(name) == ["c"]
        for each in (fresh, third):
            await each.leave()
        await town.close()

    run(main())


# -- beside links ---------------------------------------------------------------------------------


def test_events_beside_a_link_are_answered_from_their_home() -> None:
    """OKs and refusals come back to the speaker; the order of one speaker is kept, also while the home opens."""

    async def main() -> None:
        disk = Disk()
        disk.claim_s = 0.2
        town = await a_town(disk)
        name = a_name("b")
        caller = Caller("c")
        batches = [[an_event(counter)] for counter in range(1, 6)] + [[an_event(6, kind="RUN_STARTED"), an_event(7)]]
        await asyncio.gather(*(town.members["a"].fronts.ingest(name, caller, batch) for batch in batches))
        assert caller.ok == [(counter, "durable") for counter in (1, 2, 3, 4, 5, 7)]
        assert caller.refused == [(6, "PERMISSION_DENIED", "")]
        assert town.homes_of(name) == ["b"]
        await town.close()

    run(main())


def test_events_are_sent_again_if_their_home_is_lost() -> None:
    """Those without an answer, to the next home; what was written is known there as a duplicate."""

    async def main() -> None:
        town = await a_town()
        name = a_name("b", "c")
        caller = Caller("c")
        await town.members["a"].fronts.ingest(name, caller, [an_event(1)])
        town.between("b", "a")[0].hold()  # its answers do not arrive
        sending = asyncio.create_task(town.members["a"].fronts.ingest(name, caller, [an_event(2), an_event(3)]))
        await asyncio.sleep(0.5)
        assert not sending.done()
        await town.kill("b")
        await sending
        assert caller.ok == [(1, "durable"), (2, "duplicate"), (3, "duplicate")]
        assert town.homes_of(name) == ["c"]
        await town.close()

    run(main())


def test_a_home_that_cannot_be_opened_says_why() -> None:
    """The store's error is raised at the front that asked, and an answer that never comes ends after 30 s."""

    async def main() -> None:
        disk = Disk()
        town = await a_town(disk)
        name = a_name("b")
        disk.down = True
        with pytest.raises(StoreError):
            await town.members["a"].fronts.ingest(name, Caller(), [an_event(1)])
        with pytest.raises(StoreError):
            await town.members["a"].attach("c", name)
        disk.down = False
        town.between("b", "a")[0].hold()
        began = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await town.members["a"].fronts.ingest(name, Caller(), [an_event(1)])
        assert asyncio.get_running_loop().time() - began == pytest.approx(30, abs=0.1)
        with pytest.raises(DeadlineExceeded):
            await town.members["a"].attach("c", name)
        await town.close()

    run(main())


def test_a_dead_letter_is_dispatched_again_where_its_session_is() -> None:
    """By whatever front is asked; a refusal comes back."""

    async def main() -> None:
        seen: list[str] = []

        async def work(env: Envelope, context: Context) -> None:
            seen.append(env[SESSION])

        town = await a_town(pools=[PoolSpec("work", ["WORK"], work)])
        for front in ("a", "b"):
            env = list(an_event(1))
            env[SESSION] = a_name(front)
            await town.members["a"].fronts.redrive(tuple(env))  # type: ignore[arg-type]
            assert town.homes_of(a_name(front)) == [front]
            with pytest.raises(PeerProtocolError):
                await town.members["a"].fronts.redrive(("c", 2, "NO_SUCH", *env[3:]))  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert seen == [a_name("a"), a_name("b")]
        await town.close()

    run(main())


# -- topics and handing over ------------------------------------------------------------------------


def test_a_publication_reaches_listeners_on_every_front() -> None:
    """Each session once; a front that cannot be asked counts as none; a bad topic is refused before anything."""

    async def main() -> None:
        town = await a_town()
        readers = [
            await (await town.members["a"].attach(front, a_name(front), topics=("topic:news",))).read()
            for front in NAMES
        ]
        assert await town.members["c"].fronts.publish("t", "topic:news", b"1") == 3
        assert await town.members["c"].fronts.publish("t", "topic:other", b"x") == 0
        assert await town.members["c"].fronts.publish("u", "tenant", b"x") == 0
        with pytest.raises(PeerProtocolError):
            await town.members["c"].fronts.publish("t", "nonsense", b"x")
        gone = town.lose("b", tell=False)
        town.members["c"].neighbours.saw(town.view())
        assert await town.members["c"].fronts.publish("t", "tenant", b"2") == 2
        heard = {reader.client: [item.envelope[BODY] for item in (await reader.read()).items] for reader in readers}
        assert heard == {"a": [b"1", b"2"], "b": [b"1"], "c": [b"1", b"2"]}
        for reader in readers:
            await reader.leave()
        await town.close(gone)

    run(main())


def test_a_publication_that_is_too_much_elsewhere_counts_as_none_there() -> None:
    """One front's bound does not fail what the others took."""

    async def main() -> None:
        town = await a_town(names=("a", "b"))
        reader = await (await town.members["a"].attach("c", _of("a"))).read()

        async def full(*arguments: Any) -> int:
            raise Overloaded("too much waits")

        town.members["b"].directory.publish = full  # type: ignore[method-assign]
        assert await town.members["a"].fronts.publish("t", "tenant", b"1") == 1
        with pytest.raises(Overloaded):
            await town.members["b"].fronts.publish("t", "tenant", b"1")
        await reader.leave()
        await town.close()

    run(main())


def _of(front: str) -> str:
    return next(name for n in range(500) if rendezvous(f"t/session/{(name := f's{n}')}", ("a", "b")) == front)


def test_events_are_handed_to_a_session_wherever_it_is() -> None:
    """In order, with the credit of its home; a session that sleeps is not woken; a lost front is told as the end."""

    async def main() -> None:
        town = await a_town()
        here, away = a_name("a"), a_name("b", "c")
        readers = [await (await town.members["c"].attach("c", name)).read() for name in (here, away)]
        for name in (here, away):
            await town.members["a"].fronts.emit_all([said(name, 1, "one "), said(name, 2, "two ")])
            await town.members["a"].fronts.emit(said(name, 3, "three"))
        assert [(await reader.read()).text for reader in readers] == ["one two three"] * 2
        for name in (a_name("a", skip=1), a_name("b", skip=1)):
            with pytest.raises(UnknownSession):
                await town.members["a"].fronts.emit(said(name, 1, "nobody"))
            assert town.homes_of(name) == []
        town.between("b", "a")[0].hold()
        handing = asyncio.create_task(town.members["a"].fronts.emit(said(away, 4, " four")))
        await asyncio.sleep(0.1)
        await town.kill("b")
        with pytest.raises(UnknownSession) as caught:
            await handing
        assert caught.value.reason == "LOST"
        for reader in readers:
            await reader.leave()
        await town.close()

    run(main())


# -- the rest -----------------------------------------------------------------------------------------


def test_which_ends_are_worth_coming_back_from() -> None:
    """Silence, a lost home, a taken one, a front that shuts down (unless it is this one); nothing else."""

    async def main() -> None:
        town = await a_town(names=("a",))
        fronts = town.members["a"].fronts
        for error in (LinkLost("x"), Fenced("x"), HostLost("x"), RuntimeUnavailable("x"), Draining("x")):
            assert fronts.resumable(error)
        assert not fronts.resumable(Superseded("x"))
        town.members["a"].directory.drain(0)
        assert not fronts.resumable(Draining("x"))
        await town.close()

    run(main())


def test_without_a_shared_store_a_session_begins_anew_when_it_has_to_move() -> None:
    """A front that joins gets its share: links end NOT_OWNER, and the epoch at the new home is another one."""

    async def main() -> None:
        town = Town()
        stores = {name: Disk(durable=False) for name in NAMES}
        for number, store in enumerate(stores.values()):
            store._epoch = f"e{number}"
        town.join(*(Villager(name, stores[name], shared=False) for name in ("a", "b")))
        await town.start()
        moves = next(
            name for n in range(3000)
            if rendezvous(f"t/session/{(name := f's{n}')}", ("a", "b")) == "a"
            and rendezvous(f"t/session/{name}", NAMES) == "c"
        )  # fmt: skip
        stays = a_name("a")
        readers = [await (await town.members["b"].attach("c", name)).read() for name in (moves, stays)]
        await say(town.members["a"], moves, "lost")
        town.join(Villager("c", stores["c"], shared=False))
        await town.start()
        await readers[0].read()
        assert isinstance(readers[0].error, Fenced)
        assert readers[1].error is None
        again = await (await town.members["b"].attach("c", moves, readers[0].inbox)).read()
        assert (again.welcome["resume"], again.welcome["reason"]) == ("failed", "EPOCH_MISMATCH")
        assert (town.homes_of(moves), town.homes_of(stays)) == (["c"], ["a"])
        await again.leave()
        await readers[1].leave()
        await town.close()

    run(main())


def test_lost_fronts_are_told_once() -> None:
    """Whoever keeps something about other fronts hears of each life that is over; not of one that is only unheard."""

    async def main() -> None:
        town = await a_town()
        b = town.lose("b", tell=False)
        a, told = town.members["a"], list[set[Life]]()
        a.fronts._on_lost = told.append
        a.neighbours.saw(town.view(settled=False))
        assert told == []
        town.number += 1
        a.neighbours.saw(town.view())
        a.neighbours.saw(town.view())
        assert told == [{Life("b", "1")}]
        await town.close(b)

    run(main())


def test_other_questions_are_refused() -> None:
    """By name."""

    async def main() -> None:
        town = await a_town()
        with pytest.raises(PeerProtocolError):
            await town.members["a"].questions.ask(town.between("a", "b")[0], "fronts", "nonsense", 1, 1.0)
        await town.close()

    run(main())


def test_a_session_inside_one_front_goes_on_when_its_home_on_another_is_lost() -> None:
    """Used as ever: what it sends is answered from there, and what it reads goes on where the reading stopped."""

    async def main() -> None:
        town = await a_town(pools=[RUNS])
        a, name = town.members["a"], a_name("b", "c")
        session = EmbeddedSession(a.fronts, a.kinds, VirtualClock(asyncio.get_running_loop()), name, ALICE)
        async with session:
            async for event in session.ask("one"):
                last = event.kind
            assert last == "RUN_FINISHED"
            assert town.homes_of(name) == ["b"]
            await town.kill("b")
            said = [event.text async for event in session.ask("two")]
            assert "".join(said) == "re: two"
            assert town.homes_of(name) == ["c"]
            reading = asyncio.create_task(anext(session))
            await asyncio.sleep(0.1)
            town.members["c"].directory.drain(0)
            await town.members["c"].directory.close()  # its links are told DRAINING: not this engine's end
            await asyncio.sleep(0.5)
            assert not reading.done()
            assert town.homes_of(name) == ["a"]
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await town.close()

    run(main())


# -- put together ---------------------------------------------------------------------------------


def test_every_verb_between_fronts_has_its_part() -> None:
    """So that no message of another front breaks a connection."""

    async def main() -> None:
        villager = Villager("a", Disk())
        verbs = {ATTACH, ATTACHED, ENDED, HAND, HANDED, INGEST, LEAVE, LINK_IN, LINK_OUT, NEXT, TOLD, TOOK}
        assert verbs <= set(villager.board._handlers)
        await villager.close()

    run(main())


def test_nothing_is_at_home_before_a_life_has_begun() -> None:
    """And nothing after it is over; the next life begins with nothing."""

    async def main() -> None:
        town = Town()
        villager = Villager("a", Disk(), incarnation="")
        with pytest.raises(Fenced):
            await villager.attach()
        villager.incarnation = "1"
        villager.neighbours.begin("1")
        town.join(villager)
        await town.start()
        reader = await (await villager.attach()).read()
        assert town.homes_of("s") == ["a"]
        villager.neighbours.drop()
        await reader.read()
        assert isinstance(reader.error, Fenced)
        assert town.homes_of("s") == []
        with pytest.raises(Fenced):
            await villager.attach()
        villager.neighbours.begin("2")
        again = await (await villager.attach("c", "s", reader.inbox)).read()
        assert again.welcome["resume"] == "resumed"
        await again.leave()
        await town.close()

    run(main())
