import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.routing.graphemes import clusters, floor_boundary, is_boundary, next_boundary

# Each list is one text, cut as UAX #29 (checked with an independent \X implementation) cuts it.
GOLDEN = [
    ["a", "b"],
    ["\r\n", "\n", "\r", "a"],
    ["e\u0301", "a\u0300\u0323", "x"],
    ["👩‍👩‍👧‍👦", "!"],
    ["👍🏽", "👍"],
    ["🏳️‍🌈", "🏴‍☠️"],
    ["❤️‍🔥", "©️"],
    ["🇩🇪", "🇫🇷", "🇩"],
    ["a", "🇩🇪", "🇫", "b"],
    ["🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f", "x"],
    ["1️⃣", "#️⃣"],
    ["한", "글"],
    ["\u1112\u1161\u11ab", "\u1100\u1173\u11af"],
    ["하\u11ab", "\u1100가"],
    ["क्षि", "न्दी"],
    ["ক্ষ", "ত"],
    ["நி", "ல"],
    ["กำ", "ข"],
    ["\u0600a", "\u0601\u0602b"],
    ["か\uff9e", "日", "本"],
    ["a\u200c", "b\u200d", "c"],
    ["\u0301", "\n", "\u0301"],
    ["a", "\u200b", "b", "\u00ad", "c"],
    ["👨‍💻", "👩🏽‍🚀", "🧑🏿‍🤝‍🧑🏻"],
]
ALPHABET = sorted({char for parts in GOLDEN for part in parts for char in part})


@pytest.mark.parametrize("parts", GOLDEN)
def test_known_texts_are_cut_as_the_standard_cuts_them(parts):
    """Emoji families, skin tones, flags, tags, keycaps, Hangul, Indic conjuncts, marks, controls."""
    assert list(clusters("".join(parts))) == parts


@settings(deadline=None)
@given(st.text(ALPHABET, max_size=30), st.integers(-2, 32))
def test_boundaries_are_lossless_and_agree(text, index):
    """Clusters concatenate to the text; floor and next name neighbouring boundaries."""
    parts = list(clusters(text))
    assert "".join(parts) == text
    assert all(parts)
    floor = floor_boundary(text, index)
    assert 0 <= floor <= len(text)
    assert is_boundary(text, floor)
    assert floor <= max(index, 0)
    if floor < len(text):
        after = next_boundary(text, floor)
        assert text[floor:after] in parts


@settings(deadline=None)
@given(st.text([char for char in ALPHABET if unicodedata.combining(char) != 9], max_size=12))
def test_never_inside_a_cluster_of_the_reference(text):
    """Where the reference segmenter is installed: each of our boundaries is one of its boundaries.

    Viramas are left to the golden cases: the reference joins a consonant to one that follows none (GB9c does not).
    """
    regex = pytest.importorskip("regex")
    ends, at = {0}, 0
    for part in regex.findall(r"\X", text):
        at += len(part)
        ends.add(at)
    assert {index for index in range(len(text) + 1) if is_boundary(text, index)} <= ends


@settings(deadline=None)
@given(st.text("abc \r\n.", max_size=20), st.text("\u0301\ufe0f\u200d", min_size=1, max_size=5))
def test_marks_never_begin_a_piece(text, marks):
    """Whatever stands before, a mark stays with it unless that is a control or nothing."""
    for index in range(len(text), len(text) + len(marks)):
        if index > 0 and (text + marks)[index - 1] not in "\r\n":
            assert not is_boundary(text + marks, index)
