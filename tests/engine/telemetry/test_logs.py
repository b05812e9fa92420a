"""Log lines: one line, valid, bounded, without secrets, whatever is logged."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.telemetry.flood import FloodPolicy
from laneway.engine.telemetry.logs import MAX_LINE_BYTES, JsonLines, TextLines, logging_to
from tests.engine.telemetry.test_redaction import PLACES, SECRETS

TEXTS = st.one_of(
    st.text(st.characters()),
    st.sampled_from(
        ["\x1b[2J", "\u2028", "\ud800", "a\r\nb", "\x00", "漢字" * 3_000, "\\" * 9_000, '"' * 9_000, "%s %d"]
    ),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(TEXTS, st.integers(), st.floats(), st.none(), st.booleans(), st.binary(max_size=50)),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(TEXTS, inner, max_size=5)),
    max_leaves=10,
)


def _raised(text: str, cause: str) -> Any:
    try:
        try:
            raise KeyError(cause)
        except KeyError as error:
            raise ValueError(text) from error
    except ValueError:
        return sys.exc_info()


def _record(message: Any, args: tuple[Any, ...], extra: dict[Any, Any], failure: Any = None) -> logging.LogRecord:
    record = logging.LogRecord("laneway.x", logging.ERROR, "", 0, message, args, failure)
    record.__dict__.update({f"x_{name}": value for name, value in extra.items()})
    return record


@given(TEXTS, st.lists(VALUES, max_size=3), st.dictionaries(TEXTS, VALUES, max_size=40), TEXTS, TEXTS, st.booleans())
def test_whatever_is_logged_is_one_valid_bounded_line(
    message: str, args: list[Any], extra: dict[str, Any], said: str, cause: str, raising: bool
) -> None:
    """It parses strictly, is printable ASCII without a line break, and keeps its fixed fields."""
    record = _record(message, tuple(args), extra, _raised(said, cause) if raising else None)
    line = JsonLines().format(record)
    assert len(line.encode("ascii")) + 1 <= MAX_LINE_BYTES
    assert all(0x20 <= ord(char) < 0x7F for char in line)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    fields = json.loads(line, parse_constant=refuse)
    assert list(fields)[:4] == ["ts", "level", "logger", "message"]
    json.dumps(fields, ensure_ascii=False).encode()  # no lone surrogates
    TextLines().format(record)


@given(st.sampled_from(PLACES), SECRETS, st.integers(0, 8_000))
def test_planted_secrets_never_appear(place: str, secret: str, before: int) -> None:
    """In message, argument, field, error and its cause; at any distance from a cut."""
    planted = "x" * before + " " + place.format(secret)
    record = _record(
        planted + " %s", (planted,), {"field": planted, "nested": {"a": [planted]}}, _raised(planted, planted)
    )
    for line in (JsonLines().format(record), TextLines().format(record)):
        assert secret not in line


def test_a_line_of_everything_at_its_most_says_what_it_left_out() -> None:
    """The bound holds, and the reader knows that there was more."""
    extra = {f"field_{number}": "v" * 600 for number in range(32)}
    line = JsonLines().format(_record("m" * 9_000, (), extra, _raised("e" * 9_000, "c" * 9_000)))
    assert len(line) < MAX_LINE_BYTES
    assert json.loads(line)["left_out"] > 0
    assert json.loads(line)["message"].endswith("...[cut]")


def test_times_are_rfc_3339() -> None:
    """In UTC with milliseconds; nonsense in a record made by hand is the beginning of time."""
    record = _record("x", (), {})
    record.created = 1_700_000_000.25
    assert json.loads(JsonLines().format(record))["ts"] == "2023-11-14T22:13:20.250Z"
    record.created = float("inf")
    assert json.loads(JsonLines().format(record))["ts"] == "1970-01-01T00:00:00.000Z"
    assert TextLines().format(record).startswith("--:--:--")


def test_text_for_a_person_is_one_line_and_a_traceback() -> None:
    """Nothing in it can command the terminal."""
    lines = TextLines().format(_record("a\nb\x1b[31m %s", ("c",), {"n": 1}, _raised("boom", "why"))).splitlines()
    assert lines[0].endswith("error    laneway.x: a\\nb\\x1b[31m c x_n=1")
    assert lines[-1] == "ValueError: boom"


def test_logging_goes_to_the_stream_and_back() -> None:
    """Our own loggers from their level on, others from warnings on, warnings too; before and after: nothing."""
    root, stream = logging.getLogger(), io.StringIO()
    before = (root.handlers, root.level)
    with warnings.catch_warnings(action="always"), logging_to(stream, form="auto", level="debug"):
        logging.getLogger("laneway.engine").debug("mine")
        logging.getLogger("other").info("not shown")
        logging.getLogger("other").warning("shown")
        warnings.warn("careful", stacklevel=1)
    logging.getLogger("laneway.engine").debug("after")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [
        ("laneway.engine", "debug"),
        ("other", "warning"),
        ("py.warnings", "warning"),
    ]
    assert (root.handlers, root.level) == before


def test_a_terminal_gets_text() -> None:
    """Unless JSON is asked for."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for form, first in (("auto", ":"), ("json", "{"), ("text", ":")):
        stream = Terminal()
        with logging_to(stream, form=form):
            logging.getLogger("laneway").warning("x")
        assert first in stream.getvalue()[:3]


def test_a_flood_is_bounded_and_its_size_is_told() -> None:
    """At the latest when the block ends."""
    stream = io.StringIO()
    with logging_to(stream, form="json", policy=FloodPolicy(same=5), now=lambda: 0.0):
        for number in range(1_000):
            logging.getLogger("laneway").warning("event %d is late", number)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 6
    assert lines[-1]["suppressed"] == 995
    assert lines[-1]["message"] == "995 more like this were left out: event %d is late"


def test_a_stream_that_is_gone_costs_the_line_and_nothing_else() -> None:
    """It is counted."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with logging_to(Gone(), form="json") as handler:
        logging.getLogger("laneway").warning("x")
        assert handler.lost == 1
