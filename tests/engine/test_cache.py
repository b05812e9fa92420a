"""The cache directory and the lock between processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from laneway.engine.cache import cache_directory, exclusive
from laneway.routing.errors import ConfigError


def test_one_at_a_time(tmp_path: Path) -> None:
    """A second holder waits, gives up at its deadline, and gets the lock once it is free."""

    async def main() -> None:
        async with exclusive(tmp_path / "lock", 1.0):
            with pytest.raises(TimeoutError):
                async with exclusive(tmp_path / "lock", 0.05):
                    raise AssertionError("two holders")
        async with exclusive(tmp_path / "lock", 1.0):
            pass

    asyncio.run(main())


def test_a_dead_holder_frees_it(tmp_path: Path) -> None:
    """The lock of a process that was killed is free at once; while it lives it is not."""
    code = (
        "import asyncio, sys, pathlib\n"
        "from laneway.engine.cache import exclusive\n"
        "async def main():\n"
        "    async with exclusive(pathlib.Path(sys.argv[1]), 5.0):\n"
        "        print('held', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True)

    async def taken(timeout_s: float) -> None:
        async with exclusive(tmp_path / "lock", timeout_s):
            pass

    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TimeoutError):
            asyncio.run(taken(0.05))
    finally:
        holder.kill()
        holder.communicate()
    asyncio.run(taken(5.0))


def test_the_cache_directory_can_be_chosen(tmp_path: Path) -> None:
    """LANEWAY_CACHE wins; it must be absolute."""
    assert cache_directory({"LANEWAY_CACHE": str(tmp_path)}) == tmp_path
    with pytest.raises(ConfigError, match="absolute"):
        cache_directory({"LANEWAY_CACHE": "relative"})


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the XDG rule is for the other platforms")
def test_the_cache_directory_follows_xdg(tmp_path: Path) -> None:
    """XDG_CACHE_HOME is honoured if absolute, else ~/.cache."""
    assert cache_directory({"XDG_CACHE_HOME": str(tmp_path)}) == tmp_path / "laneway"
    assert cache_directory({"XDG_CACHE_HOME": "x"}) == Path.home() / ".cache" / "laneway"
