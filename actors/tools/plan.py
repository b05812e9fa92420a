"""A plan of tool calls: a directed acyclic graph, decided here, run elsewhere.

Law of this file: a call is ready when everything it depends on has succeeded; when one fails, exactly
its descendants are skipped and the rest goes on. A call depends on what it lists in `after` and on
every call whose result its arguments use (`{"$result": "call id"}` anywhere in them). Cycles and
unknown names are found before the first call runs (graphlib, standard library).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from laneway.routing.errors import LocalProtocolError, ToolArguments

__all__ = ["MAX_CALLS", "RESULT_KEY", "Plan", "PlannedCall"]

MAX_CALLS: Final = 256
"""Calls in one plan; a model that plans more has lost its way."""
RESULT_KEY: Final = "$result"
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One node.

    Attributes:
        call_id: unique in the plan.
        name: tool to call.
        arguments: JSON values; `{"$result": id}` stands for another call's result.
        after: further call ids that must succeed first.
    """

    call_id: str
    name: str
    arguments: Mapping[str, Any]
    after: tuple[str, ...] = ()


class Plan:
    """The progress of one plan; pure: the caller runs what `ready` hands out and reports back.

    Args:
        calls: the nodes, in any order.

    Raises:
        ToolArguments: reason CYCLE, UNKNOWN_CALL, DUPLICATE_CALL, TOO_MANY_CALLS or DEPTH_EXCEEDED.
    """

    def __init__(self, calls: Iterable[PlannedCall]) -> None:
        self._calls: dict[str, PlannedCall] = {}
        for call in calls:
            self._add(call)
        self._needs = {call.call_id: self._dependencies(call) for call in self._calls.values()}
        self._sorter: TopologicalSorter[str] = TopologicalSorter(self._needs)
        try:
            self._sorter.prepare()
        except CycleError as error:
            path = " -> ".join(error.args[1])
            raise ToolArguments(f"the plan waits for itself: {path}; remove one dependency", reason="CYCLE") from None
        self._running: set[str] = set()
        self._results: dict[str, Any] = {}
        self._failed: dict[str, str] = {}
        self._skipped: dict[str, str] = {}

    def _add(self, call: PlannedCall) -> None:
        if call.call_id in self._calls:
            raise ToolArguments(
                f"the plan has two calls named {call.call_id!r}; ids are unique", reason="DUPLICATE_CALL"
            )
        if len(self._calls) >= MAX_CALLS:
            raise ToolArguments(f"the plan has more than {MAX_CALLS} calls; split it", reason="TOO_MANY_CALLS")
        self._calls[call.call_id] = call

    def _dependencies(self, call: PlannedCall) -> frozenset[str]:
        needs = frozenset(call.after) | frozenset(_references(call.arguments))
        for name in needs:
            if name not in self._calls:
                raise ToolArguments(
                    f"call {call.call_id!r} needs {name!r}, which is not in the plan", reason="UNKNOWN_CALL"
                )
        return needs

    def ready(self) -> list[PlannedCall]:
        """Return each call that has become runnable, once, with results filled into its arguments."""
        found: list[PlannedCall] = []
        while self._sorter.is_active() and (names := self._sorter.get_ready()):
            for name in names:
                blocker = next((need for need in sorted(self._needs[name]) if need not in self._results), None)
                if blocker is not None:
                    self._skipped[name] = blocker
                    self._sorter.done(name)
                    continue
                call = self._calls[name]
                self._running.add(name)
                found.append(PlannedCall(name, call.name, _filled(call.arguments, self._results), call.after))
        return found

    def complete(self, call_id: str, result: Any) -> None:
        """Report success with its JSON value. Raises LocalProtocolError unless the call is running."""
        self._finish(call_id)
        self._results[call_id] = result

    def fail(self, call_id: str, code: str) -> None:
        """Report failure; descendants will be skipped. Raises LocalProtocolError unless running."""
        self._finish(call_id)
        self._failed[call_id] = code

    def _finish(self, call_id: str) -> None:
        if call_id not in self._running:
            raise LocalProtocolError(f"call {call_id!r} is not running in this plan")
        self._running.remove(call_id)
        self._sorter.done(call_id)

    @property
    def done(self) -> bool:
        """True when every call succeeded, failed or was skipped; call `ready` after each report."""
        return len(self._results) + len(self._failed) + len(self._skipped) == len(self._calls)

    @property
    def results(self) -> Mapping[str, Any]:
        """Call id -> value, of those that succeeded."""
        return dict(self._results)

    @property
    def failed(self) -> Mapping[str, str]:
        """Call id -> error code."""
        return dict(self._failed)

    @property
    def skipped(self) -> Mapping[str, str]:
        """Call id -> the dependency that did not succeed."""
        return dict(self._skipped)


def _reference(value: object) -> str | None:
    if isinstance(value, Mapping) and len(value) == 1:
        name = value.get(RESULT_KEY)
        if isinstance(name, str):
            return name
    return None


def _references(value: object, depth: int = 0) -> list[str]:
    if depth > _MAX_DEPTH:
        raise ToolArguments(f"arguments are nested deeper than {_MAX_DEPTH}", reason="DEPTH_EXCEEDED")
    if (name := _reference(value)) is not None:
        return [name]
    if isinstance(value, Mapping):
        return [name for item in value.values() for name in _references(item, depth + 1)]
    if isinstance(value, (list, tuple)):
        return [name for item in value for name in _references(item, depth + 1)]
    return []


def _filled(value: Any, results: Mapping[str, Any]) -> Any:
    if (name := _reference(value)) is not None:
        return results[name]
    if isinstance(value, Mapping):
        return {key: _filled(item, results) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(item, results) for item in value]
    return value
