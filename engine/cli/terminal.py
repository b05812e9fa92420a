"""The terminal as a stream of lines, and text that cannot command it.

Law of this file: what comes from a model or a peer is printed without control characters: an escape
sequence in an answer could rewrite the screen, or type into the shell of some terminals. Waiting for
a line holds no thread, so that leaving never waits for the keyboard.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

__all__ = ["Lines", "printable", "show_table"]

_KEPT: Final = frozenset("\n\t")
_CONTROL: Final = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in _KEPT}
_MAX_LINE_BYTES: Final = 1_048_576


def printable(text: str) -> str:
    """Return the text without control characters other than newline and tab."""
    return text.translate(_CONTROL)


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    styles: Mapping[str, str] | None = None,
    empty: str = "",
) -> None:
    """Print a table; nothing in a cell is taken for markup or for a command to the terminal.

    Args:
        styles: cell text -> rich style. empty: said instead, if there are no rows.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(Text(printable(cell), style=(styles or {}).get(cell, "")) for cell in row))
    Console().print(table if table.row_count else empty)


class Lines:
    """Lines of a file descriptor, read only when asked for.

    Args:
        descriptor: terminal, pipe or file.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._buffer = b""
        self._over = False

    async def next(self) -> str | None:
        """Return the next line without its end, or None when there are no more. Cancellable."""
        while b"\n" not in self._buffer and not self._over:
            piece = await self._read()
            self._over = not piece or len(self._buffer) > _MAX_LINE_BYTES
            self._buffer += piece
        if not self._buffer:
            return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip("\r")

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:  # a plain file: it never makes us wait
            return os.read(self._descriptor, 65_536)
        except NotImplementedError:  # Windows
            return await asyncio.to_thread(os.read, self._descriptor, 65_536)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, 65_536)
