"""What a segmenter is asked, and what stays with the scanner whatever it answers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.chunker import cut
from laneway.routing.segmenter import Segmenter
from laneway.routing.sentences import SentenceScanner, last_sentence_end


class Always:
    """Says yes, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def ends(self, before: str, after: str) -> bool:
        self.asked.append((before, after))
        return True


class Never:
    def ends(self, before: str, after: str) -> bool:
        return False


def test_it_is_asked_once_for_each_terminator_and_shown_the_sentence_so_far() -> None:
    """Decimals and file names have no white space behind their full stops: nobody is asked."""
    always: Always = Always()
    assert SentenceScanner(segmenter=always).feed("Dr. No has 3.5 of a.b. “Why?” he。はい") == [4, 23, 30, 33]
    assert always.asked == [("Dr. ", "N"), ("No has 3.5 of a.b. ", "“"), ("“Why?” ", "h"), ("he。", "は")]


def test_it_is_shown_four_hundred_characters_at_most() -> None:
    """A text without an end costs the same for each terminator."""
    always = Always()
    SentenceScanner(segmenter=always).feed("word " * 500 + "end. Next")
    assert [len(before) for before, _ in always.asked] == [400]


@pytest.mark.parametrize("segmenter", [Always(), Never()], ids=["always", "never"])
def test_lines_code_and_lists_are_not_its_to_decide(segmenter: Segmenter) -> None:
    """No end in code, an end at a list's item and at a blank line, whatever it says."""
    text = "See\n```\nA. B\n```\nText\n- item\n\nEnd"
    assert SentenceScanner(segmenter=segmenter).feed(text) == [4, 17, 22, 30]


def test_the_chunker_and_held_text_follow_it() -> None:
    """The same text is cut elsewhere."""
    text = "It was so no. Then it went on for a long while."
    assert cut(text, 20) == cut(text, 20, segmenter=Always()) == 14
    assert cut(text, 20, segmenter=Never()) == 19
    assert (last_sentence_end(text), last_sentence_end(text, Never())) == (14, 0)


@settings(deadline=None, max_examples=60)
@given(st.text('aB1.!?。 \n"”»`-#)…|', max_size=60), st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_what_it_is_asked_does_not_depend_on_how_the_text_arrived(text: str, sizes: list[int]) -> None:
    """Piece by piece it hears the same questions, so the ends are the same."""
    whole, pieces = Always(), Always()
    ends = SentenceScanner(segmenter=whole).feed(text)
    scanner, found, at = SentenceScanner(segmenter=pieces), [], 0
    while at < len(text):
        size = sizes[at % len(sizes)]
        found += scanner.feed(text[at : at + size])
        at += size
    assert (found, pieces.asked) == (ends, whole.asked)
