import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.flush import FlushTimer, stretched_s
from laneway.routing.shedding import Shedding


def test_after_silence_at_once_then_in_company():
    """The first is due now; the next ones 10 ms after they were first seen, or when a frame is full."""
    timer = FlushTimer(0.010, 64, 0)
    assert timer.due(1.0, 1, 1, force=False, alone=False)
    timer.sent(1.0, 10, 1, more=False)
    assert not timer.due(1.002, 1, 2, force=False, alone=False)
    assert timer.due_at == 1.012
    assert not timer.due(1.005, 63, 64, force=False, alone=False)
    assert timer.due(1.005, 64, 65, force=False, alone=False)
    assert timer.due(1.006, 1, 65, force=True, alone=False)
    assert timer.due(1.012, 1, 65, force=False, alone=False)


def test_what_merges_with_nothing_waits_only_a_gap_after_the_last_frame():
    """2 ms of 10 after a data frame, at once after that; it takes earlier text along."""
    timer = FlushTimer(0.010, 64, 0)
    timer.sent(1.0, 10, 1, more=False)
    assert not timer.due(1.001, 1, 2, force=False, alone=False)
    assert timer.patient
    assert not timer.due(1.0011, 2, 3, force=False, alone=True)
    assert not timer.patient
    assert timer.due_at == 1.002
    assert timer.due(1.002, 2, 3, force=False, alone=True)
    timer.sent(1.002, 10, 1, more=False)
    assert timer.due(1.005, 1, 4, force=False, alone=True)


def test_the_first_text_of_a_message_waits_for_nothing():
    """Not even right behind a frame; the text after it waits for company again, and a paced link keeps its rate."""
    timer = FlushTimer(0.010, 64, 0)
    timer.sent(1.0, 10, 2, more=False)
    assert not timer.due(1.001, 1, 2, force=False, alone=True)
    assert timer.due(1.001, 1, 2, force=False, alone=True, opens=True)
    timer.sent(1.001, 10, 1, more=False)
    assert not timer.due(1.002, 1, 3, force=False, alone=False)
    assert timer.due_at == 1.012
    paced = FlushTimer(0.010, 64, 1_000)
    paced.sent(1.0, 500, 1, more=False)
    assert not paced.due(1.001, 1, 2, force=False, alone=True, opens=True)
    assert paced.due_at == 1.25


def test_a_busy_link_gathers_for_the_whole_window():
    """Each item of the last frame is a gap: above 500 events a second frames grow instead of becoming more."""
    timer = FlushTimer(0.010, 64, 0)
    timer.sent(1.0, 10, 3, more=False)
    assert not timer.due(1.005, 1, 2, force=False, alone=True)
    assert timer.due_at == 1.006
    timer.sent(1.006, 10, 40, more=False)
    assert not timer.due(1.0155, 63, 2, force=False, alone=True)
    assert timer.due(1.016, 63, 2, force=False, alone=True)


def test_a_longer_window_has_longer_gaps():
    """A poor network, or a client that asks for few frames, gets few frames of events too."""
    timer = FlushTimer(0.050, 64, 0)
    timer.sent(1.0, 10, 1, more=False)
    assert not timer.due(1.009, 1, 2, force=False, alone=True)
    assert timer.due(1.010, 1, 2, force=False, alone=True)


def test_answers_wait_a_moment_for_a_frame_to_ride_on():
    """1 ms, and 2 ms after any frame."""
    timer = FlushTimer(0.010, 64, 0)
    assert timer.answers_at(0.5) == 0.501
    timer.went(1.0)
    assert timer.answers_at(1.0) == 1.002
    assert timer.answers_at(1.0015) == 1.0025
    assert timer.answers_at(1.0, refusing=True) == 1.010


def test_what_did_not_fit_into_a_frame_is_due_at_once():
    """Only frame limits stop a flush."""
    timer = FlushTimer(0.010, 64, 0)
    timer.sent(1.0, 10, 1, more=True)
    assert timer.due(1.0, 1, 1, force=False, alone=False)


def test_nothing_to_send_forgets_the_deadline():
    """Data without credit waits for a grant, not for a timer."""
    timer = FlushTimer(0.010, 64, 0)
    timer.sent(1.0, 10, 1, more=False)
    timer.due(1.001, 1, 1, force=False, alone=False)
    timer.nothing()
    assert timer.due_at is None


@settings(deadline=None)
@given(st.integers(256, 100_000), st.lists(st.tuples(st.floats(0, 0.5), st.integers(1, 2_000)), max_size=60))
def test_a_paced_link_never_exceeds_its_rate(rate, frames):
    """In any run of frames: at most a quarter second of burst, and one frame, beyond the rate."""
    timer = FlushTimer(0.001, 1, rate)
    now, total, largest = 0.0, 0, 0
    for pause, size in frames:
        now += pause
        if timer.due(now, 1, 1, force=True, alone=False):
            timer.sent(now, size, 1, more=False)
            total += size
            largest = max(largest, size)
            assert timer.room(now, 10_000) >= 1
        assert total <= rate * (now + 0.25) + largest + 1


def test_held_text_waits_half_a_second_at_most():
    """New text may complete the sentence; time releases what it does not."""
    timer = FlushTimer(0.010, 64, 0)
    assert timer.may_hold(0.0)
    timer.hold(0.0, 1, afresh=True)
    assert timer.holding
    assert timer.due_at == 0.5
    assert not timer.due(0.1, 1, 1, force=True, alone=False)
    assert timer.due(0.2, 2, 2, force=False, alone=False)
    timer.hold(0.2, 2, afresh=False)
    assert timer.due_at == 0.5
    assert not timer.may_hold(0.5)
    assert timer.due(0.5, 2, 2, force=False, alone=False)
    timer.release()
    assert not timer.holding


def test_text_that_goes_on_waits_longer_while_the_engine_is_overloaded():
    """25 ms at level 1 and 50 from 2 on, as on a network one or two grades worse; a wish for more is kept."""
    waits = [[round(stretched_s(wait_s, level), 3) for level in range(4)] for wait_s in (0.010, 0.025, 0.050, 0.2)]
    assert waits[0] == [0.010, 0.025, 0.050, 0.050]
    assert waits[1] == [0.025, 0.050, 0.050, 0.050]
    assert waits[2:] == [[0.050] * 4, [0.2] * 4]
    shedding = Shedding()
    timer = FlushTimer(0.010, 64, 0, shedding)
    for level, wait_s in enumerate(waits[0]):
        shedding.set_level(level)
        timer.sent(1.0, 10, 1, more=False)
        timer.due(1.0, 1, 2, force=False, alone=False)
        assert timer.due_at == 1.0 + wait_s


@pytest.mark.parametrize("level", range(4))
def test_what_begins_and_what_merges_with_nothing_waits_no_longer_than_ever(level: int):
    """Events of other kinds and the first text of a message, answers, a full frame, and the first after silence."""
    shedding = Shedding()
    timer, calm = FlushTimer(0.010, 64, 0, shedding), FlushTimer(0.010, 64, 0)
    shedding.set_level(level)
    assert timer.due(1.0, 1, 1, force=False, alone=False)
    for each in (timer, calm):
        each.sent(1.0, 10, 1, more=False)
        each.due(1.001, 1, 2, force=False, alone=True)
    assert timer.due_at == calm.due_at == 1.002
    assert timer.due(1.003, 2, 3, force=False, alone=True)
    assert timer.due(1.003, 64, 65, force=False, alone=False)
    assert timer.due(1.003, 1, 66, force=True, alone=False)
    assert timer.answers_at(1.5) == calm.answers_at(1.5)
