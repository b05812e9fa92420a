"""Segmenter: who decides whether a terminator ends a sentence.

Law of this file: only that decision can be exchanged. Where text may be cut at all (clusters, code, lists,
tables, blank lines), that ends do not depend on how text arrived, and that nothing is lost stays with
`sentences.py`, whatever decides. It is a port of the lowest layer, because cutting happens there.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Segmenter"]


class Segmenter(Protocol):
    """Decides terminators; must be pure: the same question, the same answer."""

    def ends(self, before: str, after: str) -> bool:
        """Return whether a sentence ends between `before` and `after`.

        Args:
            before: the sentence so far, its newest 400 characters; it ends with a terminator, perhaps closing
                quotes or brackets, perhaps white space.
            after: the next visible character.
        """
        ...
