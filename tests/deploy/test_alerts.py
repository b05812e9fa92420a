"""Alerts fire above their thresholds, ask for what an engine really tells, and what deploy/ has is valid."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from laneway import Engine
from laneway.engine.telemetry.catalogue import BY_NAME, markdown
from tests.outside import require

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
METRICS_PAGE = ROOT / "docs" / "metrics.md"
_NAME = re.compile(r"(?<![.\w])(?:laneway|process)_[a-z0-9_]+\b|\bup\b")
_FOREIGN = {"up"}  # Prometheus makes it itself


def _rules() -> list[dict[str, str]]:
    document = yaml.safe_load((DEPLOY / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


def _promtool(*command: str, cwd: Path = DEPLOY) -> subprocess.CompletedProcess[str]:
    promtool = require("promtool", package="prometheus")
    return subprocess.run([promtool, *command], cwd=cwd, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "command",
    [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts_test.yaml"), ("check", "config", "prometheus.yaml")],
    ids=" ".join,
)
def test_promtool_accepts_it(command: tuple[str, ...]) -> None:
    """Syntax, every case of every threshold, and the scrape configuration."""
    done = _promtool(*command)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: f"{rule['alert']} {rule['labels']['severity']}")
def test_each_threshold_is_held_by_a_case(rule: dict[str, str], tmp_path: Path) -> None:
    """Moved a little, up or down, some case of alerts_test.yaml fails: none is tested by accident."""
    expression = rule["expr"]
    compared = re.search(r"(>|==|!=) ([\d.]+)$", expression) or re.search(r"(>) (1000) and", expression)
    assert compared is not None, expression
    operator, number = compared[1], float(compared[2])
    nearly = {"==": ["!= 0"], "!=": ["> 0", "< 0"]}.get(operator)
    if nearly is None:
        nearly = [f"> {number * 1.5 or 5}", f"> {number * 0.97 or -1}"]
    text = (DEPLOY / "alerts.yaml").read_text(encoding="utf-8")
    assert text.count(f"          {expression}\n") == 1
    cases = yaml.load((DEPLOY / "alerts_test.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    cases["tests"] = [case for case in cases["tests"] if case["alert_rule_test"][0]["alertname"] == rule["alert"]]
    (tmp_path / "alerts_test.yaml").write_text(yaml.safe_dump(cases))
    for other in nearly:
        moved = expression.replace(compared[0], other + (" and" if compared[0].endswith("and") else ""))
        (tmp_path / "alerts.yaml").write_text(text.replace(expression, moved))
        done = _promtool("test", "rules", "alerts_test.yaml", cwd=tmp_path)
        assert done.returncode == 1, f"{moved} passes every case as well"
        assert "FAILED" in done.stdout + done.stderr


def _asked(text: str) -> set[str]:
    names = {re.sub(r"_(bucket|sum|count)$", "", name) for name in _NAME.findall(text)}
    return names - _FOREIGN


async def _told() -> set[str]:
    async with Engine() as engine:
        text = engine.metrics()
    samples = {s.name for family in text_string_to_metric_families(text) for s in family.samples}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples}


def test_alerts_and_questions_are_about_metrics_that_exist() -> None:
    """Each name in a rule or in the page is in the catalogue, and a running engine tells it."""
    told = asyncio.run(_told())
    page = METRICS_PAGE.read_text(encoding="utf-8").partition("## Catalogue")[0]
    for rule in _rules():
        assert rule["annotations"]["summary"]  # type: ignore[index]
        assert rule["annotations"]["runbook"].endswith(".")  # type: ignore[index]
        assert _asked(rule["expr"]) <= set(BY_NAME) & told, rule["alert"]
        assert _asked(rule["annotations"]["runbook"]) <= set(BY_NAME)  # type: ignore[index]
        assert rule["alert"] in page
    assert _asked(page) - {"laneway_connections_"} <= set(BY_NAME) & told


def test_the_page_has_the_whole_catalogue() -> None:
    """`laneway metrics --list` made its table."""
    assert METRICS_PAGE.read_text(encoding="utf-8").endswith(f"\n\n{markdown()}")


@pytest.mark.parametrize(
    "question", re.findall(r"`([^`\n]*\([^`\n]*\[\d+[mh]\][^`\n]*)`", METRICS_PAGE.read_text(encoding="utf-8"))
)
def test_the_questions_of_the_page_are_promql(question: str, tmp_path: Path) -> None:
    """Prometheus's own parser takes each of them."""
    rule = {"groups": [{"name": "page", "rules": [{"record": "asked", "expr": question.replace("\\|", "|")}]}]}
    (tmp_path / "page.yaml").write_text(yaml.safe_dump(rule))
    done = _promtool("check", "rules", "page.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
