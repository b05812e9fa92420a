from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.sentences import SentenceScanner, last_sentence_end

GOLDEN = [
    # English
    ["Hello there. ", "How are you? ", "Fine!"],
    ["It costs 3.14 dollars. ", "Pay now."],
    ["Version 2.0.1 is out. ", "Get it at example.com/path.html today."],
    ["See https://example.com/a.b?c=d.e. ", "Then go."],
    ["Dr. Smith met Mrs. Jones. ", "They talked."],
    ["J. R. R. Tolkien wrote it. ", "I read it."],
    ["Use a tool, e.g. a hammer. ", "Or not."],
    ["That is, i.e. this one, is good. ", "Yes."],
    ["We met at 5 p.m. ", "Then we left."],
    ["He lives in the U.S. ", "She does not."],
    ["See Fig. 3 and No. 5 for details. ", "The rest is clear."],
    ["He said no. ", "Then he left."],
    ["Well... maybe not. ", "Wait… ", "What?"],
    ["Really?! ", "Yes!!! ", "No."],
    ['"Stop." ', "He stopped."],
    ["“Come in.” ", "She came in."],
    ['"Really?" she asked. ', "He nodded."],
    ["(This is an aside.) ", "This is not."],
    ["It works (mostly.) and well. ", "Good."],
    ["*Bold claim.* ", "Proof follows."],
    ["He ate eggs etc. and left. ", "Fine."],
    ["Is it a.b or c.d? ", "Neither."],
    ["The year was 2024. ", "All was well."],
    ["Acme vs. Foo was decided. ", "Next case."],
    ["One sentence.\n", "Another one."],
    ["A heading\n\n", "A paragraph without end\n\n", "Another."],
    ["No end here, only text"],
    ["Done! ", "🎉 Party."],
    # Lists, headings, code
    ["Steps:\n", "1. Open the box.\n", "2. Close it.\n", "10) Rest."],
    ["Items\n", "- first\n", "- second. ", "Still second.\n", "* third"],
    ["# Title\n", "## Part\nText that wraps\nover two lines. ", "End."],
    ["Look:\n", "```py\nprint('a. B')\n\nx = 1. \nY\n```\n", "Done. ", "Yes."],
    ["~~~\nA. B. C! D\n~~~\n", "After it."],
    ["Below -5. ", "Above 5 - 3 it ends."],
    # German
    ["Das ist z. B. ein Test. ", "Er geht weiter."],
    ["Das gilt z.B. hier bzw. dort. ", "Gut."],
    ["Am 3. Oktober ist Feiertag. ", "Alle ruhen."],
    ["Er kam als 1. ins Ziel. ", "Toll!"],
    ["Prof. Dr. Müller kommt ca. 5 Minuten später. ", "Warten wir?"],
    ["„Komm her.“ ", "Sie kam."],
    ["Das kostet 1.234,56 Euro. ", "Zu viel."],
    ["Vgl. Abb. 3 auf S. 5 des Buchs. ", "Ende."],
    # Chinese and Japanese
    ["你好。", "今天天气很好！", "你呢？", "我也很好。"],
    ["他说：“走吧。”", "然后走了。"],
    ["价格是3.5元。", "很便宜。"],
    ["真的吗？！", "是的。"],
    ["我想……也许不行。", "算了。"],
    ["「行こう。」と言った。", "彼は出た。"],
    ["これはペンです。", "あれは本です。"],
    ["そうですか？ ", "はい。"],
    ["（注意。）", "続き。"],
    ["混合 text here. ", "下一句。", "Next one."],
    # Others
    ["यह एक वाक्य है। ", "यह दूसरा है।"],
    ["هل أنت بخير؟ ", "نعم."],
]


def pieces(text: str, ends: list[int]) -> list[str]:
    cuts = [0, *ends, len(text)]
    return [text[a:b] for a, b in pairwise(cuts)]


@pytest.mark.parametrize("sentences", GOLDEN, ids=range(len(GOLDEN)))
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
    scanner = SentenceScanner(fenced=True)
    assert scanner.feed("a. B. C\n```\nText. More") == [12, 18]
    assert not scanner.fenced
