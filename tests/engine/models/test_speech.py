"""Speech as events."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from laneway.actors.nlp.sequence import RunSequence
from laneway.engine.models.speech import Speech


@given(st.lists(st.tuples(st.sampled_from(["", "r"]), st.sampled_from(["", "t"])), max_size=20))
def test_speech_is_a_legal_sequence(pieces: list[tuple[str, str]]) -> None:
    """Any mix of reasoning and text is opened, spoken and closed by the rules, and no text is lost."""
    numbers = count()
    speech, sequence = Speech(lambda: f"m{next(numbers)}"), RunSequence()
    outs = [out for reasoning, text in pieces for out in speech.say(reasoning, text)] + speech.end()
    for out in outs:
        sequence.offer(out)
    assert len(sequence) == 0
    assert speech.text == "".join(text for _, text in pieces)
    assert sum(out.kind == "TEXT_MESSAGE_START" for out in outs) <= 1
    assert (speech.message_id is None) == (speech.text == "")


def test_a_text_without_end_is_not_held_in_memory() -> None:
    """What a follow-up request is told of it is cut; what is said is not."""
    speech = Speech(lambda: "m")
    said = sum(len(out.body) for _ in range(400) for out in speech.say("", "x" * 1_000) if out.kind.endswith("CONTENT"))
    assert (said, len(speech.text)) == (400_000, 262_144)
