"""One decision per event: the client's word first, then chance, both within a rate."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.telemetry.sampling import Sampler

_RECORDED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
_UNRECORDED = "00-" + "a" * 32 + "-" + "b" * 16 + "-00"
_chances = st.lists(st.floats(0, 1, exclude_max=True), max_size=300)


def _sampler(ratio: float = 1.0, *, follow: bool = True, traces_per_s: float = 1e9, chance: float = 0.5) -> Sampler:
    return Sampler(ratio, follow=follow, traces_per_s=traces_per_s, random=lambda: chance)


@given(st.floats(0, 1), _chances)
def test_share_is_what_chance_gives(ratio: float, chances: list[float]) -> None:
    """An event without a traceparent is traced exactly if its draw is below the ratio."""
    draws = iter(chances)
    sampler = Sampler(ratio, follow=True, traces_per_s=1e9, random=lambda: next(draws))
    assert [sampler.wants("", 0.0) for _ in chances] == [chance < ratio for chance in chances]


def test_nothing_and_everything() -> None:
    """Ratio 0 begins nothing, ratio 1 everything, whatever the draw."""
    assert not _sampler(0.0, chance=0.0).wants("", 0.0)
    assert _sampler(1.0, chance=0.999999).wants("", 0.0)


@given(st.floats(0, 1), st.floats(0, 1, exclude_max=True))
def test_what_a_client_does_not_record_is_never_recorded(ratio: float, chance: float) -> None:
    """Its word counts, also where everything else is traced."""
    assert not _sampler(ratio, chance=chance).wants(_UNRECORDED, 0.0)


def test_what_a_client_records_is_followed_unless_switched_off() -> None:
    """Also at ratio 0; and not at all with `follow` off."""
    assert _sampler(0.0).wants(_RECORDED, 0.0)
    assert not _sampler(1.0, follow=False).wants(_RECORDED, 0.0)


def test_broken_traceparent_counts_as_none() -> None:
    """It is neither followed nor held against the event."""
    assert _sampler(1.0).wants("00-" + "0" * 32 + "-" + "b" * 16 + "-01", 0.0)
    assert not _sampler(0.0).wants("rubbish", 0.0)


@given(st.integers(1, 50), st.lists(st.floats(0, 0.5), min_size=1, max_size=300), st.booleans())
def test_rate_holds_over_any_time(rate: int, gaps: list[float], recorded: bool) -> None:
    """At most a burst of one second and `traces_per_s` each second after it."""
    sampler = _sampler(1.0, traces_per_s=rate)
    now, taken = 0.0, 0
    for gap in gaps:
        now += gap
        taken += sampler.wants(_RECORDED if recorded else "", now)
    assert taken <= rate + rate * now + 1
    assert taken + sampler.capped == len(gaps)


def test_clients_do_not_use_up_what_is_begun_here() -> None:
    """The two rates are counted apart, so a client that traces everything leaves ours alone."""
    sampler = _sampler(1.0, traces_per_s=2)
    assert sum(sampler.wants(_RECORDED, 0.0) for _ in range(10)) == 2
    assert sum(sampler.wants("", 0.0) for _ in range(10)) == 2
