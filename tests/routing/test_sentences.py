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


class _StepByStep(SentenceScanner):
    """Looks at every character by itself."""

    __slots__ = ()

    def _pass(self, text: str, at: int) -> int:
        return 0


_SCRAPS = st.sampled_from(
    [
        *(
            "word",
            "Dr",
            "e.g",
            "am 3",
            "x_1",
            "  ",
            " ",
            "\t",
            "\n",
            "\n\n",
            "\r\n",
            ". ",
            "! ",
            "?",
            "…",
            "。",
            "」",
            "»",
            "« ",
        ),
        *(
            "- item",
            "# ",
            "| a |",
            "1. ",
            "XIV) ",
            "```",
            "```py\n",
            "~~~\n",
            "````\n",
            "`",
            "``",
            "a" * 50,
            "3.14",
            ",",
            "(b) ",
        ),
        *("日本語", "。」と", "é\u0301", "\u2028", "\u00a0", "U.S. ", "_", "-", "ÄÖ", "٣. ", "²"),
    ]
)


@settings(deadline=None, max_examples=400)
@given(
    st.lists(_SCRAPS | st.text(max_size=3), max_size=40),
    st.integers(1, 30),
    st.booleans(),
    st.sampled_from(["", "```"]),
)
def test_what_is_passed_over_at_once_is_what_it_is_character_by_character(scraps, size, own, fence):
    """The same ends and the same state, whatever the text and however it comes."""

    class Long:
        def ends(self, before: str, after: str) -> bool:
            return len(before) % 3 == 0

    text = "".join(scraps)
    segmenter = Long() if own else None
    fast = SentenceScanner(fence=fence, segmenter=segmenter)
    slow = _StepByStep(fence=fence, segmenter=segmenter)
    for at in range(0, len(text), size):
        assert fast.feed(text[at : at + size]) == slow.feed(text[at : at + size])
        assert [getattr(fast, name) for name in SentenceScanner.__slots__] == [
            getattr(slow, name) for name in SentenceScanner.__slots__
        ]
