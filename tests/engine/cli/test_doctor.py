"""`laneway doctor`."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import subprocess
from pathlib import Path

from typer.testing import CliRunner

from laneway.engine.cli.doctor import Finding, findings
from laneway.engine.cli.root import app
from laneway.engine.config import Config
from tests.e2e.serving import COMMAND, Server, clean_environment
from tests.ports import held_port
from tests.redis_server import redis_server


def found(check: str, **sections: dict[str, object]) -> Finding:
    rows = asyncio.run(findings(Config.model_validate({"edge": {"grpc": "127.0.0.1:0"}, **sections})))
    return next(row for row in rows if row.check == check)


def test_a_healthy_machine_exits_0(tmp_path: Path) -> None:
    """Every check says what it found. In a process of its own: TLS 1.3 is decided before gRPC is loaded."""
    (tmp_path / "laneway.toml").write_text('[edge]\ngrpc = "127.0.0.1:0"\n')
    result = subprocess.run(
        [*COMMAND, "doctor", "--config", "laneway.toml"],
        cwd=tmp_path,
        env=clean_environment(COLUMNS="200"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for check in ("python", "packages", "loopback", "port", "store", "local model", "tls", "engine"):
        assert check in result.stdout
    assert "TLS 1.2 is refused" in result.stdout
    assert str(tmp_path / "laneway.db") in result.stdout
    assert not (tmp_path / "laneway.db").exists()


def test_a_store_that_cannot_be_used_is_wrong(runner: CliRunner, tmp_path: Path) -> None:
    """With the fix beside it, and exit code 1."""
    path = tmp_path / "damaged.db"
    path.write_bytes(b"this is no database" * 100)
    (tmp_path / "laneway.toml").write_text(f'[edge]\ngrpc = "127.0.0.1:0"\n[store]\nurl = "{path}"\n')
    result = runner.invoke(app, ["doctor", "--config", str(tmp_path / "laneway.toml")])
    assert result.exit_code == 1
    assert "restore it from a backup" in result.output


def test_a_redis_server_is_asked_what_it_keeps(tmp_path: Path) -> None:
    """Durable, volatile with the fix, or not there; nothing is written, and no password is shown."""
    with redis_server(tmp_path) as server:
        assert found("store", store={"url": server.url}).state == "ok"
        server.command("CONFIG", "SET", "appendfsync", "everysec")
        volatile = found("store", store={"url": server.url})
        assert (volatile.state, volatile.fix) == ("note", "set appendfsync always")
        server.command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        evicting = found("store", store={"url": server.url})
        assert evicting.state == "wrong"
        assert "noeviction" in evicting.fix
        assert server.command("DBSIZE") == b":0\r\n"
    away = found("store", store={"url": server.url.replace("//", "//:hush@")})
    assert away.state == "wrong"
    assert "hush" not in str(away)


def test_a_sound_store_is_left_as_it_is(tmp_path: Path) -> None:
    """Looking does not write; one that is not there is not made."""
    path = tmp_path / "sound.db"
    assert found("store", store={"url": str(path)}).state == "ok"
    assert not path.exists()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE t (x)")
    database.commit()
    database.close()
    before = path.read_bytes()
    assert found("store", store={"url": str(path)}).state == "ok"
    assert path.read_bytes() == before


def test_a_foreign_port_is_wrong_and_an_engine_is_not() -> None:
    """Who listens there decides."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        finding = found("port", edge={"grpc": f"127.0.0.1:{port}"})
    assert finding.state == "wrong"
    assert "--grpc" in finding.fix

    async def main() -> None:
        async with asyncio.timeout(60), Server("memory") as server:
            config = Config.model_validate({"edge": {"grpc": server.target}})
            (finding,) = [row for row in await findings(config) if row.check == "port"]
            assert finding.state == "ok"
            assert "an engine serves" in finding.found

    asyncio.run(main())


def test_ray_is_looked_for_only_where_it_is_used() -> None:
    """A head that does not answer is wrong, with the fix; an engine without Ray is fine."""
    assert found("ray").state == "ok"
    assert found("ray", runtime={"kind": "ray"}).state == "ok"
    with held_port() as port:
        with socket.create_server(("127.0.0.1", port)):
            assert found("ray", runtime={"kind": "ray", "address": f"127.0.0.1:{port}"}).state == "ok"
        finding = found("ray", runtime={"kind": "ray", "address": f"127.0.0.1:{port}"})
    assert finding.state == "wrong"
    assert "ray start --head" in finding.fix
