"""Cutting text into chunks: never inside a character people see, where a reader would pause.

Law of this file: cutting is lossless (chunks concatenate to the text) and decides only where, never
when: text that fits is never held back. Preference: a sentence end in the second half of the
limit, else the last word end or CJK break (line-breaking rules of JIS X 4051: no full stop at the
start of a line, no opening bracket at its end), else the last cluster boundary. Words, URLs and
numbers have no white space in them, so they stay whole as long as they fit into three quarters of
a chunk. In a code fence the cut is at a line end.
"""

from __future__ import annotations

import re
from typing import Final

from laneway.routing.envelope import Envelope
from laneway.routing.graphemes import floor_boundary, is_boundary, next_boundary
from laneway.routing.segmenter import Segmenter
from laneway.routing.sentences import SentenceScanner, last_sentence_end

__all__ = ["Cutter", "cut"]

_NOT_FIRST: Final = frozenset(
    "。、，．！？：；）」』】》〉〕｝”’…ー々〻ぁぃぅぇぉっゃゅょァィゥェォッャュョ・％!?,.:;)]}"
)
"""Never begins a line."""
_NOT_LAST: Final = frozenset("（「『【《〈〔｛“‘([{")
"""Never ends a line."""
_SPACED: Final = re.compile(r".*\s", re.DOTALL)
_LINE_BYTES: Final = 64
_MARKS: Final = frozenset((b"`", b"~"))


def cut(text: str, limit_chars: int, *, fence: str = "", segmenter: Segmenter | None = None) -> int:
    """Return where the first chunk of `text` ends: `len(text)` if it fits, else the best place.

    More than `limit_chars` only if the first cluster alone is longer. O(limit_chars).

    Args:
        text: what is to be cut.
        limit_chars: code points a chunk may have, at least 1.
        fence: the marks of the code fence that the text begins in.
        segmenter: decides where sentences end, instead of our own rules.
    """
    if len(text) <= limit_chars:
        return len(text)
    most = floor_boundary(text, limit_chars)
    if most == 0:
        return next_boundary(text, 0)
    scanner = SentenceScanner(fence=fence, segmenter=segmenter)
    for end in reversed(scanner.feed(text[: most + 1])):
        if end < limit_chars // 2:
            break
        if end <= most and is_boundary(text, end):  # a sentence may begin with a mark that joins the space before it
            return end
    if scanner.fenced:
        line = text.rfind("\n", 0, most) + 1
        if line:
            return line
    return _word_end(text, limit_chars // 4, most)


def _word_end(text: str, least: int, most: int) -> int:
    """Return the last place above `least` and up to `most` where a line may end, or `most`."""
    if text[least : most + 1].isascii():  # only behind white space
        spaced = _SPACED.match(text, least, most)
        if spaced is None:
            return most
        if is_boundary(text, spaced.end()):
            return spaced.end()
    for index in range(most, least, -1):
        if _may_break(text, index) and is_boundary(text, index):
            return index
    return most


class Cutter:
    """Cuts the text of one link, which comes a piece at a time: it knows in which code fence a message stands.

    Of one message at a time: of those that alternate, and after a reconnect in the middle of one, it knows nothing,
    and code is then cut like text. Lossless all the same.

    Args:
        segmenter: decides where sentences end; None = our own rules.

    Attributes:
        before: the text that went last.
        follows: in a code block, or in a line that may open one.
    """

    __slots__ = ("_about", "_fence", "_line", "_segmenter", "before", "follows")

    def __init__(self, segmenter: Segmenter | None = None) -> None:
        self._segmenter = segmenter
        self.before: Envelope | None = None
        self.follows = False
        self._about: tuple[str, str] = ("", "")  # run and entity of what is known here
        self._fence = b""  # the marks that opened the block we are in
        self._line = b""  # a line that begins with marks and has not ended

    def cut(self, env: Envelope, text: str, limit_chars: int) -> int:
        """Return where the next chunk of this message ends; see `cut`."""
        return cut(text, limit_chars, fence=self._inside(env), segmenter=self._segmenter)

    def sentences(self, text: str) -> int:
        """Return where the last sentence ends that is known to be over, or 0."""
        return last_sentence_end(text, self._segmenter)

    def passed(self, env: Envelope) -> None:
        """This text goes out. Who goes through many spares the call for one without "`" and "~" while nothing
        `follows`, and sets `before`."""
        body, before, self.before = env[11], self.before, env
        if not self.follows and b"`" not in body and b"~" not in body:
            return
        if _about(env) != self._about:
            self._about, self._fence, self._line = _about(env), b"", b""
        last = before[11] if before is not None and _about(before) == self._about else b"\n"
        *lines, line = ((self._line or last[last.rfind(b"\n") + 1 :][-_LINE_BYTES:]) + body).split(b"\n")
        for each in lines:
            self._fence = _fence_after(each.strip(), self._fence)
        self._line = line[:_LINE_BYTES] if line.lstrip()[:1] in _MARKS else b""
        self.follows = bool(self._fence or self._line)

    def _inside(self, env: Envelope) -> str:
        return (self._fence or _opens(self._line)).decode("ascii") if self._about == _about(env) else ""


def _about(env: Envelope) -> tuple[str, str]:
    return env[5], env[6]


def _opens(line: bytes) -> bytes:
    """Return the marks that open a code block at the start of this line, or nothing."""
    line = line.lstrip()
    mark = line[:1]
    if mark not in _MARKS:
        return b""
    marks = line[: len(line) - len(line.lstrip(mark))]
    return marks if len(marks) >= 3 and not (mark == b"`" and mark in line[len(marks) :]) else b""


def _fence_after(line: bytes, fence: bytes) -> bytes:
    """Return the fence behind a whole line: one of nothing but at least as many marks closes it."""
    if not fence:
        return _opens(line)
    return b"" if len(line) >= len(fence) and not line.strip(fence[:1]) else fence


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
