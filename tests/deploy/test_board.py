"""The Grafana board asks for what engines tell, in PromQL, and its panels fit on the page."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from laneway.engine.telemetry.catalogue import BY_NAME
from tests.outside import require

DEPLOY = Path(__file__).parents[2] / "deploy"
ROWS = {"Lanes", "Backlog and refusals", "Connections", "Answers", "Tools", "Hosts", "Store", "Process"}
_METRIC = re.compile(r"\b(?:laneway|process)_\w+|\bup\b")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")
_UNITS = {"short", "s", "ops", "percentunit", "bytes", "Bps"}


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    """The board."""
    made: dict[str, Any] = json.loads((DEPLOY / "grafana" / "board.json").read_text(encoding="utf-8"))
    return made


def _questions(board: dict[str, Any]) -> list[str]:
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    return asked + [note["expr"] for note in board["annotations"]["list"]]


def test_every_metric_exists(board: dict[str, Any]) -> None:
    """Each name is in the catalogue, and a histogram's parts are asked of histograms only."""
    for question in _questions(board):
        names = set(_METRIC.findall(question)) - {"up"}
        assert names or "up" in question, question
        for name in names:
            stem = _SUFFIX.sub("", name)
            assert stem in BY_NAME, question
            assert (stem != name) == (BY_NAME[stem].type == "histogram"), question


def test_every_label_exists(board: dict[str, Any]) -> None:
    """What is grouped by, filtered and shown is a label of the metric, or Prometheus's own."""
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            names = {_SUFFIX.sub("", name) for name in _METRIC.findall(target["expr"])} - {"up"}
            labels = {"job", "instance", "le"} | {label for name in names for label in BY_NAME[name].labels}
            grouped = {
                word.strip() for words in re.findall(r"by \(([^)]*)\)", target["expr"]) for word in words.split(",")
            }
            filtered = set(re.findall(r"(\w+)(?:=~|!=|=)\"", target["expr"]))
            shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert grouped - {""} <= labels, target
            assert filtered <= labels, target
            assert shown <= labels, target


def test_every_question_is_promql(board: dict[str, Any], tmp_path: Path) -> None:
    """Prometheus's parser takes each, once Grafana's variables are filled in."""
    rules = [
        {"record": f"asked_{n}", "expr": question.replace("$__rate_interval", "1m").replace("$instance", ".*")}
        for n, question in enumerate(_questions(board))
    ]
    (tmp_path / "board.yaml").write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    promtool = require("promtool", package="prometheus")
    done = subprocess.run(
        [promtool, "check", "rules", "board.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_counters_are_never_shown_bare(board: dict[str, Any]) -> None:
    """A counter stands inside rate, increase or changes: its own value tells only how old a process is."""
    for question in _questions(board):
        for name in _METRIC.findall(question):
            metric = BY_NAME.get(_SUFFIX.sub("", name))
            if metric is not None and metric.type != "gauge":
                assert re.search(rf"(rate|increase)\({name}{{", question), question


def test_panels_have_their_place(board: dict[str, Any]) -> None:
    """Unique ids, no two on the same square, none over the edge, a row for each thing an operator asks."""
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        squares = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not squares & taken, panel["title"]
        taken |= squares
    assert {panel["title"] for panel in board["panels"] if panel["type"] == "row"} >= ROWS


def test_the_board_asks_the_source_that_is_provisioned(board: dict[str, Any]) -> None:
    """One source by its id, in every panel; units are Grafana's."""
    provisioned = yaml.safe_load((DEPLOY / "grafana" / "provisioning.yaml").read_text(encoding="utf-8"))
    (source,) = provisioned["datasources"]
    for panel in board["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["targets"], panel["title"]
        assert all(each["datasource"]["uid"] == source["uid"] for each in (panel, *panel["targets"]))
        assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references))
