"""Cutting text into chunks: never inside a character people see, where a reader would pause.

Law of this file: cutting is lossless (chunks concatenate to the text) and decides only where, never
when: text that fits is never held back. Preference: a sentence end in the second half of the
limit, else the last word end or CJK break (line-breaking rules of JIS X 4051: no full stop at the
start of a line, no opening bracket at its end), else the last cluster boundary. Words, URLs and
numbers have no white space in them, so they stay whole as long as they fit into three quarters of
a chunk. In a code fence the cut is at a line end.
"""

from __future__ import annotations

from typing import Final

from laneway.routing.errors import LocalProtocolError
from laneway.routing.graphemes import floor_boundary, is_boundary, next_boundary
from laneway.routing.segmenter import Segmenter
from laneway.routing.sentences import SentenceScanner

__all__ = ["Chunker", "cut"]

_NOT_FIRST: Final = frozenset(
    "。、，．！？：；）」』】》〉〕｝”’…ー々〻ぁぃぅぇぉっゃゅょァィゥェォッャュョ・％!?,.:;)]}"
)
"""Never begins a line."""
_NOT_LAST: Final = frozenset("（「『【《〈〔｛“‘([{")
"""Never ends a line."""


def cut(text: str, limit_chars: int, *, fenced: bool = False, segmenter: Segmenter | None = None) -> int:
    """Return where the first chunk of `text` ends: `len(text)` if it fits, else the best place.

    More than `limit_chars` only if the first cluster alone is longer. O(limit_chars).

    Args:
        text: what is to be cut.
        limit_chars: code points a chunk may have, at least 1.
        fenced: the text begins inside a code fence.
        segmenter: decides where sentences end, instead of our own rules.
    """
    if len(text) <= limit_chars:
        return len(text)
    most = floor_boundary(text, limit_chars)
    if most == 0:
        return next_boundary(text, 0)
    scanner = SentenceScanner(fenced=fenced, segmenter=segmenter)
    ends = scanner.feed(text[: most + 1])
    if ends and ends[-1] >= limit_chars // 2 and ends[-1] <= most:
        return ends[-1]
    if scanner.fenced:
        line = text.rfind("\n", 0, most) + 1
        if line:
            return line
    for index in range(most, limit_chars // 4, -1):
        if _may_break(text, index) and is_boundary(text, index):
            return index
    return most


class Chunker:
    """Cuts texts into chunks of at most `limit_chars` code points.

    Args:
        limit_chars: at least 1.

    Raises:
        LocalProtocolError: for a limit below 1.
    """

    __slots__ = ("limit_chars",)

    def __init__(self, limit_chars: int = 200) -> None:
        if limit_chars < 1:
            raise LocalProtocolError(f"a chunk limit of {limit_chars} characters cannot hold text; use >= 1")
        self.limit_chars = limit_chars

    def cut(self, text: str, limit_chars: int | None = None) -> int:
        """Return where the first chunk ends; see `cut`."""
        return cut(text, limit_chars or self.limit_chars)

    def chunks(self, text: str, limit_chars: int | None = None) -> list[str]:
        """Return the text in chunks; they concatenate to it. O(len(text))."""
        limit = limit_chars or self.limit_chars
        window = 8 * limit  # a cut looks no further, so that long texts are not copied per chunk
        scanner = SentenceScanner()
        pieces = []
        start = 0
        while start < len(text):
            size = cut(text[start : start + window], limit, fenced=scanner.fenced)
            pieces.append(text[start : start + size])
            scanner.feed(pieces[-1])
            start += size
        return pieces


def _may_break(text: str, index: int) -> bool:
    """Return whether a line may end before `text[index]`."""
    before, after = text[index - 1], text[index]
    if before.isspace() or after.isspace():
        return before.isspace()
    if after in _NOT_FIRST or before in _NOT_LAST:
        return False
    return _is_cjk(before) or _is_cjk(after)


def _is_cjk(char: str) -> bool:
    return (
        "\u3000" <= char <= "\u30ff"
        or "\u3400" <= char <= "\u9fff"
        or "\uf900" <= char <= "\ufaff"
        or "\uff00" <= char <= "\uff60"
        or "\U00020000" <= char <= "\U0003ffff"
    )
