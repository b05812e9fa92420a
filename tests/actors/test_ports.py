"""The ports' own values, and that what we ship fits the Protocols."""

from __future__ import annotations

from laneway.actors.ports import Entry, Out, Principal, ToolResult


def test_values_have_safe_defaults() -> None:
    """A principal has no scopes unless it is given some; an Out needs only its kind."""
    assert Principal("ada").scopes == frozenset()
    assert Principal("ada").tenant == "default"
    assert Out("CUSTOM") == ("CUSTOM", b"", "")
    assert Entry(1, 2, 3, b"x").position == 3


def test_a_tool_result_knows_whether_it_is_one() -> None:
    """A code means failure."""
    assert ToolResult("c", "1").ok
    assert not ToolResult("c", "{}", code="TOOL_TIMEOUT").ok
