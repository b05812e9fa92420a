from laneway.routing.envelope import envelope
from laneway.routing.items import Batch
from laneway.routing.quality import Grade
from laneway.routing.reader import StreamReader
from laneway.routing.replay import ReplayRing
from laneway.routing.tally import Tally


def test_every_seq_that_was_sent_is_in_one_account():
    """delivered + conflated + gapped + pending = what was committed since the link began."""
    rings = ReplayRing(100), ReplayRing(100)
    for seq in range(1, 13):
        env = envelope("CUSTOM", producer="e", counter=seq, tenant="t", session="s", lane=2)
        rings[1].append(env)
    rings[1].commit(12)
    readers = StreamReader(rings[0], 0), StreamReader(rings[1], 2)
    tally = Tally((0, 2))
    batch = Batch(3, 0, None, [], 0, 11, 0, 160, bytes=70, gapped=3, merged=2, conflated=1)
    readers[1].advance(batch)
    tally.take(1, batch)
    tally.frames(2)
    books = tally.statistics(readers, Grade.FAIR)
    assert (books.delivered, books.conflated, books.gapped, books.pending) == ((0, 4), (0, 1), (0, 3), (0, 2))
    assert (books.merged, books.bytes, books.frames, books.grade) == (2, 70, 2, 1)
