"""The call sentence of test models."""

from __future__ import annotations

import pytest

from laneway.engine.models.directive import call_directive, last_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('call weather {"city": "Rome"}', ("weather", {"city": "Rome"})),
        ("  Call weather  ", ("weather", {})),
        ("call weather now", None),
        ("call weather [1]", None),
        ("call", None),
        ("please call weather", None),
    ],
)
def test_only_the_exact_sentence_calls(text: str, expected: object) -> None:
    """A tool is called by `call NAME {json}` and by nothing that merely looks like it."""
    assert call_directive(text) == expected


def test_last_text_reads_strings_and_parts() -> None:
    """The last message of a role, as plain text."""
    messages = [{"role": "user", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]}]
    assert last_text(messages, "user") == "b"
    assert last_text(messages, "tool") == ""
