from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.quality import PLANS, Grade, Quality, within


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


def test_two_bad_measurements_count_at_once_and_so_do_four_good_ones():
    """A slow network measures seldom: smoothing alone would take a dozen round trips each way."""
    quality = Quality()
    for _ in range(20):
        quality.sample(rtt_s=0.02)
    grades = [quality.sample(rtt_s=1.5) for _ in range(5)]
    assert grades == [0, 0, 1, 1, 2], "one is a spike, then one step for two measurements"
    grades = [quality.sample(rtt_s=0.02) for _ in range(13)]
    assert grades[2] == 2
    assert grades[-1] == 0


def test_a_client_that_acks_seldom_is_not_taken_for_a_slow_one():
    """Of an ack's lag only what goes beyond the client's own pause between acks counts."""
    lazy, slow = Quality(), Quality()
    for step in range(20):
        lazy.sent(step + 1, 0, 10.0 * step)
        lazy.acked(step + 1, 100, 10.0 * step + 9.9)
    assert lazy.grade is Grade.GOOD
    for step in range(200):
        slow.sent(step + 9, 0, 0.1 * step)
        slow.acked(step, 100, 0.1 * step + 0.05)
    assert slow.grade is Grade.FAIR, "0.9 s behind, and an ack every 0.1 s"


def test_what_was_agreed_bounds_every_plan():
    """A client's own smaller chunks and longer waits stay; a good network gets just what was agreed."""
    assert within(Grade.GOOD, 200, 0.002) == (200, 0.002)
    assert within(Grade.POOR, 200, 0.002) == PLANS[Grade.POOR]
    assert within(Grade.POOR, 16, 0.5) == (16, 0.5)
