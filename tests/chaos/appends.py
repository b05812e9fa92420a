"""Who wrote what, out of Redis' own append-only file.

Law of this file: the file is the server's account of all that it did, in its order: a log is written to by
the writer that claimed it last, and by nobody else. A front that slept while another took its sessions over,
and then wrote, would stand here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["Account", "read_account"]

_LOG: Final = re.compile(rb"laneway:\{(.+)\}(?::\d+)?\Z")
_WRITER: Final = re.compile(rb"laneway:writer:(.+)\Z")


class Account:
    """What the file says.

    Attributes:
        appends: how many. claims: log -> the writers that claimed it, in order.
        strays: appends by another than the last claimant, as sentences.
    """

    def __init__(self) -> None:
        self.appends = 0
        self.claims: dict[str, list[str]] = {}
        self.strays: list[str] = []

    def take(self, batch: list[list[bytes]]) -> None:
        """One transaction, which is one batch of one writer."""
        writer = next((m[1].decode() for words in batch if len(words) > 1 and (m := _WRITER.match(words[1]))), "")
        for words in batch:
            found = _LOG.match(words[1]) if len(words) > 1 else None
            if found is None:
                continue
            log = found[1].decode()
            if words[0].upper() == b"HSET" and words[2] == b"generation":
                self.claims.setdefault(log, []).append(writer)
            elif words[0].upper() == b"XADD":
                self.appends += 1
                held = self.claims.get(log, [""])[-1]
                if not writer or held != writer:
                    self.strays.append(f"{writer or 'nobody'} appended to {log}, which {held or 'nobody'} had claimed")


def read_account(redis: Path) -> Account:
    """Read the files of one server's directory. O(bytes)."""
    account = Account()
    batch: list[list[bytes]] | None = None
    for path in sorted((redis / "appendonlydir").glob("*.aof"), key=lambda path: int(path.name.split(".")[2])):
        for words in _commands(path.read_bytes()):
            name = words[0].upper()
            if name == b"MULTI":
                batch = []
            elif name == b"EXEC":
                account.take(batch or [])
                batch = None
            elif batch is not None:
                batch.append(words)
            else:
                account.take([words])
    return account


def _commands(data: bytes) -> Iterator[list[bytes]]:
    at = 0
    while at < len(data):
        line = data.index(b"\r\n", at)
        head, at = data[at:line], line + 2
        if head[:1] != b"*":
            continue  # an annotation
        words = []
        for _ in range(int(head[1:])):
            line = data.find(b"\r\n", at)
            if line < 0:
                return  # cut short by a kill
            size = int(data[at + 1 : line])
            words.append(data[line + 2 : line + 2 + size])
            at = line + 4 + size
        if at > len(data):
            return
        yield words
