"""Sentence ends in text that is still being written, character by character.

Law of this file: an end is reported where the next sentence begins, and only once that is known:
a Latin full stop ends nothing before white space and the character after it were seen, so `3.14`,
`example.com` and `e.g. this` stay whole. The scanner holds a few dozen characters of state,
whatever the text's length, and never needs to see text twice.

Covered: scripts with Latin, Arabic, Devanagari, CJK and a few other terminators (Thai has none: only
line breaks end there), German abbreviations, ordinals and low quotes, quotation particles of Japanese,
spaced guillemets of French, decimals, versions, URLs, initials, ellipses, closing quotes and brackets,
blank lines, lists, headings, rows of tables, code fences and code in a line (no end inside).

Undecidable and therefore a choice: a Chinese `……` ends a sentence only before white space or a line
break; a single letter before a full stop is an initial ("Plan B. Then"); a lower-case letter goes on.
A `Segmenter` may decide terminators instead.
"""

from __future__ import annotations

import re
from typing import Final

from laneway.routing.graphemes import is_boundary
from laneway.routing.segmenter import Segmenter

__all__ = ["SentenceScanner", "last_sentence_end"]

_NARROW: Final = frozenset(".!?…؟۔‼⁇⁈⁉։።፧")
"""Terminators that need white space after them."""
_WIDE: Final = frozenset("。！？｡︒．।॥။")
"""Terminators that need none."""
_CLOSERS: Final = frozenset("\"'”’“»›«‹)]}】」』）》〉〕*_`")
_CONTINUES: Final = frozenset("と、，,；;って：:—")
"""What carries a sentence on after a wide terminator in closing quotes ("「行こう。」と言った")."""
_WORD: Final = frozenset("-'’@/:_%&=+#~$€£°")
_PLAIN: Final = re.compile(rf"[\w {re.escape(''.join(sorted(_WORD)))}]{{2,}}")
"""What is neither a terminator nor anything else that ends or opens something: words and the spaces between them."""
_MARKER: Final = re.compile(r"(?:[-*+•] |#{1,6} |(?:\d{1,3}|[IVXLC]{1,5})[.)] |> |```|~~~|\|)")
_MARKER_CHARS: Final = 7
_MARKS: Final = frozenset("-*+•#IVXLC>`~|")
_NO_MARK: Final = "." * _MARKER_CHARS
_AFTER_CLOSING: Final = frozenset(".,;:!?")
"""What may stand right behind a spaced closing guillemet; before anything else it opens (German)."""
_TAIL_CHARS: Final = 400
"""What a segmenter is shown of a sentence."""
_WORD_CHARS: Final = 40


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ABBREVIATIONS: Final = _words(
    """
    mr mrs ms dr prof mt rev gen col maj sgt lt capt adm sen gov rep hon messrs vs cf al eds approx dept univ est st
    bzw ggf evtl vgl str hrsg inkl exkl bspw sog zzgl tel allg gegr geb gest anm dipl hr fr
    """
)
"""Hardly ever the last word of a sentence (English, German)."""
_BEFORE_NUMBERS: Final = _words(
    """
    no nos pp fig figs eq eqs sec ch vol vols ext ed jan feb mar apr jun jul aug sep sept oct nov dec
    nr abb bd art abs kap ziff aufl ca max min mind jh
    """
)
"""Abbreviations only if a number follows."""
_MAY_END: Final = _words("a.m p.m u.s u.k")
_ORDINAL_LEADS: Final = _words(
    "der die das dem den des am im zum zur vom beim ab bis seit vor nach und jeder jede jedes"
)
"""A one- or two-digit number after these is a German ordinal ("am 3. Oktober")."""


class SentenceScanner:
    """Feed text in any pieces; the ends reported do not depend on how it was cut.

    Args:
        fence: the marks of the code fence that the text begins in.
        segmenter: decides terminators that have white space after them or need none, instead of the rules here.
    """

    __slots__ = (
        "_at",
        "_breaks",
        "_closer",
        "_code",
        "_fence",
        "_guillemet",
        "_last",
        "_line",
        "_line_at",
        "_opening",
        "_previous",
        "_row",
        "_run",
        "_segmenter",
        "_space",
        "_tail",
        "_unit",
        "_word",
    )

    def __init__(self, *, fence: str = "", segmenter: Segmenter | None = None) -> None:
        self._at = 0
        self._last = 0
        self._word = ""  # the word before the position, its inner dots included
        self._previous = ""  # the word before that
        self._run = ""  # terminators just seen, perhaps followed by a closer and white space
        self._closer = ""
        self._guillemet = -1  # where a » stands behind a terminator and white space
        self._space = False
        self._breaks = 0  # line breaks since the last visible character
        self._line = ""  # the first visible characters of this line
        self._line_at = -1
        self._code = False  # inside `code` in a line
        self._row = False  # in the row of a table
        self._unit = False  # in a line that is one by itself: a heading, a row
        self._fence = fence
        self._opening = False
        self._segmenter = segmenter
        self._tail = ""

    @property
    def fenced(self) -> bool:
        """True inside a code fence."""
        return bool(self._fence)

    def feed(self, text: str) -> list[int]:
        """Return the offsets, from the first text fed, at which a next sentence begins. O(len(text)).

        What stands between two marks is looked at as a whole: 200 characters of prose take about 15 us.
        """
        ends: list[int] = []
        at, size = 0, len(text)
        while at < size:
            if not self._run and (passed := self._pass(text, at)):
                at += passed
                self._at += passed
                continue
            char = text[at]
            if self._fence:
                self._in_fence(char)
            else:
                self._step(char, ends)
                if self._segmenter is not None:
                    self._tail = (self._tail + char)[-_TAIL_CHARS:]
            at += 1
            self._at += 1
        return ends

    def _pass(self, text: str, at: int) -> int:
        """Go over characters from `at` on that end nothing, all at once; return how many. As `_step` for each."""
        if self._fence:
            return 0 if self._opening else self._pass_code(text, at)
        if self._breaks or len(self._line) < _MARKER_CHARS or (plain := _PLAIN.match(text, at)) is None:
            return 0
        words = (self._word + plain.group()).split()
        self._word = "" if text[plain.end() - 1] == " " else words.pop()[-_WORD_CHARS:]
        if words:
            self._previous = words[-1][-_WORD_CHARS:]
        if self._segmenter is not None:
            self._tail = (self._tail + plain.group())[-_TAIL_CHARS:]
        return plain.end() - at

    def _pass_code(self, text: str, at: int) -> int:
        """The same up to the end of a line of code."""
        end = text.find("\n", at)
        code = text[at:] if end < 0 else text[at:end]
        self._line = (self._line + code if self._line else code.lstrip())[: _MARKER_CHARS * 4]
        return len(code)

    def _step(self, char: str, ends: list[int]) -> None:
        space = char.isspace()
        if char == "`":
            self._code = not self._code
        if self._track_line(char, space, ends):
            return
        if self._run and not self._after_run(char, space, ends):
            return
        if space:
            self._breaks += char == "\n"
            if self._word:
                self._previous, self._word = self._word, ""
            return
        if self._breaks >= 2:
            self._report(self._at, ends)
        self._breaks = 0
        if (char in _NARROW or char in _WIDE) and not self._row:
            self._run, self._closer, self._space, self._guillemet = char, "", False, -1
        elif char.isalnum() or char in _WORD:
            self._word = (self._word + char)[-_WORD_CHARS:]
        else:
            self._word = ""

    def _track_line(self, char: str, space: bool, ends: list[int]) -> bool:
        """Follow the beginning of the line; True if `char` completed a list, heading, row or fence mark."""
        if char == "\n":
            self._breaks += self._unit
            self._line, self._line_at = "", -1
            self._code = self._row = self._unit = False
            return False
        if self._line_at < 0:
            if space:
                return False
            self._line, self._line_at = (char if char.isdigit() or char in _MARKS else _NO_MARK), self._at
        elif len(self._line) < _MARKER_CHARS:
            self._line += char
        else:
            return False
        if _MARKER.fullmatch(self._line) is None:
            return False
        self._report(self._line_at, ends)
        if self._line in ("```", "~~~"):
            self._fence, self._opening, self._code = self._line, True, False
        self._row = self._line == "|"
        self._unit = self._line[0] in "|#"
        self._run, self._word, self._previous, self._breaks = "", "", "", 0
        return True

    def _after_run(self, char: str, space: bool, ends: list[int]) -> bool:
        """Handle what follows a terminator; True if `char` is then an ordinary character."""
        if self._guillemet >= 0 and self._after_guillemet(char, space, ends):
            return True
        if space:
            self._space = True
            self._breaks += char == "\n"
            return False
        if not self._space:
            if char in _NARROW or char in _WIDE:
                self._run = (self._run + char)[-4:]
                return False
            if char in _CLOSERS:
                self._closer = char
                return False
        elif char == "»" and not self._breaks and self._guillemet < 0:
            self._guillemet = self._at
            return False
        if self._ends(char):
            self._report(self._at, ends)
        elif not self._space and self._run == "." and not self._closer and self._word:
            self._word += "."
        elif self._space or self._closer:
            self._previous, self._word = self._word, ""
        self._run = ""
        if self._at == self._last:
            self._word = self._previous = ""
        return True

    def _after_guillemet(self, char: str, space: bool, ends: list[int]) -> bool:
        """Decide a » behind white space: it closes before white space or punctuation, else it opens a sentence."""
        at, self._guillemet = self._guillemet, -1
        if space or char in _AFTER_CLOSING:
            self._closer = "»"
            return False
        if self._ends("»"):
            self._report(at, ends)
        self._run = self._word = self._previous = ""
        return True

    def _ends(self, char: str) -> bool:
        """Decide a terminator, given the next visible character."""
        if self._breaks >= 2:
            return True
        if self._code or not (self._space or not _WIDE.isdisjoint(self._run)):
            return False
        return self._is_end(char) if self._segmenter is None else self._segmenter.ends(self._tail, char)

    def _is_end(self, char: str) -> bool:
        if not _WIDE.isdisjoint(self._run):
            return not (self._closer and char in _CONTINUES)
        if char.islower():
            return False
        word = self._word.lower()
        if self._run != ".":
            return True
        if self._closer:
            return self._closer not in ")]" or word not in _ABBREVIATIONS
        if word in _MAY_END:
            return True
        if word in _BEFORE_NUMBERS and char.isdigit():
            return False
        if word in _ABBREVIATIONS or all(len(part) == 1 and part.isalpha() for part in word.split(".")):
            return False
        return not (word.isdigit() and len(word) <= 2 and self._previous.lower() in _ORDINAL_LEADS)

    def _in_fence(self, char: str) -> None:
        """Follow a fenced block: it is closed by a line of nothing but at least as many of its marks."""
        mark = self._fence[0]
        if char != "\n":
            if not self._opening:
                self._line = (self._line + char)[: _MARKER_CHARS * 4] if self._line or not char.isspace() else ""
            elif char == mark and self._fence == self._line:
                self._fence = self._line = self._line + char
            elif char == mark == "`":
                self._fence, self._opening = "", False  # ```code``` in a line
            else:
                self._line = " "  # all marks of the opening were seen
            return
        line = self._line.rstrip()
        if not self._opening and len(line) >= len(self._fence) and not line.strip(mark):
            self._fence, self._breaks = "", 2
        self._opening = False
        self._line, self._line_at = "", -1

    def _report(self, at: int, ends: list[int]) -> None:
        if at > self._last:
            self._last = at
            ends.append(at)
            self._tail = self._tail[len(self._tail) - (self._at - at) :] if self._at > at else ""


def last_sentence_end(text: str, segmenter: Segmenter | None = None) -> int:
    """Return where the last sentence that is known to be over ends (white space included), or 0."""
    ends = SentenceScanner(segmenter=segmenter).feed(text)
    return next((end for end in reversed(ends) if is_boundary(text, end)), 0)
