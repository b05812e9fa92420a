import sys
import unicodedata

import pytest
import regex
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
BINDING = [
    *ALPHABET,
    *"\u200d\ufe0f\u20e3#*0\U0001f3fb\U0001f3ff\U000e0067\U000e007f🇦🇧\u1100\u1160\u11a8가각\u0e33\u06dd",
]
"""What has a rule of its own."""
CLUSTER = regex.compile(r"\X")


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


def reference(text: str) -> set[int]:
    """The boundaries of an independent implementation of UAX #29."""
    return {0, *(match.end() for match in CLUSTER.finditer(text))}


def ours(text: str) -> set[int]:
    return {index for index in range(len(text) + 1) if is_boundary(text, index)}


@settings(deadline=None, max_examples=300)
@given(
    st.text(st.one_of(st.sampled_from(BINDING), st.characters(exclude_categories=["Cn", "Cs"])), max_size=12).filter(
        lambda text: all(unicodedata.combining(char) != 9 for char in text)
    )
)
def test_never_inside_a_cluster_of_the_reference(text):
    """Any characters, those that bind more often: each of our boundaries is one of the reference's.

    Viramas are left to the golden cases: the reference joins a consonant to one that follows none (GB9c does not).
    """
    assert ours(text) <= reference(text)


@pytest.mark.slow
def test_every_character_beside_every_kind_of_neighbour():
    """All assigned code points (of the large CJK and Hangul blocks some): no boundary that the reference lacks, and
    the few that it has more are known: symbols after a ZWJ, and marks that the standard lets stand alone."""
    wider = set()
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        kind = unicodedata.category(char)
        if kind in ("Cn", "Co", "Cs") or (kind == "Lo" and 0x3400 <= code <= 0xD7A3 and code % 50) or code > 0x1FFFF:
            continue
        for text in ("a" + char, char + "a", char + char, "👩\u200d" + char):
            mine, theirs = ours(text), reference(text)
            assert mine <= theirs, ascii(text)
            if mine != theirs:
                wider.add("ZWJ" if text[-2] == "\u200d" and kind[0] in "SPN" else kind)
    assert wider == {"ZWJ", "Mc", "Lo"}


@settings(deadline=None)
@given(st.text("abc \r\n.", max_size=20), st.text("\u0301\ufe0f\u200d", min_size=1, max_size=5))
def test_marks_never_begin_a_piece(text, marks):
    """Whatever stands before, a mark stays with it unless that is a control or nothing."""
    for index in range(len(text), len(text) + len(marks)):
        if index > 0 and (text + marks)[index - 1] not in "\r\n":
            assert not is_boundary(text + marks, index)
