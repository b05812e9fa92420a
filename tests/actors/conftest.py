"""What the tests of actors share: virtual time, envelopes, and a context that records."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from laneway.actors.ports import Observe, Out, Outcome, Principal, ToolResult, ToolSpec
from laneway.actors.spans import SILENT, Span, SpanValue
from laneway.routing.envelope import DEADLINE, NO_DEADLINE, RUN, SESSION, TENANT, TRACE, Envelope, envelope
from laneway.routing.lanes import Lane
from laneway.routing.unread import Unread


def _load_loop() -> ModuleType:
    path = Path(__file__).parents[1] / "simulation" / "loop.py"
    spec = importlib.util.spec_from_file_location("laneway_virtual_time", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class RecordingContext:
    """A context for one event that keeps what is emitted before it was ended."""

    def __init__(self, env: Envelope, trace: str = "") -> None:
        self.env = env
        self.outs: list[Out] = []
        self.late = 0
        self.over = False
        self.cancelled = False
        self.unread: list[Unread] = []
        self.principal = Principal("", env[TENANT])
        self.tenant, self.session, self.run = env[TENANT], env[SESSION], env[RUN]
        self.deadline, self.trace = env[DEADLINE], trace or env[TRACE]

    def emit_now(self, out: Out) -> bool:
        return False

    async def emit(self, out: Out) -> None:
        if self.over:
            self.late += 1
        else:
            self.outs.append(out)

    def when_unread(self, policy: Unread) -> None:
        self.unread.append(policy)

    async def call_tool(self, name: str, arguments: Mapping[str, Any], call_id: str = "") -> ToolResult:
        raise NotImplementedError

    def span(self, name: str, kind: str = "internal", **attributes: SpanValue) -> AbstractContextManager[Span]:
        return nullcontext(SILENT)

    def record(self, name: str, start: float, end: float, **attributes: SpanValue) -> None: ...

    def tools(self) -> Sequence[ToolSpec]:
        return ()

    def cancel(self) -> None:
        self.cancelled = True

    def end(self) -> None:
        self.over = True


class Answers:
    """An `on_done` that checks that each event is answered once."""

    def __init__(self) -> None:
        self.by_counter: dict[int, Outcome] = {}

    def __call__(self, env: Envelope, outcome: Outcome) -> None:
        assert env[1] not in self.by_counter, f"{env} answered twice"
        self.by_counter[env[1]] = outcome

    def all(self, ended: Sequence[tuple[Envelope, Outcome]]) -> None:
        for env, outcome in ended:
            self(env, outcome)

    def __getitem__(self, counter: int) -> Outcome:
        return self.by_counter[counter]

    def __len__(self) -> int:
        return len(self.by_counter)

    def status(self) -> dict[int, str]:
        return {counter: outcome.status for counter, outcome in sorted(self.by_counter.items())}


class RecordingProbe:
    """Keeps what is counted and measured."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.labels: list[tuple[str, dict[str, str]]] = []
        self.measured: list[tuple[str, dict[str, str], float]] = []

    def count(self, name: str, value: int = 1, **labels: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + value
        self.labels.append((name, labels))

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
        self.measured.append((name, labels, value))

    def histogram(self, name: str, **labels: str) -> Observe:
        def observe(value: float, times: int = 1, /) -> None:
            for _ in range(times):
                self.observe(name, value, **labels)

        return observe


def make_event(
    counter: int,
    *,
    lane: int = Lane.NORMAL,
    kind: str = "WORK",
    producer: str = "client",
    session: str = "s",
    deadline: float = NO_DEADLINE,
    **fields: Any,
) -> Envelope:
    return envelope(
        kind,
        producer=producer,
        counter=counter,
        tenant=fields.pop("tenant", "t"),
        session=session,
        lane=lane,
        deadline=deadline,
        **fields,
    )


@pytest.fixture(scope="session")
def rig() -> SimpleNamespace:
    """run (a coroutine in virtual time), VirtualClock, event, Context, Answers, Probe."""
    loop = _load_loop()
    return SimpleNamespace(
        run=loop.run,
        VirtualClock=loop.VirtualClock,
        event=make_event,
        Context=RecordingContext,
        Answers=Answers,
        Probe=RecordingProbe,
    )
