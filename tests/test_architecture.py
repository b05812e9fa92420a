"""The shape of the tree: what the documents name exists, and every module has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("routing", "actors", "engine")
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def _modules() -> list[Path]:
    found = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [path for path in found if path.name != "__init__.py" and "_pb2" not in path.name]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_files_exist(document: Path) -> None:
    """Every relative link and every path in code quotes in a document points to something."""
    text = document.read_text(encoding="utf-8")
    linked = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [t for t in linked if t and "://" not in t and not (document.parent / t).exists()]
    quoted = re.findall(r"`((?:routing|actors|engine|tests|docs|deploy|examples|benchmarks)/[\w./-]+\.\w+)`", text)
    missing += [t for t in quoted if not (ROOT / t).exists()]
    assert not missing, f"{document.name} names what does not exist: {missing}"


@pytest.mark.parametrize("module", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_module_has_a_law_and_a_test(module: Path) -> None:
    """Each module opens with its docstring, says what it exports, and has a test module of its name."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "no module docstring"
    names = {
        t.id for node in tree.body if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }
    assert "__all__" in names, "no __all__"
    wanted = f"test_{module.stem.lstrip('_')}"
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if path.stem.startswith(wanted)]
    assert tests, f"no {wanted}*.py under tests/"


def test_modules_stay_readable() -> None:
    """No module over 400 lines, no function over 60."""
    long = []
    for module in _modules():
        text = module.read_text(encoding="utf-8")
        if text.count("\n") > 400:
            long.append(f"{module.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                size = (node.end_lineno or node.lineno) - node.lineno + 1
                if size > 60:
                    long.append(f"{module.relative_to(ROOT)}:{node.lineno} {node.name}: {size} lines")
    assert not long, long
