"""`laneway serve`: what it refuses before it listens, and that it listens."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.client import Client, Trust
from tests.e2e.serving import COMMAND, Server, clean_environment, listening
from tests.engine.edge.certificates import Authority


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--grpc", "0.0.0.0:0"], "edge.insecure"),
        (["--http", "0.0.0.0:0"], "edge.insecure"),
        (["--grpc", "nonsense"], "HOST:PORT"),
        (["--auth", "jwt"], "issuer"),
        (["--auth", "password"], "auth.mode"),
        (["--model", "gpt"], "there is no model"),
        (["--tls-cert", "cert.pem"], "tls_key"),
        (["--store", "redis://:word@127.0.0.1:1"], "redis://127.0.0.1:1/0 cannot be reached"),
        (["--store", "redis://user:word"], "store.url"),
        (["--setup", "no.such.module:setup"], "--setup"),
        (["--setup", "json"], "MODULE:NAME"),
        (["--config", "none.toml"], "none.toml"),
        (["--runtime", "spark"], "runtime.kind"),
        (["--cluster", "No Name"], "runtime.cluster"),
        (["--model", "no_such_module:model"], "there is no module no_such_module"),
        (["--log-level", "loud"], "telemetry.log_level"),
    ],
)
def test_a_bad_setting_is_named(
    options: list[str], says: str, tmp_path: Path, runner: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stderr, with exit code 1, before anything listens and before a store file is made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    result = runner.invoke(app, ["serve", "--store", "memory", *options])
    assert result.exit_code == 1
    assert says in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--grpc", "nonsense"], "HOST:PORT"),
        (["--setup", "no.such.module:setup"], "--setup"),
    ],
)
def test_the_program_says_no_more_than_what_is_wrong(options: list[str], says: str, tmp_path: Path) -> None:
    """No traceback, wherever on its way it gives up."""
    result = subprocess.run(
        [*COMMAND, "serve", "--store", "memory", *options],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1, result.stderr
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_settings_come_from_file_environment_and_options(tmp_path: Path) -> None:
    """In this order of strength; the store is durable if nobody chose one."""
    (tmp_path / "laneway.toml").write_text(
        '[edge]\ngrpc = "127.0.0.1:0"\nhttp = "127.0.0.1:0"\n[nlp]\nmodel = "scripted"\n'
    )

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "serve", "--config", "laneway.toml"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(LANEWAY_NLP__MODEL="synthetic"),
            cwd=tmp_path,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(30):
                target, _ = listening((await process.stdout.readline()).decode())
                async with Client(target, session="s1") as client:
                    assert (await client.send("hello")).status == "durable"
                    async for event in client:
                        if event.text:
                            assert event.text.startswith("[SYNTHETIC]")
                            break
            assert (tmp_path / "laneway.db").is_file()
        finally:
            process.kill()
            await process.communicate()

    asyncio.run(main())


def test_a_port_that_is_taken_is_named(served: str, runner: CliRunner) -> None:
    """Two servers never share one."""
    result = runner.invoke(app, ["serve", "--grpc", served, "--store", "memory", "--model", "synthetic"])
    assert result.exit_code == 1
    assert served in result.stderr


def test_tls_is_1_3_only_and_proven(tmp_path: Path) -> None:
    """The server starts (so its own TLS 1.2 probe failed) and a client that trusts its root gets in."""
    authority = Authority(tmp_path)
    cert, key = authority.leaf("server")

    async def main() -> None:
        options = ("--tls-cert", str(cert), "--tls-key", str(key))
        async with asyncio.timeout(60), Server("memory", *options) as server:
            trust = Trust(roots=authority.root.read_bytes())
            async with Client(f"localhost:{server.port}", session="s1", tls=trust) as client:
                assert (await client.send("hello")).status == "volatile"
            assert (await server.stop())[0] == 0

    asyncio.run(main())


def test_a_signal_during_the_preparation_ends_it(tmp_path: Path) -> None:
    """A set-up that would take for ever (as a download may) is cancelled; exit code 0, nothing was ready."""
    (tmp_path / "slow.py").write_text(
        "import asyncio\n\nasync def setup(engine):\n    print('working', flush=True)\n    await asyncio.sleep(3600)\n"
    )

    async def main() -> None:
        process = await asyncio.create_subprocess_exec(
            *(*COMMAND, "serve", "--grpc", "127.0.0.1:0", "--store", "memory", "--setup", "slow:setup"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=clean_environment(),
            cwd=tmp_path,
        )
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"working\n"
            process.terminate()
            output, errors = await process.communicate()
        assert (process.returncode, output) == (0, b""), errors.decode()

    asyncio.run(main())
