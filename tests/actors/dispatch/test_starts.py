"""Run ids: one run per id, and where each begins."""

from __future__ import annotations

from laneway.actors.dispatch.starts import Starts
from laneway.routing.envelope import Envelope
from tests.actors.sessions.stage import an_event


def asking(run: str, body: bytes = b"hi", kind: str = "RUN_INPUT") -> Envelope:
    return an_event(1, kind, run=run, body=body)


def test_a_run_id_starts_one_run() -> None:
    """The same request again is a duplicate, another one under its id a mistake; other kinds start nothing."""
    starts = Starts()
    assert starts.verdict(asking("r1")) == "new"
    starts.ask(asking("r1"))
    assert starts.verdict(asking("r1")) == "duplicate"
    assert starts.verdict(asking("r1", b"ho")) == "mismatch"
    assert starts.verdict(asking("r1", kind="USER_MESSAGE")) == "mismatch"
    assert starts.verdict(asking("r2")) == "new"
    starts.ask(asking("r2", kind="WORK"))
    assert starts.verdict(asking("r2")) == starts.verdict(asking("r1", kind="WORK")) == "new"


def test_the_place_of_a_run_is_where_it_first_began() -> None:
    """A later claim, as recovery makes it, does not move it; an unknown run has none."""
    starts = Starts()
    starts.begin("r1", 1, 2)
    assert starts.place("r1") is None
    starts.ask(asking("r1"))
    starts.begin("r1", 3, 4)
    starts.begin("r1", 5, 6)
    assert starts.place("r1") == (3, 4)


def test_the_newest_runs_are_remembered_also_after_a_restart() -> None:
    """What is kept is bounded, with its places; the rows rebuild it in order."""
    starts = Starts(max_runs=2)
    for run in ("r1", "r2", "r3"):
        starts.ask(asking(run))
        starts.begin(run, 0, 7)
    assert (starts.verdict(asking("r1")), starts.place("r1")) == ("new", None)
    again = Starts(max_runs=2)
    again.ask(asking("other"))
    again.restore(starts.rows())
    assert [again.verdict(asking(run)) for run in ("other", "r2", "r3")] == ["new", "duplicate", "duplicate"]
    assert again.rows() == starts.rows()
