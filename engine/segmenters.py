"""Segmenters by name: our own rules, or those of a library.

Law of this file: the library is imported when it is asked for, and is asked one question only: whether a
terminator ends a sentence (`routing/segmenter.py`). So what it does with code or lists does not matter,
and nothing that it would lose is lost.
"""

from __future__ import annotations

from typing import Any, Final

from laneway.routing.errors import ConfigError
from laneway.routing.segmenter import Segmenter

__all__ = ["SentencexSegmenter", "segmenter_of"]

_BUILTIN: Final = "builtin"
_SENTENCEX: Final = "sentencex"


class SentencexSegmenter:
    """Wikimedia's rules, for some 300 languages (https://github.com/wikimedia/sentencex).

    A question costs 2 to 7 us (measured, 60 and 400 characters), and only terminators ask.

    Args:
        language: ISO 639 code of what is mostly written; one without rules falls back to another's.

    Raises:
        ConfigError: the package is not installed.
    """

    __slots__ = ("_boundaries", "_language")

    def __init__(self, language: str = "en") -> None:
        try:
            from sentencex import get_sentence_boundaries
        except ImportError:
            raise ConfigError("sentences by sentencex need its package: pip install 'laneway[sentencex]'") from None
        self._boundaries: Any = get_sentence_boundaries
        self._language = language

    def ends(self, before: str, after: str) -> bool:
        """As `Segmenter.ends`: whether a boundary stands between the two."""
        found = self._boundaries(self._language, before + after)
        return any(each["end_index"] == len(before) for each in found)


def segmenter_of(name: str, language: str) -> Segmenter | None:
    """Return the segmenter of a setting; None = our own rules. Raises ConfigError, also for a name unknown here."""
    if name == _BUILTIN:
        return None
    if name == _SENTENCEX:
        return SentencexSegmenter(language)
    raise ConfigError(f"segmenter {name[:80]!r} is not known; there are {_BUILTIN} and {_SENTENCEX}")
