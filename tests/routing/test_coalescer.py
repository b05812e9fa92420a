import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.coalescer import Coalescer
from laneway.routing.envelope import BODY, ENTITY, KIND, RUN, SEAL, Envelope, envelope
from laneway.routing.errors import LocalProtocolError

TEXT = "TEXT_MESSAGE_CONTENT"


def make(body: str | bytes, *, kind: str = TEXT, run: str = "r", entity: str = "m", counter: int = 1) -> Envelope:
    raw = body.encode() if isinstance(body, str) else body
    return envelope(
        kind, producer="e", counter=counter, tenant="t", session="s", lane=2, run=run, entity=entity, body=raw
    )


def gathers(coalescer: Coalescer, run: str, kind: str, entity: str, body: bytes) -> bool:
    """Add a delta to what waits, if that is all there is to do."""
    add = coalescer.gathering(run, kind, entity)
    return add is not None and add(body)


def folded(events: list[Envelope]) -> dict[str, list[tuple[str, str, bytes]]]:
    """Per run: its events in order, adjacent deltas of one entity joined."""
    runs: dict[str, list[tuple[str, str, bytes]]] = {}
    for env in events:
        seen = runs.setdefault(env[RUN], [])
        row = (env[KIND], env[ENTITY], env[BODY])
        if env[KIND] == TEXT and seen and seen[-1][:2] == row[:2] and env[BODY][:1] != bytes([SEAL]):
            row = (*row[:2], seen.pop()[2] + env[BODY])
        seen.append(row)
    return runs


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["text", "text", "text", "other", "sealed", "poll", "flush"]),
        st.sampled_from(["r1", "r2"]),
        st.sampled_from(["m1", "m2"]),
        st.sampled_from(["", "a", "wö", "日本", "hello"]),
        st.sampled_from([0.0, 0.004, 0.02]),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(STEPS, st.integers(1, 8), st.sampled_from([0.0, 0.015]), st.sampled_from([0.0, 0.01]), st.booleans())
def test_every_run_reads_the_same_and_nothing_waits_too_long(steps, min_chars, hold_s, near_s, crowded):
    """Merged or not: same text, same order within each run; a polled coalescer holds nothing past its time."""
    coalescer = Coalescer(min_chars, hold_s, near_s=min(near_s, hold_s))
    given_in: list[Envelope] = []
    out: list[Envelope] = []
    arrived: dict[int, float] = {}
    now = 0.0
    for counter, (action, run, entity, body, pause) in enumerate(steps, 1):
        now += pause
        out.extend(coalescer.poll(now))
        deadline = coalescer.deadline()
        assert deadline is None or now < deadline <= now + max(hold_s, 0.02)
        if action == "flush":
            out.extend(coalescer.flush())
            assert (coalescer.bytes, coalescer.deadline()) == (0, None)
        elif action != "poll":
            kind = "CUSTOM" if action == "other" else TEXT
            raw = bytes([SEAL, 0x80]) if action == "sealed" else body.encode()
            env = make(raw, kind=kind, run=run, entity=entity, counter=counter)
            given_in.append(env)
            arrived[counter] = now
            if not gathers(coalescer, env[RUN], kind, env[ENTITY], raw):
                out.extend(coalescer.offer(env, now, crowded=crowded))
    position = sum(len(env[BODY]) + 16 for env in out)
    tail = coalescer.flush()
    assert sum(len(env[BODY]) + 16 for env in tail) <= sum(len(e[BODY]) + 16 for e in given_in) - position
    assert folded(out + tail) == folded(given_in)
    assert coalescer.bytes == 0


def test_the_first_token_passes_at_once_and_the_next_ones_gather():
    """No wait in front of the first; then four characters make an event."""
    coalescer = Coalescer()
    first = make("H")
    assert coalescer.offer(first, 0.0) == [first]
    assert coalescer.offer(make("i"), 0.001) == []
    assert coalescer.bytes == 17
    assert coalescer.deadline() == 0.016
    (merged,) = coalescer.offer(make(" all"), 0.002)
    assert merged[BODY] == b"i all"
    assert coalescer.bytes == 0


def test_a_long_delta_needs_no_company():
    """A chunk of the model's own making is not held."""
    coalescer = Coalescer()
    coalescer.offer(make("a"), 0.0)
    long = make("a longer piece")
    assert coalescer.offer(long, 0.0) == [long]


def test_waiting_text_goes_before_any_other_event_of_its_run_only():
    """FIFO per run; another run's events do not push."""
    coalescer = Coalescer()
    coalescer.offer(make("a"), 0.0)
    coalescer.offer(make("b"), 0.0)
    other = make("", kind="STEP_STARTED", run="r2")
    assert coalescer.offer(other, 0.0) == [other]
    end = make("", kind="TEXT_MESSAGE_END")
    assert [env[BODY] for env in coalescer.offer(end, 0.0)] == [b"b", b""]


def test_a_new_entity_passes_at_once_after_what_was_held():
    """A second message's first token waits for nothing but order."""
    coalescer = Coalescer()
    coalescer.offer(make("a"), 0.0)
    coalescer.offer(make("b"), 0.0)
    assert [env[BODY] for env in coalescer.offer(make("c", entity="n"), 0.0)] == [b"b", b"c"]


def test_time_releases_what_company_did_not():
    """After 15 ms even one character goes."""
    coalescer = Coalescer()
    coalescer.offer(make("a"), 0.0)
    coalescer.offer(make("b"), 0.0)
    assert coalescer.poll(0.014) == []
    assert [env[BODY] for env in coalescer.poll(0.015)] == [b"b"]
    assert coalescer.poll(0.015) == []


def test_many_runs_stay_bounded():
    """Forgotten runs only lose their place, not their text."""
    coalescer = Coalescer()
    out = []
    for number in range(3000):
        out.extend(coalescer.offer(make("a", run=str(number)), 0.0))
    out.extend(coalescer.offer(make("b", run="0"), 0.0))
    assert len(out) == 3001


def test_wrong_settings_are_refused():
    """A coalescer that can never release, or releases in the past, is a bug."""
    with pytest.raises(LocalProtocolError):
        Coalescer(0)
    with pytest.raises(LocalProtocolError):
        Coalescer(4, -1.0)
    with pytest.raises(LocalProtocolError):
        Coalescer(near_s=-1.0)


def test_deltas_that_come_close_together_gather_whatever_their_size():
    """Within `near_s` of the one before: held for `near_s` at most, and the next ones only extend what is held."""
    coalescer = Coalescer(near_s=0.01)
    first, second = make("a long first token"), make("a long second token")
    assert coalescer.offer(first, 0.0) == [first]
    assert coalescer.gathering("r", TEXT, "m") is None
    assert coalescer.offer(second, 0.002) == []
    add = coalescer.gathering("r", TEXT, "m")
    assert add is not None
    assert add(b", a third")
    assert (coalescer.bytes, coalescer.deadline()) == (len("a long second token, a third") + 16, 0.012)
    assert [env[BODY] for env in coalescer.poll(0.012)] == [b"a long second token, a third"]
    assert not add(b"x"), "what waited has gone"
    assert coalescer.bytes == 0


def test_a_fast_stream_is_given_time_to_fill_its_items():
    """What has 50 bytes when its time is over waits once more, 20 ms in all; nobody reads so fast."""
    coalescer = Coalescer(near_s=0.01)
    coalescer.offer(make("first"), 0.0)
    coalescer.offer(make("a" * 30), 0.001)
    assert gathers(coalescer, "r", TEXT, "m", b"b" * 20)
    assert coalescer.poll(0.011) == []
    assert coalescer.deadline() == pytest.approx(0.021)
    assert gathers(coalescer, "r", TEXT, "m", b"c")
    (env,) = coalescer.poll(0.0211)
    assert len(env[BODY]) == 51
    assert coalescer.offer(make("next"), 0.025) == [], "it goes on as near as before"
    assert coalescer.deadline() == pytest.approx(0.035)


def test_a_stream_that_was_fast_is_given_the_whole_time_at_once():
    """Nobody looks at it twice; once it is slow, it waits as long as any other."""
    coalescer = Coalescer(near_s=0.01)
    coalescer.offer(make("first"), 0.0)
    coalescer.offer(make("a" * 150), 0.001)
    coalescer.offer(make("b" * 100), 0.002)
    assert coalescer.offer(make("c"), 0.003) == []
    assert coalescer.deadline() == pytest.approx(0.023)
    assert gathers(coalescer, "r", TEXT, "m", b", slowly")
    assert [env[BODY] for env in coalescer.poll(0.024)] == [b"c, slowly"]
    assert coalescer.offer(make("d"), 0.025) == []
    assert coalescer.deadline() == pytest.approx(0.035)


def test_what_waits_grows_no_further_than_its_owner_has_room_for():
    """Credit that is used up: the next delta must be offered, which waits."""
    coalescer = Coalescer(near_s=0.01)
    coalescer.offer(make("first"), 0.0)
    coalescer.offer(make("second"), 0.001)
    coalescer.room_bytes = coalescer.bytes + 1
    assert gathers(coalescer, "r", TEXT, "m", b"up to it, and once beyond")
    assert not gathers(coalescer, "r", TEXT, "m", b"x")


def test_deltas_far_apart_pass_at_once_unless_the_one_before_still_waits_to_be_taken():
    """Who reads in time gets each delta as it comes; behind one that nobody has taken, they gather."""
    coalescer = Coalescer(near_s=0.01)
    coalescer.offer(make("first"), 0.0)
    far, behind = make("second"), make("third")
    assert coalescer.offer(far, 0.02) == [far]
    assert coalescer.offer(behind, 0.04, crowded=True) == []
    assert coalescer.poll(0.05) == [behind]


@pytest.mark.parametrize(
    ("run", "kind", "entity", "body"),
    [
        ("r2", TEXT, "m", b"x"),
        ("r", "TOOL_CALL_ARGS", "m", b"x"),
        ("r", TEXT, "n", b"x"),
        ("r", TEXT, "m", bytes([SEAL, 0x80])),
        ("r", TEXT, "m", bytes(200)),
        ("r", TEXT, "m", "no bytes"),
    ],
)
def test_only_a_small_plain_delta_of_the_same_entity_extends(run, kind, entity, body):
    """Anything else is left as it was, to be offered."""
    coalescer = Coalescer(near_s=0.01)
    coalescer.offer(make("first"), 0.0)
    coalescer.offer(make("second"), 0.001)
    assert not gathers(coalescer, run, kind, entity, body)
    assert [env[BODY] for env in coalescer.flush()] == [b"second"]


def test_a_gathered_delta_is_not_held_beyond_one_item():
    """200 bytes go on without waiting for time."""
    coalescer = Coalescer(near_s=0.01)
    coalescer.offer(make("first"), 0.0)
    assert coalescer.offer(make("a" * 150), 0.001) == []
    (full,) = coalescer.offer(make("b" * 100), 0.002)
    assert (len(full[BODY]), coalescer.bytes) == (250, 0)
