"""docs/overload.md: what is shown of a run about overload, fairness and memory, for people.

    python -m benchmarks.overload_page [RESULTS.jsonl]

Law of this file: every figure on the page is in the .jsonl that it names, machine, commit and date
included; a figure that the run lacks is a dash. Nothing is written by hand but the sentences around them.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import goodput, neighbours, soak
from benchmarks.overload import SUBJECTS
from benchmarks.overload_picture import draw as draw_overload
from benchmarks.overload_rows import ENGINE, PRIORITY
from benchmarks.overload_served import GRPC
from benchmarks.plot import BASELINE, origin
from benchmarks.soak_plot import draw as draw_soak

__all__ = ["PAGE", "Found", "main", "page", "read", "write"]

PAGE: Final = Path(__file__).parents[1] / "docs" / "overload.md"
"""The committed page; it shows `results/baseline.jsonl`."""
_DASH: Final = "-"
_LOADS: Final = ("2x", "3x", "4x", "10x")

_TEXT: Final = """# Overload

What happens to whom when more comes than can be handled. Written by `python -m benchmarks --baseline` (a whole run,
about half an hour); `make bench` measures the same without changing this page, and
`python -m benchmarks --only W4 neighbours goodput soak` these four alone. Do not edit.

{origin}

![Overload in four figures](images/overload.svg)

The handlers can do 2,000 events a second (4 ms each, eight at once). 2x to 10x are so many times 2,000 offered, open
loop: whoever offers does not wait for answers. Latencies count from an event's time on the schedule to its result at
the client, in milliseconds. How each row is measured is in [benchmarks/](../benchmarks/README.md).

## A critical event gets through

1 % of the events are critical. Their p99 alone (60 a second and nothing else), and in the crowd; in brackets: times the
row's own p99 alone. A run in which a critical event is lost, refused or answered twice has no figure.

{critical}

*data window full*: all the while each client reads too slowly, so that data waits for credit all the time. A bare queue
refuses nothing; what is not urgent waits there for seconds ([by lane](images/latency-by-lane.svg)).

## A noisy neighbour costs itself

Nine light parties send 60 % of their share each. What they wait without a tenth, and with one that sends ten times its
share: a session beside sessions, or a tenant of ten sessions beside tenants of one. All events are of one lane; in the
rows "all lanes" the neighbour also fills lanes above the light parties' own, which go first by design.

{neighbours}

## Goodput stays

A result is of use if it comes within a second. Results of use per second in the second half of six seconds, and as a
share of the row's best. Clients "once" offer everything and take a refusal for an answer. Clients that "retry" do as
`laneway.Client` does: they come again when the engine said, up to four times each and for a tenth of what they offer,
and keep new events back while most are refused. Clients that "retry blindly" offer everything, up to four times more.

{goodput}

## The low lane is served

Results of low per second, and the longest time without one in milliseconds, in the second half of a run. Its weight is
1 of 13. First the runs of the critical lane, where every result counts whenever it comes; then those of goodput, where
a low event that would have to wait for more than its second is given up.

{low}

## A minute of everything, and then nothing

{soak}

`make soak SECONDS=3600` does it for an hour; its exit status is 1 if memory grows or anything is left.
"""


class Found:
    """The rows of a run by workload and row, and what it says about itself."""

    def __init__(
        self, about: Mapping[str, Any], records: Iterable[Mapping[str, Any]], renewed: Sequence[str] = ()
    ) -> None:
        self.about = about
        self.renewed = renewed
        self._rows = {(each["workload"], each["row"]): each for each in records}

    def row(self, workload: str, row: str) -> Mapping[str, Any] | None:
        """Return a row's record, if the run has it."""
        return self._rows.get((workload, row))

    def figure(self, workload: str, row: str, name: str) -> float | None:
        """Return one figure of a row: its `median`, or a number of its `extra`."""
        found = self.row(workload, row)
        value = None if found is None else found["median"] if name == "median" else found["extra"].get(name)
        return None if value is None or math.isnan(value) else float(value)


def read(path: Path) -> Found:
    """Return a run, with the parts of it that were renewed alone since (NAME-PART.jsonl beside NAME.jsonl)."""
    about, *records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    renewed = []
    for part in sorted(path.parent.glob(f"{path.stem}-*.jsonl")):
        own, *newer = [json.loads(line) for line in part.read_text(encoding="utf-8").splitlines()]
        if own["about"]["date"] < about["about"]["date"]:
            continue  # the whole run came after it
        records += newer
        renewed.append(f"{part.stem.removeprefix(path.stem)[1:]}: {origin(own['about'])}")
    return Found(about["about"], records, renewed)


def write(source: Path, target: Path = PAGE) -> None:
    """Write the page of a run and the pictures that it shows, beside it in images/."""
    found = read(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page(found), encoding="utf-8")
    images = target.parent / "images"
    draw_overload(found, images / "overload.svg")
    soaked = found.row(soak.WORKLOAD, soak.ENGINE)
    if soaked is not None:
        draw_soak(soaked["extra"], found.about, images / "soak-memory.svg")


def page(found: Found) -> str:
    """Return the page as Markdown."""
    return _TEXT.format(
        origin=" Renewed since, ".join([origin(found.about), *found.renewed]),
        critical=_critical(found),
        neighbours=_neighbours(found),
        goodput=_goodput(found),
        low=_low(found),
        soak=_soak(found),
    )


def _critical(found: Found) -> str:
    rows = []
    for subject in SUBJECTS:
        alone = found.figure("W4", f"{subject.row} @alone", "critical_p99_ms")
        cells = [_number(alone, 1)]
        for load in _LOADS:
            p99 = found.figure("W4", f"{subject.row} @{load}", "critical_p99_ms")
            times = f" ({p99 / alone:,.1f})" if p99 is not None and alone else ""
            cells.append(f"{_number(p99, 1)}{times}")
        lost = [found.figure("W4", f"{subject.row} @{load}", "lost") for load in _LOADS]
        rows.append(
            [subject.row, *cells, _number(sum(filter(None, lost)) if any(x is not None for x in lost) else None)]
        )
    return _table(["row", "alone", *_LOADS, "lost"], rows)


def _neighbours(found: Found) -> str:
    rows = []
    for case in neighbours.CASES:
        without, noisy = (
            found.figure(neighbours.WORKLOAD, f"{case.row} @{load}", "light_p99_ms") for load in neighbours.LOADS
        )
        at_10x = f"{case.row} @10x"
        told = [
            found.figure(neighbours.WORKLOAD, at_10x, name)
            for name in ("light_refused", "noisy_p99_ms", "noisy_refused")
        ]
        times = noisy / without if noisy is not None and without else None
        rows.append([case.row, _number(without, 1), _number(noisy, 1), _number(times, 2), *map(_number, told)])
    headings = ["row", "light p99 without", "with", "times", "light refused", "the neighbour's p99", "refused"]
    return _table(headings, rows)


def _goodput(found: Found) -> str:
    rows = []
    for case in goodput.CASES:
        useful = [found.figure(goodput.WORKLOAD, f"{case.row} @{load}", "median") for load in goodput.LOADS]
        best = max((each for each in useful if each is not None), default=None)
        rows.append(
            [
                case.row,
                *(
                    f"{_number(each)} ({100 * each / best:.0f} %)" if each is not None and best else _DASH
                    for each in useful
                ),
            ]
        )
    return _table(["row", *goodput.LOADS], rows)


def _low(found: Found) -> str:
    subjects = [subject.row for subject in SUBJECTS if subject.row in (PRIORITY.row, ENGINE.row, GRPC.row)]
    named = [("W4", row, f"{row}, results at any time") for row in subjects]
    named += [(goodput.WORKLOAD, case.row, f"{case.row}, within a second") for case in goodput.CASES]
    rows = []
    for workload, row, name in named:
        cells = []
        for load in goodput.LOADS:
            per_s, pause = (found.figure(workload, f"{row} @{load}", each) for each in ("low_per_s", "low_pause_ms"))
            cells.append(f"{_number(per_s)} / {_number(pause)}" if per_s is not None else _DASH)
        rows.append([name, *cells])
    return _table(["row", *goodput.LOADS], rows)


def _soak(found: Found) -> str:
    row = found.row(soak.WORKLOAD, soak.ENGINE)
    if row is None:
        return "Not in this run."
    extra = row["extra"]
    counts, left = extra["counts"], extra["left_over"]
    low, high = (f"{extra[name] / 1024:+,.1f}" for name in ("low_kib_per_h", "high_kib_per_h"))
    grown = soak.growth(extra["memory_kib"])
    verdict = "settled" if extra["settled"] else "NOT settled"
    return (
        f"{extra['seconds']:g} s of visitors over real gRPC, with session churn, slow readers, cancels, failing "
        f"handlers, tool calls and cut connections: {counts.get('sessions', 0):,} visits, "
        f"{counts.get('events', 0):,} events, {counts.get('tokens', 0):,} tokens, "
        f"{counts.get('cancels', 0):,} cancels, {counts.get('cuts', 0):,} cuts. The resident memory's slope "
        f"(Theil and Sen, 95 %) is {low} to {high} MiB an hour, {extra['bytes_per_visit']:+,.0f} bytes a visit; "
        f"in grains of 64 KiB it grows by {grown.low / 1024:+,.1f} to {grown.high / 1024:+,.1f}"
        f"{_at_rest(extra)}: {verdict}. Left over of sessions, links, events, tasks, descriptors and threads: "
        f"{_left(left)}."
        "\n\n![Memory during the soak](images/soak-memory.svg)"
    )


def _at_rest(extra: Mapping[str, Any]) -> str:
    """How much more is held at rest than before, in the allocators' own units, as far as they tell."""
    told = {"blocks": "of Python's blocks", "malloc_kib": "KiB of malloc"}
    more = [f"{count - extra['rested'][name]:+,} {told[name]}" for name, count in extra.get("held", {}).items()]
    return f", and at rest {' and '.join(more)}" if more else ""


def _left(left: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in left.items()) or "nothing"


def _number(value: float | None, digits: int = 0) -> str:
    return _DASH if value is None else f"{value:,.{digits}f}"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---", *("---:" for _ in headings[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write the page of the committed run, or of the one that is named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload_page", description=__doc__)
    parser.add_argument("results", type=Path, nargs="?", default=BASELINE, help="a .jsonl of `python -m benchmarks`")
    parser.add_argument("--to", type=Path, default=PAGE, help="where to write it")
    asked = parser.parse_args()
    write(asked.results, asked.to)
    print(f"written to {asked.to}")


if __name__ == "__main__":
    main()
