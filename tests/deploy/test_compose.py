"""The compose file: valid by its published schema, its parts fit each other and the engine, Redis does as it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from laneway.actors.ports import Entry
from laneway.engine.app.serving import _authenticate
from laneway.engine.config import Config
from laneway.engine.stores.redis import RedisStore
from tests.outside import require
from tests.ports import held_port

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
BIN = Path(sys.executable).parent
WITHIN_S = 60.0


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, anchors resolved."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return found


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What deploy/make_secrets.py makes; a second run keeps the keys."""
    folder = tmp_path_factory.mktemp("made") / "secrets"
    main = runpy.run_path(str(DEPLOY / "make_secrets.py"))["main"]
    main(folder)
    first = (folder / "issuer-private.pem").read_text(), (folder / "redis.acl").read_text()
    main(folder)
    assert first == ((folder / "issuer-private.pem").read_text(), (folder / "redis.acl").read_text())
    return folder


def _promtool(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    promtool = require("promtool", package="prometheus")
    return subprocess.run([promtool, *command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


def test_the_schema_of_compose_accepts_it() -> None:
    """The published one, of the compose specification."""
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE, DEPLOY / "jaeger.yaml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_engine_accepts_the_settings_of_the_front(services: dict[str, Any], secrets: Path) -> None:
    """Every variable is a setting, all of them together are accepted, and the tokens count."""
    given = {
        name: str(value).replace("/run/secrets", str(secrets)).replace("${LANEWAY_MODEL:-synthetic}", "synthetic")
        for name, value in services["front"]["environment"].items()
    }
    config = Config.load(environ=given)
    assert (config.runtime.kind, config.auth.mode) == ("ray", "jwt")
    assert config.store.url.startswith("redis://laneway:")
    asked = {"iss": config.auth.issuer, "aud": config.auth.audience}
    for name, scope in (("scrape.token", "admin"), ("client.token", "")):
        token = (secrets / name).read_text()
        claims = jwt.decode(token, options={"verify_signature": False})
        assert {key: claims[key] for key in asked} == asked
        principal = _authenticate(config.auth)({"authorization": f"Bearer {token}"})
        assert ("admin" in principal.scopes) == (scope == "admin")  # type: ignore[union-attr]
    assert float(services["front"]["stop_grace_period"].removesuffix("s")) >= config.limits.drain_s + 10


def test_only_loopback_is_published(services: dict[str, Any]) -> None:
    """Clients reach the front, people the three pages, from this machine; Ray and Redis nobody."""
    published = {name: [port.split(":") for port in each.get("ports", ())] for name, each in services.items()}
    assert all(host == "127.0.0.1" and outer == inner for ports in published.values() for host, outer, inner in ports)
    assert {name for name, ports in published.items() if ports} == {"front", "jaeger", "prometheus", "grafana"}
    networks = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["networks"]
    for name in ("redis", "ray-head"):
        assert services[name]["networks"] == ["inside"]
    assert networks["inside"] == {"internal": True}


def test_who_is_named_is_there_and_can_be_reached(services: dict[str, Any], secrets: Path) -> None:
    """Each HOST:PORT in settings, commands and files is a service on a common network that listens there."""
    listening = {"ray-head": 6379, "redis": 6379, "collector": 4317, "jaeger": 4317, "prometheus": 9090, "front": 7701}
    said = {name: json.dumps([each.get("environment", {}), each.get("command", [])]) for name, each in services.items()}
    said["front"] += (secrets / "laneway.toml").read_text()
    said["collector"] += (DEPLOY / "collector.yaml").read_text(encoding="utf-8")
    said["grafana"] += (DEPLOY / "grafana" / "provisioning.yaml").read_text(encoding="utf-8")
    found = set()
    for name, text in said.items():
        for host, port in re.findall(rf"\b({'|'.join(listening)}):(\d+)", text):
            assert int(port) == listening[host], (name, host)
            assert set(services[name]["networks"]) & set(services[host]["networks"]), (name, host)
            found.add((name, host))
    assert found >= {("front", "ray-head"), ("front", "redis"), ("front", "collector"), ("collector", "jaeger")}
    scrape = yaml.safe_load((DEPLOY / "scrape.yaml").read_text(encoding="utf-8"))["scrape_configs"][0]
    assert scrape["dns_sd_configs"][0]["names"] == ["front"]
    assert set(services["prometheus"]["networks"]) & set(services["front"]["networks"])
    for each in services.values():
        assert set(each.get("depends_on", ())) <= set(services)


def test_what_is_mounted_exists(services: dict[str, Any], secrets: Path) -> None:
    """Files of this folder, and secrets that the script makes."""
    document = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    for name, secret in document["secrets"].items():
        assert secret == {"file": f"./secrets/{name}"}
        assert (secrets / name).is_file()
    for each in services.values():
        assert set(each.get("secrets", ())) <= set(document["secrets"])
        for volume in each.get("volumes", ()):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith("./") else source in document["volumes"]
    assert "/deploy/secrets/" in (DEPLOY.parent / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_every_service_is_bounded(services: dict[str, Any]) -> None:
    """Memory and processors have a limit; nobody keeps a capability; images are pinned; all come back."""
    for name, each in services.items():
        assert set(each["deploy"]["resources"]["limits"]) >= {"cpus", "memory"}, name
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert each["restart"] == "unless-stopped"
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", each["image"]), name
    assert all(services[name]["read_only"] for name in ("front", "ray-head", "ray-node", "redis", "collector"))


def test_the_scripts_are_in_the_image_and_start_what_there_is(services: dict[str, Any]) -> None:
    """Entry points are copied by the Dockerfile, and are valid shell that runs `laneway serve` and `ray start`."""
    dockerfile = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    scripts = {each["entrypoint"][0] for each in services.values() if "entrypoint" in each}
    assert scripts == {"front.sh", "ray-head.sh", "ray-worker.sh"}
    for script in scripts:
        assert f"deploy/{script}" in dockerfile
        assert os.access(DEPLOY / script, os.X_OK)
        subprocess.run(["sh", "-n", DEPLOY / script], timeout=WITHIN_S, check=True)
    text = (DEPLOY / "front.sh").read_text(encoding="utf-8")
    assert text.rstrip().endswith('exec laneway serve --runtime ray "$@"')
    assert 'setpriv --pdeathsig TERM "$here/ray-worker.sh" --num-cpus=0 ' in text


def test_pipelines_of_the_collector_name_parts_that_exist() -> None:
    """Receivers, processors, exporters and extensions are all defined, and all used."""
    document = yaml.safe_load((DEPLOY / "collector.yaml").read_text(encoding="utf-8"))
    pipelines = document["service"]["pipelines"]
    assert set(pipelines) == {"traces", "metrics"}
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in pipelines.values() for name in pipeline[kind]}
        assert used == set(document[kind])
        assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in pipelines.values())
    assert set(document["service"]["extensions"]) == set(document["extensions"])


def test_promtool_accepts_what_prometheus_reads(secrets: Path, tmp_path: Path) -> None:
    """The scrape configuration with its rules and its token."""
    text = (DEPLOY / "scrape.yaml").read_text(encoding="utf-8").replace("/run/secrets", str(secrets))
    (tmp_path / "prometheus.yml").write_text(text)
    (tmp_path / "alerts.yaml").write_text((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))
    done = _promtool("check", "config", "prometheus.yml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def redis_port(services: dict[str, Any], secrets: Path, tmp_path: Path) -> Iterator[int]:
    """A Redis with the arguments of the file, on a free port of this machine."""
    with held_port() as port:
        yield from _redis(services, secrets, tmp_path, port)


def _redis(services: dict[str, Any], secrets: Path, tmp_path: Path, port: int) -> Iterator[int]:
    program, *arguments = (str(each).replace("/run/secrets", str(secrets)) for each in services["redis"]["command"])
    own = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path), "--save", ""]
    process = subprocess.Popen(
        [require(program, package="redis-server"), *arguments, *own], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Ready to accept connections" in line:
                break
        else:
            pytest.fail("".join(said))
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=WITHIN_S)


def test_redis_does_as_the_file_says(services: dict[str, Any], secrets: Path, redis_port: int) -> None:
    """Durable before it answers, never forgetful; who has no password may ask whether it lives, and nothing else."""
    cli = require("redis-cli", package="redis-tools")

    def ask(*words: str, password: str = "") -> str:
        login = ["--user", "laneway", "--pass", password, "--no-auth-warning"] if password else []
        done = subprocess.run(
            [cli, "-p", str(redis_port), *login, *words], capture_output=True, text=True, timeout=WITHIN_S, check=False
        )
        return done.stdout.strip()

    password = (secrets / "redis.password").read_text()
    for setting, value in (
        ("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction"), ("maxmemory", str(2**30)),
    ):  # fmt: skip
        assert ask("CONFIG", "GET", setting, password=password).splitlines() == [setting, value]
    assert ask("SET", "a", "1", password=password) == "OK"
    assert "NOPERM" in ask("FLUSHALL", password=password)
    assert "NOPERM" in ask("GET", "a")
    (_, check) = services["redis"]["healthcheck"]["test"]
    checked = check.replace("$$", "$").replace("redis-cli", f"{shlex.quote(cli)} -p {redis_port}")
    assert subprocess.run(["sh", "-c", checked], timeout=WITHIN_S, check=False).returncode == 0


def test_the_store_may_do_all_it_needs(secrets: Path, redis_port: int) -> None:
    """With the rules and the password of the file: it is durable, writes and reads."""
    url = re.findall(r'url = "(.+)"', (secrets / "laneway.toml").read_text())[0]

    async def main() -> None:
        store = RedisStore(url.replace("@redis:6379", f"@127.0.0.1:{redis_port}"))
        await store.open()
        try:
            assert store.durable
            claim = await store.claim("k")
            await store.append(claim, [Entry(1, seq, seq * 10, b"x") for seq in range(1, 4)])
            assert [entry.seq for entry in await store.read("k", 1, 1)] == [1, 2, 3]
            assert await store.keys("") == ["k"]
        finally:
            await store.close()

    asyncio.run(main())
