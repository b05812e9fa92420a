import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.chunker import Chunker, cut
from laneway.routing.errors import LocalProtocolError
from laneway.routing.graphemes import clusters, is_boundary

PIECES = st.sampled_from(
    [
        "word ",
        "Ende. ",
        "日本語",
        "。",
        "「は」",
        "👩‍👩‍👧",
        "🇩🇪",
        "e\u0301",
        "\r\n",
        "https://a.b/c?d=e ",
        "3.14",
        "```\n",
        "code()\n",
    ]
)


@settings(deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join), st.integers(1, 60))
def test_chunks_are_lossless_bounded_and_never_inside_a_character(text, limit):
    """They concatenate to the text; only a single cluster may exceed the limit."""
    chunks = Chunker(limit).chunks(text)
    assert "".join(chunks) == text
    at = 0
    for chunk in chunks:
        assert chunk
        assert len(chunk) <= limit or len(list(clusters(chunk))) == 1
        at += len(chunk)
        assert is_boundary(text, at)


@settings(deadline=None)
@given(st.text(max_size=50), st.integers(50, 60))
def test_text_that_fits_is_never_held_back_or_cut(text, limit):
    """What fits goes whole, whatever it ends with."""
    assert cut(text, limit) == len(text)
    assert Chunker(limit).chunks(text) == ([text] if text else [])


def pieces(text: str, limit: int) -> list[str]:
    return Chunker(limit).chunks(text)


def test_a_sentence_end_in_the_second_half_is_preferred():
    """Better a full sentence than a full chunk."""
    assert pieces("This is one sentence. And here is another one.", 30) == [
        "This is one sentence. ",
        "And here is another one.",
    ]


def test_without_a_near_sentence_end_words_stay_whole():
    """White space goes with the word before it."""
    assert pieces("one two three four five six", 12) == ["one two ", "three four ", "five six"]


def test_urls_and_numbers_stay_whole_where_they_fit():
    """No cut inside something without white space."""
    assert pieces("look at https://example.com/a.b.c now", 28) == [
        "look at ",
        "https://example.com/a.b.c ",
        "now",
    ]
    assert pieces("it costs 1,234,567.89 euros", 16) == ["it costs ", "1,234,567.89 ", "euros"]


def test_cjk_is_cut_between_characters_but_not_before_a_full_stop():
    """Line-breaking rules: closing marks do not begin a chunk, opening ones do not end it."""
    assert pieces("日本語の文章です。次の文です。", 8) == ["日本語の文章で", "す。次の文です。"]
    assert pieces("日本語の文「はい」です", 6) == ["日本語の文", "「はい」です"]


def test_code_is_cut_at_line_ends_also_in_later_chunks():
    """A fence that began in an earlier chunk is remembered."""
    code = "```py\nx = call(1, 2)\ny = call(3, 4)\nz = call(5, 6)\n```\n"
    chunks = pieces(code, 24)
    assert all(chunk.endswith("\n") for chunk in chunks)
    assert "".join(chunks) == code


def test_a_cluster_longer_than_the_limit_is_not_split():
    """A family emoji counts seven code points and stays one."""
    assert pieces("👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 3) == ["👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"]
    assert Chunker(3).cut("👩‍👩‍👧‍👦x") == 7
    assert Chunker(3).cut("abc def", 5) == 4


def test_a_limit_below_one_is_refused():
    """It could never make progress."""
    with pytest.raises(LocalProtocolError):
        Chunker(0)
