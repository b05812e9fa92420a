"""Which model answers a run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from laneway.actors.nlp.chosen import Chosen, chosen
from laneway.actors.ports import Context, Out


class _One:
    async def stream(self, run: Mapping[str, Any], context: Context) -> AsyncIterator[Out]:
        yield Out("STEP_STARTED", b"", "")


class _Several(_One):
    def __init__(self) -> None:
        self.other = _One()

    def choose(self) -> Chosen:
        return Chosen(self.other, degraded=True)


def test_a_model_answers_itself_unless_it_stands_for_several() -> None:
    """One that can choose is asked each time."""
    one, several = _One(), _Several()
    assert chosen(one) == (one, False)
    assert chosen(several) == (several.other, True)
