from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.quality import PLANS, Grade, Quality


def test_the_plans_are_the_three_chunk_sizes():
    """200, 100 and 50 characters; slower networks wait longer for company."""
    assert [PLANS[grade].chunk_chars for grade in Grade] == [200, 100, 50]
    waits = [PLANS[grade].flush_s for grade in Grade]
    assert waits == sorted(waits)
    assert Quality().plan == PLANS[Grade.GOOD]


def test_one_bad_measurement_changes_nothing_two_do():
    """A single spike is noise."""
    quality = Quality()
    assert quality.sample(rtt_s=0.3) is Grade.GOOD
    assert quality.sample(rtt_s=0.3) is Grade.FAIR


def test_a_slow_network_ends_up_poor_and_recovers_slowly():
    """Worse in steps of two, better in steps of five, one grade at a time."""
    quality = Quality()
    grades = [quality.sample(rtt_s=1.0) for _ in range(6)]
    assert grades == [0, 1, 1, 2, 2, 2]
    recovered = [quality.sample(rtt_s=0.02) for _ in range(60)]
    assert recovered[0] is Grade.POOR
    assert recovered[-1] is Grade.GOOD
    assert Grade.FAIR in recovered
    assert recovered == sorted(recovered, reverse=True)


def test_a_measurement_at_the_threshold_does_not_flap():
    """Between 80 % of a limit and the limit the grade stays what it was."""
    for start in (0.02, 0.3):
        quality = Quality()
        for _ in range(40):
            quality.sample(rtt_s=start)
        before = quality.grade
        assert {quality.sample(rtt_s=0.14) for _ in range(100)} == {before}


def test_acks_measure_lag_and_goodput_only_when_saturated():
    """A frame is followed to its ack; small ones say nothing about bandwidth."""
    quality = Quality()
    for step in range(10):
        quality.sent(step + 1, 0, float(step))
        quality.sent(99, 0, float(step))
        assert quality.acked(step, 0, float(step)) is quality.grade
        quality.acked(step + 1, 100, step + 0.05)
    assert quality.grade is Grade.GOOD
    for step in range(10):
        quality.sent(step + 1, 0, float(step))
        quality.acked(step + 1, 20_000, step + 2.0)
    assert quality.grade is Grade.POOR


def test_an_old_goodput_is_forgotten():
    """A link that is idle now is not judged by last minute's bandwidth for ever."""
    quality = Quality()
    for _ in range(10):
        quality.sample(goodput_bytes_per_s=1000.0)
    assert quality.grade is Grade.POOR
    for _ in range(30):
        quality.sample(rtt_s=0.01)
    assert quality.grade is Grade.GOOD


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.floats(1, 1e6)), max_size=60))
def test_grades_move_one_step_at_a_time(samples):
    """Whatever is measured, the plan never jumps two grades."""
    quality = Quality()
    before = quality.grade
    for rtt, lag, goodput in samples:
        grade = quality.sample(rtt_s=rtt, ack_lag_s=lag, goodput_bytes_per_s=goodput)
        assert abs(grade - before) <= 1
        before = grade
