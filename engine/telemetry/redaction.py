"""What may be written to a log: text without secrets and without commands to a terminal.

Law of this file: each pattern begins at a fixed word and repeats nothing within a repeat, so that
hostile text costs no more than friendly text; rather too much is hidden than too little.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HIDDEN", "is_secret", "redact", "visible"]

HIDDEN: Final = "[redacted]"

_HEADERS: Final = r"authori[sz]ation|cookies?"
_WORDS: Final = (
    r"tokens?|secrets?|passwords?|passwd|pwd|passphrase|api[-_ ]?keys?|(?:private|secret|access)[-_]?keys?"
    r"|tickets?|credentials?"
)
_NAME: Final = re.compile(f"{_HEADERS}|{_WORDS}", re.IGNORECASE)
_COUNT: Final = re.compile(r"tokens\Z", re.IGNORECASE)


def _pairs(words: str, bare: str) -> re.Pattern[str]:
    """Match ``name: value``, ``name=value``, and both in quotes; `bare` is a value without quotes."""
    return re.compile(
        rf"(?P<name>{words})(?P<is>[\\\"']{{0,4}}\s{{0,8}}[:=]\s{{0,8}}|[\"'],\s{{0,8}}(?=[\"']))"
        r"(?P<value>\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?|\\+[\"'][^\"']*[\"']?"  # "quoted" or \"quoted again\"
        rf"|{bare})",
        re.IGNORECASE | re.DOTALL,
    )


_PAIRS: Final = (_pairs(_HEADERS, r"[^\r\n\"'}]+"), _pairs(_WORDS, r"[^\s,;&\"'<>}\])]+"))
_PLAIN: Final = (
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(rf"(--[\w-]{{0,32}}(?:{_WORDS})\s{{1,8}})\S+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\b(bearer)\s{1,8}[\w.~+/=-]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(basic)\s{1,8}(?=[\w+/]{0,64}[\d+/=])[\w+/=]{8,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"), HIDDEN),  # a JWT: base64 of {"
    (re.compile(r"\bsk-[\w-]{16,}"), HIDDEN),
    (re.compile(r"://[^/\s\"'<>]*@"), f"://{HIDDEN}@"),
    (re.compile(r"([?&](?:key|sig|signature|code|auth|jwt)=)[^&\s#\"'<>]+", re.IGNORECASE), rf"\1{HIDDEN}"),
)
_LAST_WORD: Final = 64
_CUT_USERINFO: Final = re.compile(r"://(?:[^/\s@:]*:(?!\d{1,5}\Z)[^/\s@]*|[^/\s@]{48,})\Z")
"""What is left of ``://user:password@`` if a text was cut before the @."""

_LINE_BREAKERS: Final = (*range(0x00, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_REORDERING: Final = (0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
_VISIBLE: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*_LINE_BREAKERS, *_REORDERING)
    if code not in (0x09, 0x0A)
} | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def is_secret(name: str, value: object = "") -> bool:
    """Say whether a field of this name is hidden, whatever it holds; a number of tokens is not."""
    if _COUNT.search(name) and isinstance(value, int | float):
        return False
    return _NAME.search(name) is not None


def redact(text: str, most_chars: int) -> str:
    """Return at most about `most_chars` of the text with secrets replaced. O(most_chars).

    Hidden: values beside words such as password, token, api_key, authorization, ticket (`name: value`,
    `name=value`, also quoted); bearer credentials, JSON web tokens, private keys, user:password and
    signatures in URLs. The text is cut first; what the cut left of a secret is hidden as well.
    """
    cut = len(text) > most_chars
    if cut:
        text = _whole_words(text[:most_chars])
    for pairs in _PAIRS:
        text = pairs.sub(_hide, text)
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return _CUT_USERINFO.sub(f"://{HIDDEN}", text) if cut else text


def _whole_words(text: str) -> str:
    """Return the text without its last word, which may be a part of a secret; a very long one stays."""
    kept, space, _ = text[-_LAST_WORD:].rpartition(" ")
    return text[:-_LAST_WORD] + kept if space else text


def _hide(pair: re.Match[str]) -> str:
    if _COUNT.search(pair["name"]) and pair["value"].isdigit():
        return pair[0]
    return f"{pair['name']}{pair['is']}{HIDDEN}"


def visible(text: str) -> str:
    """Return the text with control characters and what reorders or breaks lines written out (``\\x1b``).

    Line feed and tab stay; halves of surrogate pairs become U+FFFD, since UTF-8 cannot hold them. O(n).
    """
    return text.translate(_VISIBLE)
