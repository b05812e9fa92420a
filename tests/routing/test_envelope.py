"""The envelope tuple and its view."""

from __future__ import annotations

from laneway.routing import envelope as module
from laneway.routing.envelope import EnvelopeView, cost_bytes, envelope, envelope_id, with_body
from laneway.routing.lanes import Lane


def _env() -> module.Envelope:
    return envelope(
        "TEXT_MESSAGE_CONTENT",
        producer="p",
        counter=7,
        tenant="t",
        session="s",
        lane=2,
        run="r",
        entity="m",
        deadline=9.5,
        trace="00-x",
        after="p:6",
        body=b"hello",
        accepted=1.5,
    )


def test_fields_stand_where_the_constants_say() -> None:
    """Every index constant names the field that the builder put there, and the view shows the same."""
    env = _env()
    view = EnvelopeView(env)
    for name in ("kind", "tenant", "session", "run", "entity", "lane", "deadline", "trace", "after", "body"):
        assert getattr(view, name) == env[getattr(module, name.upper())], name
    assert (env[module.PRODUCER], env[module.COUNTER], env[module.ACCEPTED]) == ("p", 7, 1.5)
    assert view.id == envelope_id(env) == "p:7"
    assert view.lane is Lane.NORMAL
    assert view.raw is env
    assert "TEXT_MESSAGE_CONTENT p:7" in repr(view)


def test_another_body_keeps_the_address() -> None:
    """`with_body` changes the body alone."""
    env = with_body(_env(), b"x")
    assert env[module.BODY] == b"x"
    assert (env[:11], env[12]) == (_env()[:11], _env()[12])


def test_an_event_is_never_free() -> None:
    """An empty body still weighs what the envelope around it costs."""
    assert cost_bytes(with_body(_env(), b"")) == 200
    assert cost_bytes(_env()) == 205
