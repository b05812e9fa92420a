"""The deeds of all pool hosts, read back.

Law of this file: lines are in the order in which they were appended; a line that was cut short by a kill is
no deed.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Deed", "Ledger"]


@dataclass(frozen=True, slots=True)
class Deed:
    """One line: what was done, to what, by which process, when (monotonic seconds)."""

    what: str
    key: str
    pid: int
    at: float


class Ledger:
    """Reads one file, each line once.

    Attributes:
        deeds: all so far. by: what -> key -> its deeds in order.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.deeds: list[Deed] = []
        self.by: dict[str, dict[str, list[Deed]]] = defaultdict(lambda: defaultdict(list))
        self._offset = 0

    def read(self) -> Ledger:
        """Take what was appended since. O(new lines)."""
        if not self.path.exists():
            return self
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.decode().splitlines():
            what, key, pid, at = line.split(" ")
            deed = Deed(what, key, int(pid), float(at))
            self.deeds.append(deed)
            self.by[what][key].append(deed)
        return self
