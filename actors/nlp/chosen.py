"""Which model answers a run: decided once, where the run begins.

Law of this file: a run keeps the model it began with, and says so if that is not the usual one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from laneway.actors.ports import Model

__all__ = ["Chosen", "chosen"]


class Chosen(NamedTuple):
    """The model of one run.

    Attributes:
        degraded: it stands in for the usual one while the engine is overloaded.
    """

    model: Model
    degraded: bool = False


def chosen(model: Model) -> Chosen:
    """Ask a model that has a `choose` which one answers now; any other one answers itself."""
    choose: Callable[[], Chosen] | None = getattr(model, "choose", None)
    return Chosen(model) if choose is None else choose()
