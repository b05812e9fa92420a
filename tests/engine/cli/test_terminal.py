"""Lines in, harmless text out."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from laneway.engine.cli.terminal import Lines, printable, show_table


def test_control_characters_do_not_reach_the_terminal() -> None:
    """Escape sequences of both kinds lose their introducer; text of any script stays."""
    assert printable("a\x1b[2Jb\x9b31m\x07\x7f\r\n\tc日本é") == "a[2Jb31m\n\tc日本é"


def test_lines_come_from_a_pipe_as_they_are_written() -> None:
    """One at a time, the last one also without its end, then None for ever."""

    async def main() -> None:
        reading, writing = os.pipe()
        lines = Lines(reading)
        os.write(writing, b"one\r\ntw")
        assert await lines.next() == "one"
        waiting = asyncio.create_task(lines.next())
        await asyncio.sleep(0)
        os.write(writing, b"o\nthree")
        assert await waiting == "two"
        os.close(writing)
        assert await lines.next() == "three"
        assert await lines.next() is None
        assert await lines.next() is None
        os.close(reading)

    asyncio.run(main())


def test_waiting_for_a_line_can_be_cancelled() -> None:
    """And the next wait gets what comes then."""

    async def main() -> None:
        reading, writing = os.pipe()
        lines = Lines(reading)
        waiting = asyncio.create_task(lines.next())
        await asyncio.sleep(0)
        waiting.cancel()
        assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], asyncio.CancelledError)
        os.write(writing, b"later\n")
        assert await lines.next() == "later"
        os.close(writing)
        os.close(reading)

    asyncio.run(main())


def test_a_file_is_read_too(tmp_path: Path) -> None:
    """As `laneway chat < questions`."""
    (tmp_path / "file").write_text("a\nb\n")

    async def main() -> None:
        with (tmp_path / "file").open() as file:
            lines = Lines(file.fileno())
            assert [await lines.next() for _ in range(3)] == ["a", "b", None]

    asyncio.run(main())


def test_cells_are_text_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    """Brackets stay, escape sequences do not."""
    show_table(("a", "b"), [("pip install 'laneway[mcp]'", "x\x1b[2Jy")])
    printed = capsys.readouterr().out
    assert "laneway[mcp]" in printed
    assert "x[2Jy" in printed
    show_table(("a",), [], empty="nothing")
    assert capsys.readouterr().out == "nothing\n"
