"""What a handler of lists says, sent as lists: the same events as one by one, in each session's order."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.pools.batch import BatchTurn
from laneway.actors.pools.context import ContextMaker, LateEmits, Surroundings
from laneway.actors.ports import Out
from laneway.routing.classify import KindTable
from laneway.routing.errors import LocalProtocolError


class Clock:
    """Stands still."""

    def now(self):
        return 5.0


class Sessions:
    """An outlet whose sessions take so many events before they make who emits wait; it refuses an entity "bad"."""

    def __init__(self, credit):
        self.credit, self.taken = credit, {}

    def _take(self, env):
        assert env[6] != "bad"
        self.taken.setdefault((env[3], env[4]), []).append(env)

    async def emit(self, env):
        if env[6] == "bad":
            raise LocalProtocolError("bad")
        await asyncio.sleep(0)
        self._take(env)

    async def emit_all(self, envs):
        for env in envs:
            await self.emit(env)


class Ready(Sessions):
    """As above, and it takes lists."""

    def emit_ready(self, envs):
        assert len({(env[3], env[4]) for env in envs}) == 1
        if any(env[6] == "bad" for env in envs):
            raise LocalProtocolError("bad")
        session = envs[0][4]
        room = min(self.credit.get(session, 0), len(envs))
        self.credit[session] = self.credit.get(session, 0) - room
        for env in envs[:room]:
            self._take(env)
        return room


def _maker(outlet):
    numbers = iter(range(1, 10_000))
    around = Surroundings(outlet, Clock(), KindTable(), lambda: "c")
    return ContextMaker("p", around, None, lambda: next(numbers), LateEmits("p"))


outs = st.builds(
    Out,
    st.sampled_from(["LOG", "LOG", "CUSTOM", "RUN_ERROR", "NEVER_DECLARED"]),
    st.sampled_from([b"", b"x"]),
    st.sampled_from(["", "", "", "m1", "bad"]),
)
results = st.one_of(outs, outs, st.none(), st.sampled_from([b"", b"value"]), st.just("odd"))


@given(
    events=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["", "r1"]), results), min_size=1, max_size=12),
    credit=st.dictionaries(st.sampled_from(["s0", "s1", "s2"]), st.integers(0, 12)),
    traced=st.booleans(),
)
def test_lists_come_to_what_one_by_one_comes_to(rig, events, credit, traced):
    """Each session gets the same events in the same order, and each event is answered the same, whatever has credit."""
    given_ = [result for *_, result in events]
    envs = [
        rig.event(n, session=f"s{session}", run=run, trace="00-a-b-01" if traced and n % 2 else "")
        for n, (session, run, _) in enumerate(events, 1)
    ]

    async def handler(events, contexts):
        return list(given_)

    told = []
    for outlet in (Ready(dict(credit)), Sessions({})):
        answers = rig.Answers()
        asyncio.run(BatchTurn(list(envs), handler, _maker(outlet), answers).run())
        sessions = {key: [(env[0], *env[2:]) for env in taken] for key, taken in outlet.taken.items()}
        numbers = [env[1] for taken in outlet.taken.values() for env in taken]
        assert len(set(numbers)) == len(numbers)
        told.append((sessions, answers.by_counter))
    assert told[0] == told[1]


def test_who_has_no_credit_holds_up_no_other_session(rig):
    """What must wait is told by its place, with all that comes after it in its session."""
    outlet = Ready({"a": 1, "b": 9})
    causes = [rig.event(n, session=session) for n, session in enumerate("abaabb", 1)]
    left = _maker(outlet).emit_each(causes, [Out("LOG")] * 6)
    assert left == [2, 3]
    assert [(env[4], len(taken)) for env, *taken in outlet.taken.values()] == [("a", 0), ("b", 2)]


def test_nothing_of_a_list_with_an_undeclared_kind_is_sent(rig):
    """Then each is emitted alone, so that only the one at fault fails."""
    outlet = Ready({"s": 9})
    left = _maker(outlet).emit_each([rig.event(1), rig.event(2)], [Out("LOG"), Out("NEVER_DECLARED")])
    assert (left, outlet.taken) == ([0, 1], {})
    assert _maker(outlet).emit_each([rig.event(1)], [Out(["no kind"])]) == [0]


def test_an_outlet_that_takes_no_lists_gets_them_one_by_one(rig):
    """All of them are left."""
    assert _maker(Sessions({})).emit_each([rig.event(1), rig.event(2)], [Out("LOG")] * 2) == [0, 1]
