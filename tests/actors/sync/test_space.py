"""Which documents are put away or forgotten when there is no space."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest

from laneway.actors.sync.bounds import SyncPolicy
from laneway.actors.sync.space import least_needed, make_space, statistics
from laneway.routing.errors import Overloaded


@dataclass
class Document:
    """What is asked of a room."""

    resident: bool = True
    quiet: bool = True
    abandoned: bool = True
    size: int = 100
    pending: int = 0
    followers: list[str] = field(default_factory=list)

    @property
    def archive(self):
        return SimpleNamespace(size_bytes=self.size, compactions=2)

    def put_away(self):
        assert self.quiet
        self.resident = False

    def views(self):
        return self.followers


POLICY = replace(SyncPolicy(), resident=2, resident_bytes=1000)


def test_the_longest_unused_that_nobody_needs_goes():
    """Followed and busy documents stay known; if all are, the next one is refused and may come again."""
    followed, busy, idle, later = Document(abandoned=False), Document(quiet=False), Document(), Document()
    assert least_needed([followed, busy, idle, later]) is idle
    with pytest.raises(Overloaded, match="2 documents") as caught:
        least_needed([followed, busy])
    assert caught.value.retryable


def test_space_is_made_by_putting_away_what_is_quiet():
    """By count and by bytes, the longest unused first; who is in memory already needs none."""
    busy, first, second = Document(quiet=False), Document(), Document()
    coming = Document(resident=False)
    make_space(coming, [busy, first, second, coming], POLICY)
    assert [room.resident for room in (busy, first, second)] == [True, False, False]
    large = Document(size=2000)
    make_space(coming, [large, coming], POLICY)
    assert not large.resident
    make_space(busy, [busy, Document(quiet=False), Document(quiet=False)], POLICY)


def test_no_space_among_busy_documents_is_a_refusal():
    """Nothing that is being edited is put away."""
    busy = [Document(quiet=False), Document(quiet=False)]
    with pytest.raises(Overloaded, match="edited at once"):
        make_space(Document(resident=False), busy, POLICY)
    assert all(room.resident for room in busy)


def test_gauges_count_documents_in_memory():
    """Bytes and waiting updates are those of residents; compactions are everybody's."""
    rooms = [Document(pending=3, followers=["a", "b"]), Document(resident=False, pending=9)]
    found = statistics(rooms, 4)
    assert (found.rooms, found.resident, found.resident_bytes, found.pending) == (2, 1, 100, 3)
    assert (found.views, found.telling, found.compactions) == (2, 4, 4)
