"""The segmenters that a setting can name, and where the two of them disagree."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laneway.engine.config import Config
from laneway.engine.segmenters import SentencexSegmenter, segmenter_of
from laneway.routing.chunker import cut
from laneway.routing.errors import ConfigError
from laneway.routing.sentences import SentenceScanner
from tests.routing.golden import BY_LANGUAGE, GOLDEN
from tests.routing.test_sentences import pieces

DISAGREEMENTS = {
    "See https://example.com/a.b?c=d.e. Then go.": "a URL before the full stop hides it",
    "Open main.py and README.md. Then run ./build.sh now.": "so does a file name",
    "He lives in the U.S. She does not.": "U.S. is never the end of a sentence",
    "He said no. Then he left.": "no. is always the abbreviation of number",
    "Well... maybe not. Wait… What?": "one character … never ends a sentence",
    "“And so…” He paused.": "likewise",
    "(This is an aside.) This is not.": "a full stop inside brackets ends nothing",
    "[It is here.] And there.": "likewise",
    "Wow!!! (Really.) OK.": "likewise",
    "（注意。）続き。": "likewise",
    "*Bold claim.* Proof follows.": "marks of emphasis are no closing quotes",
    "**Note.** This matters. _Really._ Yes.": "likewise",
    "Louis XIV. was king. Henry VIII was too.": "a lower-case letter may begin a sentence",
    "It stopped. iOS did not.": "likewise; here it is right",
    "Am 3. Oktober ist Feiertag. Alle ruhen.": "an ordinal is known by the name of the month only in some languages",
    "「行こう。」と言った。彼は出た。": "a quotation always ends its sentence",
    "M. Dupont est là. Bien.": "M. is no abbreviation of its French",
}
"""Text -> why sentencex cuts it otherwise than the golden set, which our own rules follow."""


def test_where_the_two_disagree_is_exactly_this_table() -> None:
    """Of all golden texts, each asked in its language. A row too many or too few fails, so the table cannot rot."""
    differ = set()
    for language, rows in BY_LANGUAGE.items():
        segmenter = SentencexSegmenter(language)
        for sentences in rows:
            text = "".join(sentences)
            if pieces(text, SentenceScanner(segmenter=segmenter).feed(text)) != sentences:
                differ.add(text)
    assert differ == set(DISAGREEMENTS)
    assert len(GOLDEN) >= 120


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(GOLDEN).map("".join), st.integers(1, 30), st.integers(1, 7))
def test_it_changes_no_character_and_does_not_depend_on_arrival(text: str, limit: int, size: int) -> None:
    """Cut by it, in any pieces: the same ends, and the chunks are the text."""
    segmenter = SentencexSegmenter("en")
    scanner = SentenceScanner(segmenter=segmenter)
    ends = [end for at in range(0, len(text), size) for end in scanner.feed(text[at : at + size])]
    assert ends == SentenceScanner(segmenter=segmenter).feed(text)
    left, chunks = text, []
    while left:
        end = cut(left, limit, segmenter=segmenter)
        chunks.append(left[:end])
        left = left[end:]
    assert "".join(chunks) == text
    assert all(chunks)


def test_characters_are_counted_as_we_count_them() -> None:
    """An offset behind emoji is one of code points."""
    assert SentencexSegmenter().ends("👩‍👩‍👧‍👦 hi. ", "É")
    assert not SentencexSegmenter().ends("👩‍👩‍👧‍👦 e.g. ", "a")


def test_a_setting_names_it() -> None:
    """`session.segmenter`, and `session.language`; our own rules by default."""
    assert Config().session_policy().link.segmenter is None
    config = Config.model_validate({"session": {"segmenter": "sentencex", "language": "de"}})
    segmenter = config.session_policy().link.segmenter
    assert isinstance(segmenter, SentencexSegmenter)
    assert not segmenter.ends("Das ist z.B. ", "S")
    with pytest.raises(ConfigError, match="builtin and sentencex"):
        segmenter_of("nltk", "en")


def test_without_its_package_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first sentence, but when it is chosen."""
    monkeypatch.setitem(sys.modules, "sentencex", None)
    with pytest.raises(ConfigError, match=r"pip install 'laneway\[sentencex\]'"):
        segmenter_of("sentencex", "en")
