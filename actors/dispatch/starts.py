"""Which runs a session was asked for, by id, and where in its streams each begins.

Law of this file: a run id starts one run, whoever sends it and however often. The same request again
is a duplicate that may listen to the run; another request under the same id is a mistake and is
refused. Pure bookkeeping, bounded: the newest 512 runs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from laneway.routing.envelope import BODY, KIND, RUN, Envelope

__all__ = ["RUN_STARTING", "Starts"]

RUN_STARTING: Final = frozenset({"USER_MESSAGE", "RUN_INPUT"})
"""Kinds whose handling is a run: never repeated by the engine once started."""

_MAX_RUNS: Final = 512
_DIGEST_BYTES: Final = 16


class Starts:
    """Run ids of one session.

    Args:
        max_runs: how many are remembered; a run id that is older may start again.
    """

    def __init__(self, max_runs: int = _MAX_RUNS) -> None:
        self._digests: OrderedDict[str, bytes] = OrderedDict()
        self._places: dict[str, tuple[int, int]] = {}
        self._max_runs = max_runs

    def verdict(self, env: Envelope) -> str:
        """Return "new", "duplicate", or "mismatch": the run's id was given to another request. O(body)."""
        known = self._digests.get(env[RUN]) if env[KIND] in RUN_STARTING else None
        if known is None:
            return "new"
        return "duplicate" if known == _digest(env) else "mismatch"

    def ask(self, env: Envelope) -> None:
        """Remember the run that an accepted event asks for; other events are none. O(body)."""
        if env[KIND] in RUN_STARTING:
            self._keep(env[RUN], _digest(env))

    def begin(self, run: str, urgent: int, data: int) -> None:
        """Remember the last seqs of both streams before a run's first event; the first to say so counts."""
        if run in self._digests:
            self._places.setdefault(run, (urgent, data))

    def place(self, run: str) -> tuple[int, int] | None:
        """Return (urgent, data): the seqs after which the run begins, or None if that is not known."""
        return self._places.get(run)

    def known(self, run: str) -> bool:
        """Return whether this run was asked for, as far as is remembered."""
        return run in self._digests

    def rows(self) -> list[list[object]]:
        """Return what `restore` needs: who asks again after a restart must not start a run twice."""
        return [[run, digest] for run, digest in self._digests.items()]

    def restore(self, rows: Iterable[list[object]]) -> None:
        """Replace what is known by `rows`. Places are found again by who reads the streams."""
        self._digests.clear()
        for run, digest in rows:
            assert isinstance(digest, bytes)
            self._keep(str(run), digest)

    def _keep(self, run: str, digest: bytes) -> None:
        self._digests[run] = digest
        while len(self._digests) > self._max_runs:
            self._places.pop(self._digests.popitem(last=False)[0], None)


def _digest(env: Envelope) -> bytes:
    from hashlib import blake2b  # 1.5 ms to load, and not every engine has runs

    return blake2b(env[KIND].encode() + b"\0" + env[BODY], digest_size=_DIGEST_BYTES).digest()
