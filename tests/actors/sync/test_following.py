"""Who follows what."""

from __future__ import annotations

from laneway.actors.sync.following import Following
from laneway.actors.sync.messages import MessageType, decode_message, decode_vector, encode_message, encode_vector
from laneway.routing.envelope import BODY, KIND, PRODUCER, SESSION, Envelope, envelope

STEP1 = encode_message(MessageType.STEP1, encode_vector({1: 9}))
UPDATE = encode_message(MessageType.UPDATE, b"\x00\x00")


def _event(kind: str, body: bytes, session: str = "s", producer: str = "p", doc: str = "d") -> Envelope:
    return envelope(kind, producer=producer, counter=1, tenant="t", session=session, lane=2, entity=doc, body=body)


def test_only_what_asks_to_follow_is_remembered() -> None:
    """A sync step 1 and an empty patch; edits and presence are not."""
    following = Following()
    for kind, body in (("DOC_SYNC", UPDATE), ("PRESENCE", b"\x03"), ("DOC_PATCH", b'[{"op": "add"}]')):
        assert not following.note(_event(kind, body), "b")
    assert len(following) == 0
    for body in (b"[]", b" [ ]\n"):
        following.note(_event("DOC_PATCH", body), "b")
    following.note(_event("DOC_SYNC", STEP1), "b")
    following.note(_event("DOC_SYNC", STEP1, producer="q"), "b")
    assert len(following) == 1
    again = list(following.again(("t", "d")))
    assert sorted((env[KIND], env[PRODUCER]) for env in again) == [
        ("DOC_PATCH", "p"), ("DOC_SYNC", "p"), ("DOC_SYNC", "q"),
    ]  # fmt: skip


def test_asking_again_asks_for_everything() -> None:
    """What the client knew when it asked first may be long outdated; it is told all, which harms nothing."""
    following = Following()
    following.note(_event("DOC_SYNC", STEP1), "b")
    (env,) = following.again(("t", "d"))
    assert decode_vector(decode_message(env[BODY]).payload) == {}
    assert list(following.again(("t", "other"))) == []


def test_a_document_that_was_elsewhere_before_is_told() -> None:
    """By the next event that is taken at another front, once."""
    following = Following()
    assert not following.note(_event("DOC_PATCH", b"[]"), "b")
    assert following.front(("t", "d")) == "b"
    assert following.note(_event("DOC_SYNC", UPDATE), "c")
    assert not following.note(_event("DOC_SYNC", UPDATE), "c")
    assert following.at({"c"}) == [("t", "d")]
    assert following.at({"b"}) == []
    assert following.front(("t", "none")) == ""


def test_a_session_that_has_gone_is_forgotten() -> None:
    """The fronts of what it followed are told; a document nobody follows any more is too."""
    following = Following()
    following.note(_event("DOC_PATCH", b"[]", "s", doc="d"), "b")
    following.note(_event("DOC_PATCH", b"[]", "r", doc="d"), "b")
    following.note(_event("DOC_PATCH", b"[]", "s", doc="e"), "c")
    assert following.leave("other", "s") == set()
    assert following.leave("t", "s") == {"b", "c"}
    assert following.leave("t", "s") == set()
    assert [env[SESSION] for env in following.again(("t", "d"))] == ["r"]
    assert len(following) == 1


def test_who_asks_is_bounded() -> None:
    """As a view is: a session with hundreds of clients is told by its first 64."""
    following = Following()
    for number in range(200):
        following.note(_event("DOC_SYNC", STEP1, producer=f"p{number}"), "b")
    assert len(list(following.again(("t", "d")))) == 64
