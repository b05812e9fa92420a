from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.sentences import SentenceScanner, last_sentence_end
from tests.routing.golden import GOLDEN


def pieces(text: str, ends: list[int]) -> list[str]:
    cuts = [0, *ends, len(text)]
    return [text[a:b] for a, b in pairwise(cuts)]


@pytest.mark.parametrize("sentences", GOLDEN, ids=["".join(row)[:24] for row in GOLDEN])
def test_known_texts_are_cut_into_their_sentences(sentences):
    """Each row is one text; its parts are its sentences with the white space after them."""
    text = "".join(sentences)
    assert pieces(text, SentenceScanner().feed(text)) == sentences


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(GOLDEN), st.lists(st.integers(1, 6), min_size=1, max_size=40))
def test_ends_do_not_depend_on_how_the_text_arrived(sentences, sizes):
    """Token by token or at once, the same ends are found."""
    text = "".join(sentences)
    whole = SentenceScanner().feed(text)
    scanner, ends, at = SentenceScanner(), [], 0
    while at < len(text):
        size = sizes[at % len(sizes)]
        ends.extend(scanner.feed(text[at : at + size]))
        at += size
    assert ends == whole


@settings(deadline=None)
@given(st.text('aB1.!?。 \n"”`-#)…', max_size=80))
def test_any_text_gives_rising_ends_inside_it(text):
    """Ends rise strictly and lie inside the text; the last one is what `last_sentence_end` says."""
    ends = SentenceScanner().feed(text)
    assert ends == sorted(set(ends))
    assert all(0 < end < len(text) for end in ends)
    assert last_sentence_end(text) == (ends[-1] if ends else 0)


def test_nothing_is_known_before_the_next_character():
    """A full stop at the end of what was written so far may still be a decimal point."""
    assert last_sentence_end("It is 3.") == 0
    assert last_sentence_end("It is 3. ") == 0
    assert last_sentence_end("It is done. A") == 12


def test_a_scanner_can_begin_inside_a_fence():
    """Chunks after the first of a code block know that they are code."""
    scanner = SentenceScanner(fence="```")
    assert scanner.feed("a. B. C\n```\nText. More") == [12, 18]
    assert not scanner.fenced
