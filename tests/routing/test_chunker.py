import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.chunker import Cutter, _may_break, _word_end, cut
from laneway.routing.envelope import Envelope, envelope
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


def about(entity: str = "m", body: bytes = b"") -> Envelope:
    return envelope("T", producer="e", counter=1, tenant="t", session="s", lane=2, run="r", entity=entity, body=body)


def pieces(text: str, limit: int, arrival: int = 10_000) -> list[str]:
    """Cut as a link does: what has arrived, a chunk at a time."""
    cutter, chunks, start = Cutter(), [], 0
    while start < len(text):
        size = cutter.cut(about(), text[start : start + arrival], limit)
        chunks.append(text[start : start + size])
        cutter.passed(about(body=chunks[-1].encode()))
        start += size
    return chunks


@settings(deadline=None)
@given(st.lists(PIECES, max_size=40).map("".join), st.integers(1, 60))
def test_chunks_are_lossless_bounded_and_never_inside_a_character(text, limit):
    """They concatenate to the text; only a single cluster may exceed the limit."""
    chunks = pieces(text, limit)
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
    assert pieces(text, limit) == ([text] if text else [])


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
    assert cut("👩‍👩‍👧‍👦x", 3) == 7
    assert cut("abc def", 5) == 4


@pytest.mark.parametrize("fence", ["```", "~~~", "````"])
@pytest.mark.parametrize("arrival", [1_000, 30, 7])
def test_a_fence_is_remembered_from_chunk_to_chunk_and_forgotten_when_it_closes(fence, arrival):
    """However little arrives at a time; its own marks close it, other and shorter ones do not."""
    code = f"{fence}py\nx = 1\n``\n~~\ny = 2\n"
    cutter = Cutter()
    for at in range(0, len(code), arrival):
        cutter.passed(about(body=code[at : at + arrival].encode()))
    line = "some words of code\nmore words of it\nand yet more"
    assert cutter.cut(about(), line, 22) == len("some words of code\n")
    assert cutter.cut(about("other"), line, 30) == len("some words of code\nmore words ")
    cutter.passed(about(body=f"  {fence}  \n".encode()))
    assert cutter.cut(about(), line, 30) == len("some words of code\nmore words ")


def test_code_in_a_line_opens_nothing():
    """Three marks and more of them in the same line."""
    cutter = Cutter()
    cutter.passed(about(body=b"```code``` and\n"))
    assert cutter.cut(about(), "one two\nthree four", 14) == len("one two\nthree ")


def test_a_sentence_that_begins_with_a_joining_mark_is_not_cut_off_before_it():
    """The mark belongs to the space that ends the sentence before: a reader sees one character there."""
    text = "awörld. wörld. \u0301a"
    assert is_boundary(text, cut(text, 16))
    assert is_boundary(text, Cutter().sentences(text))


@settings(deadline=None)
@given(st.text("ab \t\r\n\x1cé日。", min_size=20, max_size=60), st.integers(0, 8), st.integers(9, 19))
def test_the_last_word_end_is_found_as_by_looking_at_every_place(text, least, most):
    """Plain text is searched at once; the place is the same."""
    places = [at for at in range(least + 1, most + 1) if _may_break(text, at) and is_boundary(text, at)]
    assert _word_end(text, least, most) == (places[-1] if places else most)
