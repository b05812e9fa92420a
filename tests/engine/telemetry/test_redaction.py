"""Secrets never get into text that is logged."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laneway.engine.telemetry.redaction import HIDDEN, is_secret, redact, visible

SECRETS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=12, max_size=80).map(
    lambda text: f"Q7{text}9Z"
)
PLACES = [
    "password={}",
    "password: {}",
    "Password : '{}'",
    '{{"password": "{}"}}',
    '{{\\"api_key\\": \\"{}\\"}}',
    "{{'client_secret': '{}', 'a': 1}}",
    "Authorization: Bearer {}",
    "authorization: Custom {} and more",
    "AUTHORIZATION=Basic {}",
    "('authorization', 'Bearer {}')",
    "('x-api-key', '{}')",
    "Cookie: a=1; sid={}",
    "bearer {}",
    "token={}&x=1",
    "GET /v1/stream?ticket={}&a=b",
    "wss://host/sync/doc?a=1&ticket={}",
    "https://user:{}@host/path",
    "https://{}@host/path",
    "https://host/x?sig={}",
    "sk-{}",
    "eyJhbGciOiJIUzI1NiJ9.{}.c2ln",
    "run --auth-token {} now",
    "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----",
    "MY_SECRET_KEY={}",
]
PADDING = st.text(max_size=40)


@pytest.mark.parametrize("place", PLACES)
@given(secret=SECRETS, before=PADDING, after=PADDING, most=st.integers(8, 200))
def test_a_planted_secret_does_not_appear(place: str, secret: str, before: str, after: str, most: int) -> None:
    """Wherever it stands, with anything around it, whole or cut in the middle."""
    text = f"{before} {place.format(secret)} {after}"
    assert secret not in redact(text, 10_000)
    cut = redact(text, most)
    assert secret not in cut
    assert len(cut) <= most + len(HIDDEN) * 4


@pytest.mark.parametrize("place", PLACES)
def test_what_a_cut_leaves_of_a_secret_does_not_appear(place: str) -> None:
    """Wherever the text is cut, fewer than eight characters of a secret can be seen."""
    secret = "Q7abcdefghijklmnopqrstuvwxyz0123456789" + "A1b2" * 30
    text = f"before {place.format(secret)}"
    for most in range(len(text)):
        assert secret[:8] not in redact(text, most), most


@pytest.mark.parametrize(
    "text",
    [
        "output_tokens=512, max_tokens: 64",
        '{"input_tokens": 12}',
        "TOKEN_EXPIRED/EXP: the token was good and is over",
        "the password is wrong",
        "session s1 of tenant default is left as it is",
        "http://127.0.0.1:4317 did not answer",
        "basic understanding",
        "see https://example.org/a?b=c#d",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    """Log lines stay readable."""
    assert redact(text, 1_000) == text


def test_names_of_secret_fields() -> None:
    """Numbers of tokens are no secrets, tokens are."""
    for name in ("Authorization", "x-api-key", "client_secret", "refreshTokens", "db_password", "ticket"):
        assert is_secret(name, "x")
    assert not is_secret("output_tokens", 12)
    assert is_secret("tokens", ["x"])
    assert not is_secret("session")


@given(st.text(st.characters()))
def test_visible_text_is_valid_and_breaks_no_line(text: str) -> None:
    """No control character but line feed and tab, no line separator, no reordering, valid UTF-8."""
    shown = visible(text)
    shown.encode()
    assert len(shown.splitlines()) <= text.count("\n") + 1
    assert not any((ord(char) < 0x20 and char not in "\n\t") or 0x7F <= ord(char) < 0xA0 for char in shown)
    assert not set("\u2028\u2029\u202e\u2066") & set(shown)


def test_escape_sequences_are_written_out() -> None:
    """Also after a JSON reader has decoded them."""
    assert json.loads(json.dumps(visible("\x1b[31mred\x07\x9b"))) == "\\x1b[31mred\\x07\\x9b"
    assert visible("a\ud800b") == "a\ufffdb"


@pytest.mark.parametrize(
    "piece",
    [
        "token",
        "password:",
        'password="',
        "\\",
        '"',
        "://",
        "a@",
        "eyJ",
        "bearer ",
        "-----BEGIN ",
        "--token",
        "?key=",
        " ",
        "A",
    ],
)
def test_hostile_text_costs_no_more_than_friendly_text(piece: str) -> None:
    """A pattern that were not linear would still be at it when the suite's timeout comes."""
    redact(piece * (300_000 // len(piece)), 300_000)
