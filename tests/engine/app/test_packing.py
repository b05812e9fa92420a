"""Session logs outlive the kinds they were written with."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgpack
import pytest

from laneway import Context, Engine, EnvelopeView, Kind, Lane
from laneway.engine.app.packing import HostPacking, LoggedKinds, LogPacking
from laneway.engine.codec import unpack_envelope
from laneway.routing.classify import KindTable
from laneway.routing.envelope import envelope
from laneway.routing.errors import PeerProtocolError

WITHIN_S = 60.0


def test_every_name_is_a_kind_in_a_log() -> None:
    """The live table does not learn it, its own rows count, and unknown numbers stay errors."""
    live = KindTable()
    logged = LoggedKinds(live)
    env = envelope("GONE", producer="p", counter=1, tenant="t", session="s", lane=2)
    packed = LogPacking(live).pack(env, 0.0)
    assert LogPacking(live).unpack(packed, 0.0) == env
    with pytest.raises(PeerProtocolError):
        unpack_envelope(packed, 0.0, live)
    assert "GONE" not in live
    live.add(Kind("GONE", Lane.LOW, durable=False))
    assert logged.require("GONE").lane is Lane.LOW
    assert logged.get("USER_MESSAGE") is live.get("USER_MESSAGE")
    with pytest.raises(PeerProtocolError):
        logged.require(60_000)


async def _leave_one(store: Path) -> None:
    """What an engine leaves that is killed while its handler works: the files as they are then."""
    engine = Engine(store=store.with_name("living.db"))
    started = asyncio.Event()

    async def work(event: EnvelopeView, context: Context) -> None:
        started.set()
        await asyncio.Event().wait()

    engine.pool("work", kinds=["WORK"], handler=work)
    await engine.start()
    assert (await engine.session("s1").send_event("WORK", b"left")).status == "durable"
    await started.wait()
    await engine.directory.flush()
    for path in store.parent.glob("living.db*"):
        shutil.copy(path, store.with_name(path.name.replace("living", store.stem)))
    await engine.close(0.0)


def test_what_was_left_goes_to_a_pool_added_right_after_the_start(tmp_path: Path) -> None:
    """The usual order of an embedder's lines is right."""

    async def main() -> None:
        await _leave_one(tmp_path / "engine.db")
        async with asyncio.timeout(WITHIN_S), Engine(store=tmp_path / "engine.db") as engine:
            handled: asyncio.Queue[bytes] = asyncio.Queue()

            @engine.pool("work", kinds=["WORK"])
            async def work(event: EnvelopeView, context: Context) -> None:
                handled.put_nowait(event.body)

            assert await engine.recovered() == 1
            assert await handled.get() == b"left"

    asyncio.run(main())


def test_what_nobody_takes_any_more_is_a_dead_letter(tmp_path: Path) -> None:
    """The engine starts, the session opens, and the event is not lost."""

    async def main() -> None:
        await _leave_one(tmp_path / "engine.db")
        async with asyncio.timeout(WITHIN_S), Engine(store=tmp_path / "engine.db") as engine:
            await engine.recovered()
            async with engine.session("s1"):
                (letter,) = await engine.store.dead()
                assert letter.session == "s1"
                assert LogPacking(engine.kinds).unpack(letter.packed, 0.0)[2] == "WORK"

    asyncio.run(main())


def test_between_hosts_an_event_is_as_it_was() -> None:
    """Parts keep their marks, kinds that only the other host knows their names; ACCEPTED is this host's."""
    packing = HostPacking(KindTable())
    env = envelope(
        "MINE", producer="p", counter=1, tenant="t", session="s", lane=2, after="#3/7", deadline=12.5, body=b"x"
    )
    assert packing.unpack(packing.pack(env, 10.0), 110.0) == (*env[:8], 112.5, *env[9:12], 110.0)
    plain = envelope("USER_MESSAGE", producer="engine/r", counter=2, tenant="t", session="s", lane=0)
    assert packing.unpack(packing.pack(plain, 0.0), 5.0) == (*plain[:12], 5.0)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        msgpack.packb({"a": 1}),
        msgpack.packb(["p", 1, 60_000, "t", "s", "", "", 2, None, "", "", b""]),
        msgpack.packb(["p", 1, "W", "t", "s", "", "", 9, None, "", "", b""]),
        msgpack.packb(["p", 1, "W", "t", "s", "", "", 2, None, "", "", "text"]),
        msgpack.packb(["p", 1, "W", "t", "s", "", "", 2, None, "", "", b""]) + b"more",
    ],
    ids=["empty", "garbage", "short", "map", "unknown number", "lane", "text body", "trailing"],
)
def test_damaged_events_of_other_hosts_are_refused(data: bytes) -> None:
    """Whatever is wrong with them: a typed error and no event."""
    with pytest.raises(PeerProtocolError):
        HostPacking(KindTable()).unpack(data, 0.0)
