"""The browser page of examples/web in a headless Chromium, and its picture in the docs."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.serving import clean_environment
from tests.e2e.web import node, node_script
from tests.outside import require

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "streaming-page.png"
_READY_S = 60.0


@asynccontextmanager
async def page() -> AsyncIterator[str]:
    """`python -m examples.web` in a process of its own; gives its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "examples.web", "--port", "0"),
        cwd=ROOT,
        env=clean_environment(PYTHONUNBUFFERED="1"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_READY_S):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("open http://127.0.0.1:"):
            raise AssertionError((await process.communicate())[1].decode())
        yield line.split()[1]
        process.terminate()
        async with asyncio.timeout(_READY_S):
            _, errors = await process.communicate()
        assert errors.decode() == ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def driven(**plan: Any) -> Any:
    """Let node drive the page; see tests/e2e/npm/page.mjs."""
    node()
    chromium = require("chromium", package="chromium")
    async with page() as url:
        return await node_script("page.mjs", {"url": url, "chromium": chromium} | plan)


@pytest.mark.slow
def test_the_page_streams_stops_resumes_and_shows_every_tab_the_same() -> None:
    """As a person would see it: many paints before the end, a stop that works, nothing lost or doubled.

    One tab is reloaded in mid-answer and later loses its network; the other is left in peace. Then
    both ask at once. What they show is the same, message by message.
    """
    seen = asyncio.run(driven())
    assert (seen["noise"], seen["foreign"]) == ([], [])
    assert seen["paints"] > 5
    assert seen["first"].endswith(" ms")
    assert (seen["stopped"]["note"], seen["critical"]) == (1, 1)
    assert seen["waiting"].startswith("reconnecting")
    assert seen["resumed"] == "1×"
    assert seen["focus"] == "solid"
    assert seen["one"] == seen["two"]
    answers = [text for role, text in seen["one"] if role == "assistant"]
    assert len(answers) == 6
    assert all(text.startswith("[SYNTHETIC] ") for text in answers)
    assert len(answers[1]) < len(answers[0])


def colours(path: Path) -> tuple[int, int, int]:
    """Width, height and number of distinct pixel values of an 8-bit PNG, filters left in place."""
    data = path.read_bytes()
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (data[:8], depth, kind in (2, 6)) == (b"\x89PNG\r\n\x1a\n", 8, True)
    pixels, at = b"", 8
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        pixels += data[at + 8 : at + 8 + size] if name == b"IDAT" else b""
        at += size + 12
    raw = zlib.decompress(pixels)
    step = 3 if kind == 2 else 4
    stride = width * step + 1
    rows = [raw[start + 1 : start + stride] for start in range(0, len(raw), stride)]
    return width, height, len({row[i : i + step] for row in rows for i in range(0, len(row), step)})


@pytest.mark.slow
def test_the_picture_of_the_page_can_be_taken_again(tmp_path: Path) -> None:
    """It is not blank; the committed one (made with ``--model local-llm``) has its size and is small."""
    shot = tmp_path / "page.png"
    seen = asyncio.run(driven(shot=str(shot)))
    assert seen["noise"] == []
    taken, kept = colours(shot), colours(PICTURE)
    assert taken[:2] == kept[:2]
    assert min(taken[2], kept[2]) > 50
    assert PICTURE.stat().st_size < 200_000
    assert os.path.getsize(shot) < 200_000
