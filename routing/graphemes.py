"""Where text may be cut: between extended grapheme clusters, what people see as one character.

Law of this file: never say "boundary" inside a cluster; where the standard library does not have
the exact property, err to the side of not cutting. Rules: Unicode UAX #29, GB1-GB999, decided
from the two neighbours of a position plus, for flags, the run of regional indicators before it.

Covered exactly by categories of `unicodedata`: CRLF and controls (GB3-5), Hangul syllables
(GB6-8), combining marks, variation selectors, skin tones, tags (GB9, GB9a), prepended marks
(GB9b), flags (GB12-13). Wider than the standard (joins a little more, splits nothing):
ZWJ sequences join before any symbol in the emoji blocks (GB11), and a virama joins the letter
after it in every Indic script (GB9c). Marks newer than the interpreter's Unicode tables (14.0 in
Python 3.11) count as letters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from unicodedata import category, combining

__all__ = ["clusters", "floor_boundary", "is_boundary", "next_boundary"]

_ZWNJ: Final = "\u200c"
_ZWJ: Final = "\u200d"
_VIRAMA: Final = 9
"""Canonical combining class of viramas, which bind the consonant that follows."""
_MARKS: Final = 8
"""Marks between two joined consonants that are looked through."""
_PREPEND: Final = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3"
    "\U0001193f\U00011941\U00011a3a\U00011a84\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89\U00011d46"
)
"""Grapheme_Cluster_Break=Prepend: number signs and the like, which stand before what they belong to."""
_PICTOGRAPHS: Final = frozenset("©®‼⁉™ℹ〰〽㊗㊙")
_SPACING_LETTERS: Final = frozenset("\u0e33\u0eb3")
"""Thai and Lao SARA AM: letters that are spacing marks of the letter before (GB9a)."""


def is_boundary(text: str, index: int) -> bool:
    """Return whether text may be cut before `text[index]`; ends are boundaries. O(1), O(run) for flags."""
    if index <= 0 or index >= len(text):
        return True
    before, after = text[index - 1], text[index]
    if after < "\u0300" and before < "\u0300":
        return not (before == "\r" and after == "\n")
    if _is_control(before) or _is_control(after):
        return True
    if _is_extending(after) or before in _PREPEND:
        return False
    if before == _ZWJ and _is_pictograph(after):
        return False
    if _joins_hangul(before, after):
        return False
    if _is_regional(before) and _is_regional(after):
        return _regional_run(text, index) % 2 == 0
    return not (_is_indic(after) and _binds(text, index))


def floor_boundary(text: str, index: int) -> int:
    """Return the last boundary at or before `index`. O(length of the cluster)."""
    while not is_boundary(text, index):
        index -= 1
    return max(0, min(index, len(text)))


def next_boundary(text: str, index: int) -> int:
    """Return the first boundary after `index`, `len(text)` at most. O(length of the cluster)."""
    index += 1
    while not is_boundary(text, index):
        index += 1
    return min(index, len(text))


def clusters(text: str) -> Iterator[str]:
    """Yield the clusters of a text; their concatenation is the text."""
    start = 0
    while start < len(text):
        end = next_boundary(text, start)
        yield text[start:end]
        start = end


def _is_control(char: str) -> bool:
    kind = category(char)
    if kind == "Cf":
        return char not in (_ZWNJ, _ZWJ) and char not in _PREPEND and not "\U000e0020" <= char <= "\U000e007f"
    return kind in ("Cc", "Zl", "Zp", "Cs")


def _is_extending(char: str) -> bool:
    """Extend, ZWJ or SpacingMark: never the start of a cluster after something visible."""
    if char in (_ZWNJ, _ZWJ) or "\U0001f3fb" <= char <= "\U0001f3ff" or "\U000e0020" <= char <= "\U000e007f":
        return True
    return category(char)[0] == "M" or char in _SPACING_LETTERS or char in "\uff9e\uff9f"


def _is_pictograph(char: str) -> bool:
    return (
        "\u2190" <= char <= "\u2bff" or "\U0001f000" <= char <= "\U0001faff" or char in _PICTOGRAPHS
    ) and not _is_regional(char)


def _is_regional(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _regional_run(text: str, index: int) -> int:
    """Count the regional indicators just before `index`."""
    start = index
    while start > 0 and _is_regional(text[start - 1]):
        start -= 1
    return index - start


def _binds(text: str, index: int) -> bool:
    """Return whether a virama is among the marks just before `index`, so that a consonant there joins."""
    start = index - 1
    while start > 0 and index - start <= _MARKS and _is_extending(text[start]):
        if combining(text[start]) == _VIRAMA:
            return True
        start -= 1
    return False


def _is_indic(char: str) -> bool:
    indic = "\u0900" <= char <= "\u1cff" or "\ua800" <= char <= "\uabff" or "\U00010a00" <= char <= "\U00011fff"
    return indic and category(char) == "Lo"


def _joins_hangul(before: str, after: str) -> bool:
    left, right = _hangul(before), _hangul(after)
    if left == "L":
        return right in ("L", "V", "LV", "LVT")
    if left in ("LV", "V"):
        return right in ("V", "T")
    return left in ("LVT", "T") and right == "T"


def _hangul(char: str) -> str:
    """Return the Hangul syllable type, or empty."""
    if "\uac00" <= char <= "\ud7a3":
        return "LVT" if (ord(char) - 0xAC00) % 28 else "LV"
    if "\u1100" <= char <= "\u115f" or "\ua960" <= char <= "\ua97c":
        return "L"
    if "\u1160" <= char <= "\u11a7" or "\ud7b0" <= char <= "\ud7c6":
        return "V"
    if "\u11a8" <= char <= "\u11ff" or "\ud7cb" <= char <= "\ud7fb":
        return "T"
    return ""
