"""The tree of a trace and its check: whole traces pass, each way of being broken is named."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from opentelemetry.trace import SpanKind, Tracer, set_span_in_context

from laneway.engine.testing.otlp import SpanRecord
from laneway.engine.testing.sink import Sink
from laneway.engine.testing.tree import Rule, faults, render, rows
from tests.engine.testing.exporting import tracing

RULES = {
    "send": Rule("producer", ("laneway.kind",)),
    "receive": Rule("server", (), ("send",)),
    "queue": Rule("internal", ("laneway.lane",)),
}
Breaking = Callable[[list[SpanRecord]], Sequence[SpanRecord]]


def _trace(client: Tracer, server: Tracer) -> None:
    """A small trace over two processes, with times of its own."""
    base = 1_700_000_000_000_000_000
    send = client.start_span("send", kind=SpanKind.PRODUCER, start_time=base, attributes={"laneway.kind": "M"})
    receive = server.start_span("receive", set_span_in_context(send), SpanKind.SERVER, start_time=base + 1_000_000)
    queue = server.start_span(
        "queue high",
        set_span_in_context(receive),
        attributes={"laneway.lane": "high", "laneway.parts": 2},
        start_time=base + 2_000_000,
    )
    queue.end(base + 2_500_000)
    receive.end(base + 3_000_000)
    send.end(base + 12_000_000)


@pytest.fixture(scope="module")
def spans() -> list[SpanRecord]:
    """What really arrives: send, receive, queue high."""

    def export(url: str) -> None:
        with tracing(url, "client", 1) as client, tracing(url, "laneway", 2) as server:
            _trace(client, server)

    async def main() -> list[SpanRecord]:
        async with asyncio.timeout(30), Sink() as sink:
            await asyncio.to_thread(export, sink.url)
            return sorted(await sink.spans(lambda spans: len(spans) == 3), key=lambda span: span.start_ns)

    return asyncio.run(main())


def test_a_whole_trace_has_no_faults(spans: list[SpanRecord]) -> None:
    """In whatever order it came."""
    assert faults(spans, RULES) == []
    assert faults(spans[::-1], RULES) == []


BREAKS: list[tuple[str, Breaking, str]] = [
    ("orphan", lambda s: [s[0], s[2]], "an orphan"),
    ("kind", lambda s: [s[0], replace(s[1], kind="client"), s[2]], "of kind client, not server"),
    ("attribute", lambda s: [s[0], s[1], replace(s[2], attributes={})], "lacks laneway.lane"),
    ("parent", lambda s: [s[0], s[2], replace(s[1], parent=s[2].span)], "below queue high, not below send"),
    ("trace", lambda s: [s[0], s[1], replace(s[2], trace="0" * 32)], "2 trace ids"),
    ("root", lambda s: [s[0], replace(s[1], parent=""), s[2]], "2 spans have no parent: receive, send"),
    ("none", lambda s: [], "0 spans have no parent"),
    ("twice", lambda s: [*s, s[2]], "1 span ids are used twice"),
    ("early", lambda s: [s[0], s[1], replace(s[2], start_ns=s[1].start_ns - 6_000_000)], "6.000 ms before its parent"),
    ("backwards", lambda s: [s[0], s[1], replace(s[2], end_ns=s[2].start_ns - 1_000)], "ends 0.001 ms before"),
    ("name", lambda s: [s[0], s[1], replace(s[2], name="nap")], "not in the rules; known: queue, receive, send"),
]


@pytest.mark.parametrize(("breaking", "says"), [each[1:] for each in BREAKS], ids=[each[0] for each in BREAKS])
def test_each_fault_is_named(spans: list[SpanRecord], breaking: Breaking, says: str) -> None:
    """Once, in a sentence."""
    assert sum(says in fault for fault in faults(breaking(list(spans)), RULES)) == 1


def test_all_faults_are_named_not_only_the_first(spans: list[SpanRecord]) -> None:
    """Two faults of one span are two sentences."""
    broken = [spans[0], spans[1], replace(spans[2], kind="server", attributes={})]
    assert len(faults(broken, RULES)) == 2


def test_a_child_may_begin_within_the_tolerance_before_its_parent(spans: list[SpanRecord]) -> None:
    """Clocks of two processes differ a little."""
    assert faults([spans[0], replace(spans[1], start_ns=spans[0].start_ns - 4_000_000), spans[2]], RULES) == []


def test_the_tree_is_indented_and_always_the_same(spans: list[SpanRecord]) -> None:
    """Name, kind, start, duration, process, attributes; the order of arrival does not matter."""
    shuffled = list(spans)
    random.Random(7).shuffle(shuffled)
    text = render(shuffled)
    assert text == render(spans)
    assert text.splitlines() == [
        "send            producer  +0.0 ms  12.0 ms  client [1]   laneway.kind=M",
        "  receive       server    +1.0 ms   2.0 ms  laneway [2]",
        "    queue high  internal  +2.0 ms   0.5 ms  laneway [2]  laneway.parts=2",
    ]


def test_orphans_errors_and_links_are_shown(spans: list[SpanRecord]) -> None:
    """An orphan stands at the left with a word; nothing is left out. No spans are an empty text."""
    failed = replace(spans[2], parent="f" * 16, status="error", message="it broke", links=(("a", "b"),))
    assert [(row.depth, row.span.name, row.orphan) for row in rows([spans[0], failed])] == [
        (0, "send", False),
        (0, "queue high", True),
    ]
    last = render([spans[0], failed]).splitlines()[-1]
    assert last.startswith("queue high (orphan)")
    assert last.endswith("laneway.parts=2 error=it broke links=1")
    assert render([]) == ""
