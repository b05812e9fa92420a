"""From a number to the links: gathered for the log, released when it is there; and many at once."""

from __future__ import annotations

import asyncio

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.actors.meters import SessionMeters
from laneway.actors.sessions.committer import Committer
from laneway.actors.sessions.outbound import Outbound
from laneway.actors.sessions.spool import DATA, URGENT, Spool
from laneway.engine.stores.memory import MemoryStore
from laneway.routing.envelope import Envelope, envelope
from laneway.routing.shedding import Shedding
from tests.simulation.loop import VirtualClock, run

KINDS = {
    "CUSTOM": 2, "W_RESULT": 1, "PROGRESS": 3, "RUN_ERROR": 0, "TEXT_MESSAGE_START": 1, "TEXT_MESSAGE_CONTENT": 1,
    "RUN_FINISHED": 1, "STEP_STARTED": 2,
}  # fmt: skip


def _event(number: int, kind: str = "CUSTOM", size: int = 5, trace: str = "") -> Envelope:
    body = msgpack.packb({"role": "assistant"}) if kind in ("TEXT_MESSAGE_START", "RUN_ERROR") else b"x" * size
    return envelope(
        kind, producer="engine/r", counter=number, tenant="t", session="s", lane=KINDS[kind], run="r", entity="m",
        body=body, trace=trace,
    )  # fmt: skip


async def _committer(store: MemoryStore) -> Committer:
    clock = VirtualClock(asyncio.get_running_loop())
    return Committer(store, await store.claim("t/session/s"), clock=clock, on_fenced=lambda error: None)


def test_what_is_numbered_together_is_written_once_and_released_together() -> None:
    """Events of one turn of the loop are told, logged and released as one run of each stream, in order."""

    async def main() -> None:
        store, commits, told = MemoryStore(), list[int](), list[list[int]]()
        stirred: list[int] = []
        committer = await _committer(store)
        spool = Spool(
            committer, lambda env: env[11], VirtualClock(asyncio.get_running_loop()), ring_events=100,
            ring_bytes=10_000, on_commit=lambda: commits.append(spool.rings[DATA].committed),
            on_number=lambda envs: told.append([env[1] for env in envs]), meters=SessionMeters(),
            on_stir=lambda: stirred.append(spool.rings[DATA].committed),
        )  # fmt: skip
        spool.add(spool.rings[DATA].numbered([_event(1), _event(2)]))
        spool.number(_event(3), DATA)
        spool.add(spool.rings[DATA].numbered([_event(4)]))
        spool.number(_event(9, "RUN_ERROR"), URGENT)
        assert (spool.waiting_bytes, committer.backlog_bytes, spool.rings[DATA].committed) == (116, 116, 0)
        await committer.flush()
        assert (spool.waiting_bytes, commits, told) == (0, [0, 4], [[9], [1, 2, 3, 4]])
        assert stirred == [0], "once, with the first of them"
        rows = await store.read("t/session/s", DATA, 1)
        assert [(row.seq, row.position) for row in rows] == [(1, 21), (2, 42), (3, 63), (4, 84)]
        assert spool.issued == [1, 4]

    run(main())


EVENTS = st.lists(
    st.tuples(st.sampled_from([*KINDS, *["CUSTOM"] * 8]), st.integers(0, 40), st.sampled_from(["", "", "", "trace"])),
    max_size=20,
)


async def _said(lists: list[list[Envelope]], grants: list[int], level: int, *, together: bool) -> list[object]:
    """Return what two ways of saying the same come to: what was taken of each list, and all that is to be seen."""
    store, granted, seen = MemoryStore(), 0, list[object]()
    committer, shedding = await _committer(store), Shedding()
    shedding.level = level
    outbound = Outbound(
        committer, lambda env: env[11], VirtualClock(asyncio.get_running_loop()), ring_events=30, ring_bytes=600,
        budget_bytes=500, stall_s=60.0, on_commit=lambda: seen.append("commit"), shedding=shedding,
        on_number=lambda envs: seen.append(list(envs)), on_end=seen.append,
    )  # fmt: skip
    outbound.bind_grants(lambda: granted or None)
    for envs, more in zip(lists, grants, strict=True):
        granted += more
        if together:
            taken = outbound.emit_ready(envs)
        else:
            taken = next((place for place, env in enumerate(envs) if not outbound.emit_now(env)), len(envs))
        seen += [taken, committer.backlog_bytes, [ring.read(1, 1000) for ring in outbound.rings]]
        if more % 2:
            await committer.flush()
            outbound.taken(0)
    outbound.flush()
    await committer.flush()
    for stream, ring in enumerate(outbound.rings):
        seen += [ring.head, ring.first, ring.read(ring.first, 1000)]
        seen += await store.read("t/session/s", stream, 1)
    return [*seen, outbound.transcript.messages()]


@settings(max_examples=150)
@given(st.lists(st.tuples(EVENTS, st.integers(0, 400)), max_size=8), st.sampled_from([0, 0, 0, 1, 2]))
def test_a_list_is_taken_as_its_events_one_by_one_would_be(
    rounds: list[tuple[list[tuple[str, int, str]], int]], level: int
) -> None:
    """Numbers, rows, tombstones, held text, what is told and where credit ends: the same, whatever is in the list."""
    lists = [[_event(number, *row) for number, row in enumerate(rows, 1)] for rows, _ in rounds]
    grants = [more for _, more in rounds]
    single = run(_said(lists, grants, level, together=False))
    assert run(_said(lists, grants, level, together=True)) == single
