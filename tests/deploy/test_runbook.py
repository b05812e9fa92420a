"""The run-book: a section for each alert, commands that exist, questions that Prometheus takes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from laneway.engine.cli.root import app
from laneway.engine.config import Config
from laneway.engine.telemetry.catalogue import BY_NAME
from laneway.routing.errors import LanewayError
from tests.outside import require

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "runbook.md"
TEXT = PAGE.read_text(encoding="utf-8")
PROCEDURES = {
    "A host is lost",
    "A front is lost",
    "Ray's head is lost",
    "Redis is away",
    "Redis is full",
    "A backlog at 3 a.m.",
    "Rolling upgrade",
    "Drain a node",
    "Rotate the cluster secret",
    "Rotate the keys of tokens",
    "Restore from backup",
    "Scale out",
}
PARTS = ("**Means**", "**Look first**", "**Likely**", "**Do**", "**Wake somebody**")


def _rules() -> list[dict[str, dict[str, str]]]:
    document = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _sections(text: str) -> dict[str, str]:
    """Title -> body of each section of the third level."""
    _, *parts = re.split(r"^### (.+)$", text, flags=re.MULTILINE)
    return {
        title: re.split(r"^## ", body, flags=re.MULTILINE)[0]
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_every_alert_has_its_section_and_points_to_it() -> None:
    """And every section is an alert or a procedure: none is left over from a rule that is gone."""
    sections = set(_sections(TEXT))
    alerts = {str(rule["alert"]) for rule in _rules()}
    assert sections == alerts | PROCEDURES
    for rule in _rules():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{_anchor(str(rule['alert']))}"


def test_every_alert_is_told_in_full() -> None:
    """What it means, where to look, what is likely, what to do, and whether to wake somebody, in this order."""
    alerts = {str(rule["alert"]) for rule in _rules()}
    for title, body in _sections(TEXT).items():
        if title in alerts:
            places = [body.find(part) for part in PARTS]
            assert places == sorted(places), title
            assert places[0] == 2
            assert "```promql" in body, title


def test_links_lead_somewhere() -> None:
    """Anchors of this page and of others, and files."""
    for label, target in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", TEXT):
        file, _, anchor = target.partition("#")
        path = (PAGE.parent / file) if file else PAGE
        assert path.exists(), label
        if anchor:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_anchor(title) for title in titles}, label


def _questions() -> Iterator[str]:
    for block in re.findall(r"```promql\n(.*?)```", TEXT, re.DOTALL):
        yield from block.strip().splitlines()


def test_questions_are_promql_about_metrics_that_exist(tmp_path: Path) -> None:
    """Prometheus's parser takes each, and each name on the page is in the catalogue."""
    for name in re.findall(r"(?<![.\w])(?:laneway|process)_\w+", TEXT):
        assert re.sub(r"_(bucket|sum|count)$", "", name) in BY_NAME, name
    rules = [{"record": f"asked_{n}", "expr": question} for n, question in enumerate(_questions())]
    assert len(rules) > 30
    (tmp_path / "page.yaml").write_text(yaml.safe_dump({"groups": [{"name": "page", "rules": rules}]}))
    promtool = require("promtool", package="prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", "page.yaml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _commands() -> set[str]:
    fenced = "\n".join(re.findall(r"```\n(.*?)```", TEXT, re.DOTALL)).splitlines()
    inline = re.findall(r"`([^`\n]+)`", TEXT)
    return {line.strip() for line in (*fenced, *inline) if line.strip().startswith("laneway ")}


@pytest.mark.parametrize("command", sorted(_commands()))
def test_commands_exist(command: str) -> None:
    """Each `laneway ...` has that name and those options."""
    words = command.split()[1:]
    names = words[:2] if words[0] in ("cluster", "dlq", "model") else words[:1]
    result = CliRunner().invoke(app, [*names, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 0, command
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.output)
    assert all(option in plain for option in words if option.startswith("--"))


def test_error_codes_exist() -> None:
    """What the page calls an error is the code that logs and clients have."""
    codes = {kind.code for kind in _kinds(LanewayError)}
    named = set(re.findall(r"\b[A-Z]+_[A-Z]+(?:_[A-Z]+)*\b", TEXT)) - {"OLD_HEAD"}
    assert len(named) >= 8
    assert named <= codes


def _kinds(kind: type[LanewayError]) -> Iterator[type[LanewayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def test_settings_exist() -> None:
    """Each `section.field` on the page is one."""
    named = set(re.findall(r"`(\w+)\.(\w+)(?: = [^`]+)?`", TEXT))
    ours = {(section, field) for section, field in named if section in Config.model_fields}
    assert len(ours) > 15
    for section, field in ours:
        assert hasattr(getattr(Config(), section), field), f"{section}.{field}"
