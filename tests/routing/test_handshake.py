import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.errors import PeerProtocolError
from laneway.routing.handshake import MAX_CLIENT_CHARS, LinkPolicy, negotiate, parse_cursor, parse_hello
from laneway.routing.replay import Cursor

OFFER = {"v": [1], "client": "c-1", "session": "s:1"}


def test_a_minimal_offer_gets_the_policy():
    """Nothing asked for: a fresh start on default terms."""
    hello = parse_hello(OFFER)
    assert (hello.cursor, hello.skip, hello.grant, hello.grants) == (None, 0, None, True)
    plan = negotiate(hello, LinkPolicy())
    assert (plan.chunk_chars, plan.flush_s, plan.heartbeat_s, plan.dead_after_s) == (200, 0.01, 10.0, 25.0)
    assert plan.pace_bytes_per_s == 0
    assert plan.describe()["version"] == 1


def test_a_resume_offer_carries_its_cursor_to_the_byte():
    """Cursor, skip and grant are read."""
    hello = parse_hello({**OFFER, "cursor": ["e", 3, 9], "skip": 5, "grant": 70_000})
    assert hello.cursor == Cursor("e", 3, 9, 5)
    assert (hello.skip, hello.grant) == (5, 70_000)


def test_wishes_are_granted_within_the_policy():
    """A client may ask for less, never for more than the engine offers; bandwidth is paced at 90 %."""
    caps = {
        "chunk_chars": 5000,
        "flush_ms": 50,
        "max_items": 8,
        "max_frame_bytes": 1,
        "heartbeat_ms": 1,
        "bandwidth_bytes_per_s": 10_000,
        "hold": "sentence",
        "unheard_of": [1, {"x": 2}],
    }
    plan = negotiate(parse_hello({**OFFER, "v": [7, 1], "caps": caps, "extra": 1}), LinkPolicy())
    assert (plan.chunk_chars, plan.flush_s, plan.max_items, plan.max_frame_bytes) == (200, 0.05, 8, 4096)
    assert (plan.heartbeat_s, plan.dead_after_s, plan.pace_bytes_per_s, plan.hold_sentence) == (1.0, 2.5, 9000, True)


def test_a_client_that_never_grants_is_paced():
    """Without grants there must be a rate."""
    hello = parse_hello({**OFFER, "caps": {"grants": False}})
    assert negotiate(hello, LinkPolicy(pace_bytes_per_s=1000)).pace_bytes_per_s == 1000


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (None, "BAD_TYPE"),
        ([], "BAD_TYPE"),
        ({**OFFER, "v": []}, "BAD_TYPE"),
        ({**OFFER, "v": [True]}, "BAD_TYPE"),
        ({**OFFER, "v": 1}, "BAD_TYPE"),
        ({**OFFER, "client": 5}, "BAD_TYPE"),
        ({**OFFER, "client": ""}, "BAD_ID"),
        ({**OFFER, "client": "a" * 41}, "BAD_ID"),
        ({**OFFER, "session": "a" * 65}, "BAD_ID"),
        ({**OFFER, "topics": "topic:x"}, "BAD_TYPE"),
        ({**OFFER, "topics": [7]}, "BAD_TYPE"),
        ({**OFFER, "topics": ["topic:x"] * 65}, "TOO_MANY_ITEMS"),
        ({**OFFER, "topics": ["topic:"]}, "BAD_TOPIC"),
        ({**OFFER, "topics": ["topic:my news"]}, "BAD_TOPIC"),
        ({**OFFER, "topics": ["tenant"]}, "BAD_TOPIC"),
        ({**OFFER, "topics": ["user:somebody-else"]}, "BAD_TOPIC"),
        ({**OFFER, "session": ".."}, "BAD_ID"),
        ({**OFFER, "session": "a/b"}, "BAD_ID"),
        ({**OFFER, "session": "a\n"}, "BAD_ID"),
        ({**OFFER, "session": "ａ"}, "BAD_ID"),
        ({**OFFER, "cursor": "e:1:2"}, "BAD_TYPE"),
        ({**OFFER, "cursor": ["e", 1]}, "BAD_TYPE"),
        ({**OFFER, "cursor": [1, 1, 1]}, "BAD_TYPE"),
        ({**OFFER, "cursor": ["e", -1, 0]}, "NUMBER_RANGE"),
        ({**OFFER, "cursor": ["e", 2**64, 0]}, "NUMBER_RANGE"),
        ({**OFFER, "cursor": ["e", 1.0, 0]}, "BAD_TYPE"),
        ({**OFFER, "cursor": ["e", 1, 1], "skip": -1}, "NUMBER_RANGE"),
        ({**OFFER, "grant": "much"}, "BAD_TYPE"),
        ({**OFFER, "caps": 1}, "BAD_TYPE"),
        ({**OFFER, "caps": {"grants": 1}}, "BAD_TYPE"),
        ({**OFFER, "caps": {"chunk_chars": None}}, "BAD_TYPE"),
    ],
)
def test_a_malformed_offer_is_refused_with_its_reason(offer, reason):
    """Each broken field has its own typed refusal."""
    with pytest.raises(PeerProtocolError) as refused:
        parse_hello(offer)
    assert refused.value.reason == reason


def test_the_longest_ids():
    """A client's is shorter than others: with its counter appended it still names a run of 64 characters."""
    hello = parse_hello({**OFFER, "client": "c" * MAX_CLIENT_CHARS, "session": "s" * 64})
    assert len(f"{hello.client}-{2**63 - 1}") <= 64
    with pytest.raises(PeerProtocolError, match=r"hello\.client must be 1 to 40"):
        parse_hello({**OFFER, "client": "c" * (MAX_CLIENT_CHARS + 1)})


def test_without_a_common_version_there_is_no_link():
    """The refusal names both sides' versions."""
    with pytest.raises(PeerProtocolError, match="version 1") as refused:
        negotiate(parse_hello({**OFFER, "v": [2, 3]}), LinkPolicy())
    assert refused.value.reason == "UNKNOWN_VERSION"


WORDS = st.text("abc/.\n é", max_size=4)
JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["v", "client", "session", "cursor", "skip", "grant", "caps"])


def refusal(parse, *args: object) -> str:
    try:
        parse(*args)
    except PeerProtocolError as error:
        return error.reason
    return ""


@settings(deadline=None)
@given(FIELDS, JSONISH)
def test_any_map_is_read_or_refused(field, value):
    """No input raises anything but PeerProtocolError with a documented reason."""
    assert refusal(parse_hello, {**OFFER, field: value}) in {"", "BAD_TYPE", "BAD_ID", "NUMBER_RANGE"}


@settings(deadline=None)
@given(JSONISH)
def test_any_value_is_a_cursor_or_refused(value):
    """Cursors from a wire are checked in one place."""
    assert refusal(parse_cursor, value, "ack") in {"", "BAD_TYPE", "NUMBER_RANGE"}
