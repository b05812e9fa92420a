"""Who gets in: every way to be somebody else is refused, and no refusal gives the secret away."""

from __future__ import annotations

import pytest

from laneway.engine.peer.handshake import Gate, Identity, refusal, text_metadata
from laneway.routing.errors import ConfigError, LanewayError, RuntimeUnavailable, Unauthenticated
from tests.engine.peer.stage import SECRET

POOL = Identity("pool", "2", "1.0")
FRONT = Identity("front", "1", "1.0")


def _said(**change: str | None) -> dict[str, str]:
    """What a front says that dials `pool` in its life 2, with some of it changed or left out."""
    said = dict(Gate(FRONT, SECRET).hello("pool", "2", "c1"))
    for key, value in change.items():
        name = f"laneway-{key.replace('_', '-')}"
        said.pop(name)
        if value is not None:
            said[name] = value
    return said


def test_a_host_of_the_cluster_is_admitted() -> None:
    """The right metadata tells who dials and for which connection."""
    assert Gate(POOL, SECRET).admit(_said()) == ("front", "1", "c1")


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"key": None}, Unauthenticated, ""),
        ({"key": ""}, Unauthenticated, ""),
        ({"key": "é"}, Unauthenticated, ""),
        ({"key": SECRET}, Unauthenticated, ""),
        ({"key": None, "version": "9"}, Unauthenticated, ""),
        ({"protocol": None}, ConfigError, "VERSION_MISMATCH"),
        ({"protocol": "2"}, ConfigError, "VERSION_MISMATCH"),
        ({"version": "1.0.1"}, ConfigError, "VERSION_MISMATCH"),
        ({"name": None}, RuntimeUnavailable, "WRONG_HOST"),
        ({"name": "pool"}, RuntimeUnavailable, "WRONG_HOST"),
        ({"name": "x" * 129}, RuntimeUnavailable, "WRONG_HOST"),
        ({"incarnation": ""}, RuntimeUnavailable, "WRONG_HOST"),
        ({"connection": None}, RuntimeUnavailable, "WRONG_HOST"),
        ({"to": "tool"}, RuntimeUnavailable, "WRONG_HOST"),
        ({"to_incarnation": "1"}, RuntimeUnavailable, "WRONG_HOST"),
    ],
)
def test_everybody_else_is_refused(change: dict[str, str | None], kind: type[LanewayError], reason: str) -> None:
    """The secret comes first: without it nobody learns what else is wrong."""
    with pytest.raises(kind) as caught:
        Gate(POOL, SECRET).admit(_said(**change))
    assert caught.value.reason == reason
    assert SECRET not in str(caught.value)
    assert _said()["laneway-key"] not in str(caught.value)


def test_a_version_mismatch_names_both_and_what_to_do() -> None:
    """The sentence is for whoever has to mend it."""
    with pytest.raises(ConfigError, match=r"'front' runs laneway 0\.9 .*'pool' laneway 1\.0 .*install the same"):
        Gate(POOL, SECRET).admit(_said(version="0.9"))


def test_a_life_that_was_dropped_stays_out() -> None:
    """Its next life comes in; the memory of dropped lives is bounded."""
    gate = Gate(POOL, SECRET)
    gate.bar("front", "1")
    with pytest.raises(RuntimeUnavailable) as caught:
        gate.admit(_said())
    assert caught.value.reason == "GONE"
    assert gate.admit(_said(incarnation="2")).incarnation == "2"
    for number in range(10_000):
        gate.bar("other", str(number))
    assert gate.admit(_said())


def test_the_answer_is_checked_too() -> None:
    """The dialler goes on only with the host, the life and the version it looked for."""
    gate = Gate(FRONT, SECRET)
    answer = dict(Gate(POOL, SECRET).answer())
    assert "laneway-key" not in answer
    gate.meet(answer, "pool", "2")
    for name, incarnation in (("pool", "1"), ("tool", "2")):
        with pytest.raises(RuntimeUnavailable):
            gate.meet(answer, name, incarnation)
    with pytest.raises(ConfigError):
        gate.meet({**answer, "laneway-version": "2"}, "pool", "2")


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        ("UNAUTHENTICATED", "", Unauthenticated),
        ("FAILED_PRECONDITION", "VERSION_MISMATCH", ConfigError),
        ("FAILED_PRECONDITION", "GONE", RuntimeUnavailable),
        ("UNAVAILABLE", "", RuntimeUnavailable),
    ],
)
def test_a_refusal_is_typed_at_the_dialler(code: str, reason: str, kind: type[LanewayError]) -> None:
    """Every status becomes an error that names the host and says what it said."""
    error = refusal(code, reason, "because", "host p at 1.2.3.4:5")
    assert type(error) is kind
    assert "host p at 1.2.3.4:5" in error.message
    assert "because" in error.message


def test_text_metadata_ignores_bytes_and_repeats() -> None:
    """Only text counts, and of a repeated key the first value."""
    assert text_metadata([("a", "1"), ("a", "2"), ("b-bin", b"x")]) == {"a": "1"}
    assert text_metadata(None) == {}


@pytest.mark.parametrize("bad", ["", "a b", "é", "x" * 129, "a\n"])
def test_identities_are_fit_for_metadata(bad: str) -> None:
    """A name that metadata would not carry unchanged is refused where it is given."""
    with pytest.raises(ConfigError):
        Identity(bad, "1", "1")
    with pytest.raises(ConfigError):
        Identity("a", "1", bad)
