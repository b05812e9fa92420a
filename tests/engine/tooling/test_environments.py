"""Environments for MCP servers: names that are refused, failures, interruptions, waiting for each other."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from laneway.engine.tooling.environments import ensure_environment, package_name
from laneway.routing.errors import ConfigError, ToolUnavailable


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package index of one local wheel, so that these tests need no network."""
    index = tmp_path / "index"
    index.mkdir()
    project = tmp_path / "project"
    project.mkdir()
    (project / "hello_tool.py").write_text("def main():\n    print('hello')\n")
    _wheel(index, project)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    return "hello-tool==1.0"


def _wheel(index: Path, project: Path) -> None:
    import zipfile

    info = "hello_tool-1.0.dist-info"
    with zipfile.ZipFile(index / "hello_tool-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(project / "hello_tool.py", "hello_tool.py")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hello-tool\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/entry_points.txt", "[console_scripts]\nhello-tool = hello_tool:main\n")
        wheel.writestr(f"{info}/RECORD", "")


@pytest.mark.slow
def test_two_at_once_install_once_and_a_broken_one_is_made_anew(package: str, tmp_path: Path) -> None:
    """Concurrent callers get one installation; without its marker an environment is not used."""

    async def main() -> None:
        lines: list[str] = []
        where = tmp_path / "tools"
        first, second = await asyncio.gather(
            *(ensure_environment(package, directory=where, progress=lines.append) for _ in range(2))
        )
        assert first == second
        assert len([line for line in lines if line.startswith("making an environment")]) == 1
        said = subprocess.run([first / "hello-tool"], capture_output=True, text=True, check=True).stdout  # noqa: ASYNC221
        assert said == "hello\n"
        lines.clear()
        await ensure_environment(package, directory=where, progress=lines.append)
        assert lines == []
        (first.parent / "laneway-ready").unlink()  # as an interrupted installation leaves it
        began = asyncio.Event()

        def told(line: str) -> None:
            lines.append(line)
            began.set()

        again = asyncio.create_task(ensure_environment(package, directory=where, progress=told))
        await began.wait()
        assert lines[0].startswith("making an environment")
        assert not first.exists()
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)

    asyncio.run(main())


@pytest.mark.slow
def test_a_package_that_does_not_exist_is_a_typed_error(package: str, tmp_path: Path) -> None:
    """INSTALL_FAILED with what pip said; nothing is left that a later call would use."""

    async def main() -> None:
        with pytest.raises(ToolUnavailable, match="no-such-tool") as caught:
            await ensure_environment("no-such-tool==9", directory=tmp_path)
        assert caught.value.reason == "INSTALL_FAILED"

    asyncio.run(main())
    assert not list(tmp_path.glob("*/laneway-ready"))


def test_a_deadline_is_kept(package: str, tmp_path: Path) -> None:
    """INSTALL_TIMEOUT, and the installer's processes are gone."""

    async def main() -> None:
        with pytest.raises(ToolUnavailable) as caught:
            await ensure_environment(package, directory=tmp_path, timeout_s=0.05)
        assert caught.value.reason == "INSTALL_TIMEOUT"

    asyncio.run(main())


@pytest.mark.parametrize(
    "requirement", ["", "--index-url=http://x", "a b", "git+https://x/y", "../a", "a>=1", "a==1 --pre", "a;b"]
)
def test_only_names_and_versions_reach_pip(requirement: str) -> None:
    """Anything that could be an option, a URL or a path is a ConfigError."""
    with pytest.raises(ConfigError):
        package_name(requirement)


def test_environments_lie_in_the_cache_directory(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a directory they go to `tools` in the cache; a relative LANEWAY_CACHE is refused before anything runs."""
    monkeypatch.setenv("LANEWAY_CACHE", "relative")
    with pytest.raises(ConfigError, match="absolute"):
        asyncio.run(ensure_environment(package))
    monkeypatch.setenv("LANEWAY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(ToolUnavailable, match="cache/tools"):
        asyncio.run(ensure_environment(package))
