from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.window import MAX_WINDOW_BYTES, MIN_WINDOW_BYTES, CreditWindow, GrantPolicy


@settings(deadline=None)
@given(st.integers(0, 2**40), st.lists(st.integers(0, 2**41)))
def test_credit_is_the_highest_grant_ever_seen(start, grants):
    """Lower and repeated grants are ignored; order does not matter."""
    window = CreditWindow(start, 100)
    for position in grants:
        before = window.granted
        assert window.grant(position) == (position > before)
    assert window.granted == max([start + 100, *grants])
    assert window.can_send(window.granted - 1)
    assert not window.can_send(window.granted)


@settings(deadline=None)
@given(
    st.integers(0, 2**30),
    st.lists(st.tuples(st.integers(1, 70_000), st.floats(0, 10), st.booleans(), st.booleans()), max_size=50),
)
def test_a_reader_that_keeps_reading_never_starves_its_sender(start, steps):
    """With any rate of reading, the grants rise, stay within bounds and leave at least half a window."""
    policy = GrantPolicy(start, start + 65_536)
    consumed, now = start, 0.0
    for size, pause, idle, arrives in steps:
        consumed = min(consumed + size, policy.granted)
        now += pause
        if arrives:
            policy.arrived(now)
        before = policy.granted
        grant = policy.due(consumed, now, idle=idle)
        if grant is not None:
            assert grant == policy.granted > before
            assert MIN_WINDOW_BYTES <= policy.window_bytes <= MAX_WINDOW_BYTES
            assert grant - consumed <= MAX_WINDOW_BYTES
        assert policy.granted > consumed
        assert policy.due(consumed, now) is None


def test_grants_cost_one_message_per_half_window():
    """Nothing is sent before half of the window is used."""
    policy = GrantPolicy(0, 65_536)
    assert policy.due(32_767, 0.0) is None
    assert policy.due(32_768, 0.1) == 32_768 + 65_536


def test_the_window_follows_the_rate():
    """A fast reader gets a larger window, a slow one a smaller."""
    policy = GrantPolicy(0, 65_536)
    policy.due(60_000, 1.0)
    policy.due(120_000, 1.01)
    assert policy.window_bytes == MAX_WINDOW_BYTES
    policy.due(policy.granted, 100.0)
    assert policy.window_bytes == MIN_WINDOW_BYTES


def test_a_pause_says_nothing_about_the_reader():
    """Bursts with minutes between them find as large a window as bursts without; a slow reader does not."""
    windows = {}
    for idle in (True, False):
        policy, consumed, now = GrantPolicy(0, 65_536), 0, 0.0
        for _ in range(3):
            for _ in range(20):  # 160 KiB in 40 ms
                policy.arrived(now)
                consumed, now = min(consumed + 8_192, policy.granted), now + 0.002
                policy.due(consumed, now, idle=idle)
            now += 60.0
        policy.arrived(now)
        consumed = policy.granted - policy.window_bytes // 2
        policy.due(consumed, now, idle=idle)
        windows[idle] = policy.window_bytes
    assert windows[True] >= 131_072
    assert windows[False] == MIN_WINDOW_BYTES


def test_pauses_make_no_fast_reader_of_one_that_is_given_little():
    """What comes a kilobyte at a time, every half second, needs no window of a megabyte."""
    policy, consumed = GrantPolicy(0, 65_536), 0
    for turn in range(200):
        policy.arrived(turn * 0.5)
        consumed += 1_024
        policy.due(consumed, turn * 0.5, idle=True)
    assert policy.window_bytes == MIN_WINDOW_BYTES
