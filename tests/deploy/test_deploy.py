"""What deploy/ offers is accepted by the code it is for, and its parts fit each other."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from laneway.engine.app.choices import choose_model, choose_store
from laneway.engine.cli.root import app
from laneway.engine.config import Config
from laneway.engine.models.openai import OpenAIModel
from laneway.engine.stores.sqlite import SqliteStore
from laneway.routing.errors import ConfigError

DEPLOY = Path(__file__).parents[2] / "deploy"
SETTINGS = DEPLOY / "laneway.toml"
UNIT = DEPLOY / "laneway.service"
JAEGER = DEPLOY / "jaeger.yaml"
OPERATIONS = DEPLOY.parent / "docs" / "operations.md"


def _unit() -> dict[str, list[tuple[str, str]]]:
    """Return section -> (option, value) in order; an option may come several times."""
    sections: dict[str, list[tuple[str, str]]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            options = sections.setdefault(line.strip("[]"), [])
            continue
        option, equals, value = line.partition("=")
        assert equals, f"neither a section nor an option: {line}"
        options.append((option, value))
    return sections


def test_the_production_settings_are_accepted() -> None:
    """They load as they are, guarded: TLS and JWT on a public address, a durable store."""
    config = Config.load(SETTINGS, environ={})
    assert not config.edge.grpc.loopback
    assert config.edge.tls_cert is not None
    assert (config.auth.mode, config.edge.insecure) == ("jwt", False)
    assert isinstance(choose_store(config, None), SqliteStore)
    assert isinstance(choose_model(config.nlp.model), OpenAIModel)
    config.session_policy()
    config.dispatch_policy()


@pytest.mark.parametrize("line", ["tls_cert = ", "tls_key = ", 'mode = "jwt"', "audience = ", "public_keys = "])
def test_the_guards_cannot_be_left_out_by_accident(line: str, tmp_path: Path) -> None:
    """Without any one of them the same file is refused."""
    lines = SETTINGS.read_text(encoding="utf-8").splitlines()
    without = [each for each in lines if not each.startswith(line)]
    assert len(without) == len(lines) - 1
    (tmp_path / "laneway.toml").write_text("\n".join(without), encoding="utf-8")
    with pytest.raises(ConfigError):
        Config.load(tmp_path / "laneway.toml", environ={})


def test_the_unit_gives_the_drain_its_time() -> None:
    """SIGTERM goes to the engine alone, and SIGKILL comes later than limits.drain_s."""
    service = dict(_unit()["Service"])
    drain_s = Config.load(SETTINGS, environ={}).limits.drain_s
    assert (service["KillSignal"], service["KillMode"]) == ("SIGTERM", "mixed")
    assert float(service["TimeoutStopSec"]) >= drain_s + 10


def test_the_unit_starts_what_there_is() -> None:
    """Its command line has only options of `laneway serve`, its variables only settings."""
    service = _unit()["Service"]
    program, command, *options = shlex.split(dict(service)["ExecStart"])
    assert program.endswith("/laneway")
    help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    plain = re.sub(r"\x1b\[[0-9;]*m", "", help_text)
    assert all(option in plain for option in options if option.startswith("--"))
    environ = dict(value.split("=", 1) for option, value in service if option == "Environment")
    credentials = [value.split(":")[0] for option, value in service if option == "LoadCredential"]
    key = Path(environ["LANEWAY_EDGE__TLS_KEY"])
    assert key.name in credentials
    Config.load(SETTINGS, environ=environ)


def test_the_unit_gives_up_what_it_does_not_need() -> None:
    """No privileges, a read-only system, its own state and cache directories."""
    service = dict(_unit()["Service"])
    assert (service["NoNewPrivileges"], service["CapabilityBoundingSet"]) == ("yes", "")
    assert (service["ProtectSystem"], service["DynamicUser"]) == ("strict", "yes")
    store = Config.load(SETTINGS, environ={}).store.url.removeprefix("sqlite:")
    assert Path(store).parent == Path("/var/lib", service["StateDirectory"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing to say, the program's path aside."""
    unit = tmp_path / "laneway.service"
    unit.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/laneway/bin/laneway", "/bin/true"))
    result = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, timeout=60, check=False
    )
    said = [line for line in (result.stdout + result.stderr).splitlines() if "laneway.service" in line]
    assert said == []


def test_jaeger_can_be_reached_from_this_machine_only() -> None:
    """Version 2, pinned; the receiver's ports and the page on loopback; it says that CI does not run it."""
    text = JAEGER.read_text(encoding="utf-8")
    (service,) = yaml.safe_load(text)["services"].values()
    assert re.fullmatch(r"jaegertracing/jaeger:2\.\d+\.\d+", service["image"])
    published = [port.split(":") for port in service["ports"]]
    assert {(host, outer, inner) for host, outer, inner in published} == {
        ("127.0.0.1", port, port) for port in ("4317", "4318", "16686")
    }
    assert "Not run in CI: no container engine there" in text


def test_the_operations_page_says_what_the_files_say() -> None:
    """The same command, the same addresses, and options that exist."""
    text, page = JAEGER.read_text(encoding="utf-8"), OPERATIONS.read_text(encoding="utf-8")
    ports = {port.split(":")[1] for port in yaml.safe_load(text)["services"]["jaeger"]["ports"]}
    for said in (text, page):
        assert "docker compose -f deploy/jaeger.yaml up" in said
        addresses = re.findall(r"http://127\.0\.0\.1:(\d+)", said)
        assert addresses
        assert set(addresses) <= ports
    commands = re.findall(r"^laneway ([a-z]+)(.*?)(?:  +#.*)?$", page, re.MULTILINE)
    assert {name for name, _ in commands} >= {"serve", "tail", "doctor"}
    for name, rest in commands:
        help_text = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
        plain = re.sub(r"\x1b\[[0-9;]*m", "", help_text)
        assert all(option in plain for option in re.findall(r"--[a-z-]+", rest)), (name, rest)


def test_the_operations_page_names_settings_with_their_defaults() -> None:
    """Its table of [telemetry] is the code's."""
    page = OPERATIONS.read_text(encoding="utf-8")
    telemetry = Config().telemetry
    rows = re.findall(
        r"^\| `(\w+)` \| (\S+) \|", page.split("setting (`[telemetry]`)")[1].split("\n\n")[0], re.MULTILINE
    )
    assert {"otlp", "sample_ratio", "follow_clients", "traces_per_s", "service"} <= {name for name, _ in rows}
    for name, default in rows:
        value = getattr(telemetry, name)
        assert default == (str(value).lower() if isinstance(value, bool) else str(value or "none"))


def test_the_readme_names_every_file_and_no_other() -> None:
    """Which file is for what; nothing in the folder is untold."""
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\(([\w./-]+)\)", page))
    files = {
        str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file() and "secrets" not in path.parts
    }
    ours = {name for name in linked if not name.startswith("..")}
    assert ours == {name for name in files if "__pycache__" not in name} - {"README.md"}
    assert all((DEPLOY / name).exists() for name in linked)


def test_each_file_says_at_its_top_what_was_not_run() -> None:
    """Whoever opens one knows what to expect of it."""
    names = "Dockerfile compose.yaml kuberay.yaml collector.yaml scrape.yaml haproxy.cfg nginx.conf envoy.yaml"
    scripts = "front.sh ray-head.sh ray-worker.sh laneway.service grafana/provisioning.yaml"
    for name in (*names.split(), *scripts.split()):
        head = re.split(r"\n(?!#)", (DEPLOY / name).read_text(encoding="utf-8"))[0]
        said = " ".join(line.strip("# ") for line in head.splitlines())
        assert re.search(r"Validated|Tested", said), name
        assert "Not run" in said, name
