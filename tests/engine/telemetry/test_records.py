"""The fields of a log record."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from laneway.engine.telemetry.records import fields_of
from laneway.routing.errors import StoreUnavailable

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _fields(message: object = "hello", *args: object, exc: bool = False, **extra: Any) -> dict[str, Any]:
    info = sys.exc_info() if exc else None
    record = logging.LogRecord("laneway.x", logging.WARNING, "", 0, message, args, info)  # type: ignore[arg-type]
    record.__dict__.update(extra)
    return dict(fields_of(record))


def test_plain_records_have_three_fields() -> None:
    """Level, logger, message."""
    assert _fields("n=%d", 3, _ray_timestamp_ns="0x1") == {"level": "warning", "logger": "laneway.x", "message": "n=3"}


def test_the_code_of_an_error_is_a_field_of_its_own() -> None:
    """Of an argument, of what was raised, or as told."""
    error = StoreUnavailable("the disk is full")
    assert _fields("not written: %s", error)["code"] == "STORE_UNAVAILABLE"
    assert _fields(code="RATE_LIMITED")["code"] == "RATE_LIMITED"
    try:
        raise error
    except StoreUnavailable:
        fields = _fields("not written", exc=True)
    assert (fields["code"], fields["exception"]) == ("STORE_UNAVAILABLE", "laneway.routing.errors.StoreUnavailable")
    assert fields["traceback"].endswith("StoreUnavailable: STORE_UNAVAILABLE: the disk is full")


def _deep(levels: int, message: str) -> None:
    if levels:
        _deep(levels - 1, message)
    else:
        raise ValueError(message)


@pytest.mark.parametrize(
    ("levels", "message"), [(5, "x" * 100_000), (400, "short"), (400, "\n".join(["y" * 99] * 900))]
)
def test_tracebacks_keep_their_end_and_a_bound(levels: int, message: str) -> None:
    """The last frames and the error; also with notes, causes and groups."""
    try:
        try:
            _deep(levels, "cause")
        except ValueError as cause:
            group = ExceptionGroup(message, [cause] * 50)
            group.add_note("n" * 50_000)
            raise group from cause
    except ExceptionGroup:
        fields = _fields(exc=True)
    assert fields["exception"] == "ExceptionGroup"
    assert len(json.dumps(fields["traceback"])) <= 6_300
    try:
        _deep(levels, message)
    except ValueError:
        fields = _fields(exc=True)
    assert len(json.dumps(fields["traceback"])) <= 6_300
    assert f"ValueError: {message[:20]}" in fields["traceback"]
    assert "_deep" in fields["traceback"]


def test_the_trace_is_known_by_its_ids() -> None:
    """Told as a traceparent, or of the span around; anything else is no trace."""
    assert _fields(trace=TRACE)["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert _fields(trace=TRACE)["span_id"] == "b7ad6b7169203331"
    assert "trace_id" not in _fields(trace="nonsense")
    with TracerProvider().get_tracer("t").start_as_current_span("s") as span:
        assert _fields()["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert "trace_id" not in _fields()


class Hostile:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


def test_nothing_that_is_logged_can_raise() -> None:
    """Wrong arguments, objects without a text, names that are ours, numbers of any size."""
    assert "TypeError" in _fields("%d %d", 1)["message"]
    assert "RuntimeError" in _fields("it was %s", Hostile())["message"]
    assert "RuntimeError" in _fields(Hostile())["message"]
    assert "Hostile that cannot be shown" in _fields(thing=Hostile())["thing"]
    fields = _fields(level="mine", ts="then", huge=10**5_000, nan=float("nan"), many=list(range(1_000)), b=b"\0\1")
    assert (fields["level"], fields["extra_level"], fields["extra_ts"]) == ("warning", "mine", "then")
    assert fields["huge"].startswith("0x")
    assert (fields["nan"], fields["b"], len(fields["many"])) == ("nan", "[2 bytes]", 32)
    assert _fields(**{f"f{number}": number for number in range(40)})["extras_left_out"] == 8
    looped: list[Any] = []
    looped.append(looped)
    json.dumps(_fields(loop=looped), allow_nan=False)


def test_secrets_in_fields_are_hidden() -> None:
    """By name, nested, as pairs, and within texts."""
    headers = {"authorization": "Bearer abcdefgh1", "path": "/x?ticket=abcdefgh1", "more": {"password": "abcdefgh1"}}
    fields = _fields(
        "got %s", headers, headers=headers, metadata=[("x-api-key", "abcdefgh1")], token="abcdefgh1", output_tokens=7
    )
    assert "abcdefgh1" not in json.dumps(fields)
    assert fields["output_tokens"] == 7
    assert fields["headers"]["path"] == "/x?ticket=[redacted]"
