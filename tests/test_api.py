"""The public surface, pinned: what may be used, with which arguments, stands in tests/api.txt.

A change of that file is a change that users feel: it goes into the CHANGELOG. Renew it with

    python tests/test_api.py > tests/api.txt

It is read from the source, not from imported objects, so that it is the same for every version of
Python and of the libraries.
"""

from __future__ import annotations

import ast
import difflib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
SNAPSHOT = ROOT / "tests" / "api.txt"
HANDED_OUT = {
    "engine/app/brain.py": ("Brain",),
    "engine/app/embedded.py": ("EmbeddedSession",),
    "engine/app/toolbox.py": ("Toolbox",),
    "engine/client_dial.py": ("Trust",),
    "engine/client_errors.py": ("OnFailure",),
    "engine/client_outbox.py": ("Receipt",),
    "engine/delivery.py": ("Event",),
    "engine/edge/asgi.py": ("Asgi",),
    "engine/edge/auth.py": ("JwtAuthenticator", "JwtPolicy"),
    "engine/edge/grpc.py": ("GrpcEdge", "GrpcPolicy"),
    "engine/edge/http.py": ("HttpEdge",),
    "engine/models/local_llm.py": ("ChildOptions", "LocalLlm"),
    "engine/models/openai.py": ("ChatOptions", "OpenAIModel"),
    "engine/models/scripted.py": ("ScriptedModel",),
    "engine/models/synthetic.py": ("SyntheticModel",),
    "engine/sections.py": (),
    "engine/stores/memory.py": ("MemoryStore",),
    "engine/stores/sqlite.py": ("SqliteStore",),
    "engine/tooling/functions.py": ("ToolOptions", "tool"),
    "engine/tooling/mcp.py": ("MCPServer",),
    "engine/testing/otlp.py": ("MetricPoint", "SpanRecord"),
    "engine/testing/proxy.py": (),
    "engine/testing/sink.py": (),
    "engine/testing/tree.py": (),
    "routing/errors.py": (),
}
"""Classes that an embedder meets beside the facade's; () = everything in the module's `__all__`."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _facade() -> dict[str, str]:
    """Return the facade's names and the files they live in."""
    tree = ast.parse((ROOT / "laneway" / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_HOME" and node.value is not None:
            homes: dict[str, str] = ast.literal_eval(node.value)
            return homes
    raise AssertionError("laneway/__init__.py has no _HOME")


def _file(module: str) -> Path:
    base = ROOT.joinpath(*module.split(".")[1:])
    return base.with_suffix(".py") if base.with_suffix(".py").exists() else base / "__init__.py"


def _exported(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return []


def _definitions(file: Path, name: str) -> list[ast.stmt]:
    """Find where a module defines a name (overloads: several times), following `from x import name`."""
    found: list[ast.stmt] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | _Function):
            found += [node] if node.name == name else []
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            found += [node] if ast.unparse(target) == name else []
        elif isinstance(node, ast.ImportFrom) and any((a.asname or a.name) == name for a in node.names):
            return _definitions(_file(node.module or ""), name)
    assert found, f"{file.relative_to(ROOT)} does not define {name}"
    return found


def _signature(node: _Function) -> str:
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    marks = [f"@{ast.unparse(d)} " for d in node.decorator_list if ast.unparse(d) in _KINDS_OF_METHOD]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{''.join(marks)}{word} {node.name}({ast.unparse(node.args)}){returns}"


_KINDS_OF_METHOD = {"property", "classmethod", "staticmethod", "overload"}


def _members(node: ast.ClassDef) -> Iterator[str]:
    for item in node.body:
        if isinstance(item, _Function):
            if not item.name.startswith("_") or item.name in ("__init__", "__aiter__", "__anext__"):
                yield _signature(item)
            if item.name == "__init__":
                yield from (f"self.{name}" for name in _attributes(item))
        elif isinstance(item, ast.AnnAssign | ast.Assign):
            text = ast.unparse(item)
            if not text.startswith("_"):
                yield text


def _attributes(init: _Function) -> list[str]:
    """Return the public attributes that a constructor sets."""
    names = [
        node.attr
        for node in ast.walk(init)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"
    ]
    return sorted({name for name in names if not name.startswith("_")})


def _describe(file: Path, name: str) -> str:
    node, *others = _definitions(file, name)
    if isinstance(node, ast.ClassDef):
        head = f"class {name}({', '.join(ast.unparse(part) for part in [*node.bases, *node.keywords])})"
        return "\n".join([head.replace("()", ""), *(f"    {member}" for member in _members(node))])
    if isinstance(node, _Function):
        return "\n".join(_signature(each) for each in [node, *others] if isinstance(each, _Function))
    return ast.unparse(node)


def surface() -> str:
    """Return the public surface as text."""
    parts = ["# The facade: from laneway import NAME", ""]
    parts += [f"{_describe(_file(home), name)}\n" for name, home in sorted(_facade().items())]
    for path, chosen in HANDED_OUT.items():
        parts += [f"# laneway/{path}", ""]
        names = chosen or _exported(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        parts += [f"{_describe(ROOT / path, name)}\n" for name in names]
    return "\n".join(parts).rstrip() + "\n"


def test_the_public_surface_is_the_pinned_one() -> None:
    """Nothing public appears, changes or goes away without tests/api.txt saying so."""
    pinned, now = SNAPSHOT.read_text(encoding="utf-8"), surface()
    changes = "\n".join(difflib.unified_diff(pinned.splitlines(), now.splitlines(), "pinned", "now", n=1, lineterm=""))
    assert pinned == now, f"{changes}\n\nmeant? python tests/test_api.py > tests/api.txt, and say so in CHANGELOG.md"


def test_the_facade_lists_itself_once() -> None:
    """`__all__`, the imports for type checkers and the table of homes agree, and each name is there once."""
    import laneway

    tree = ast.parse((ROOT / "laneway" / "__init__.py").read_text(encoding="utf-8"))
    typed = [
        (alias.name, node.module)
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(typed) == sorted(_facade().items())
    assert sorted(name for name, _ in typed) == sorted(laneway.__all__)


def test_a_public_name_means_one_thing() -> None:
    """No two public classes or functions share a name; one class may be reached by two ways."""
    lines = surface().splitlines()
    heads = [line for line in lines if line.startswith(("class ", "def ", "async def "))]
    meanings: dict[str, set[str]] = {}
    for head in heads:
        meanings.setdefault(head.replace("(", " ").split("def ")[-1].split("class ")[-1].split()[0], set()).add(head)
    assert [name for name, heads_of in meanings.items() if len(heads_of) > 1] == []


def test_a_typed_program_checks() -> None:
    """A user's program under mypy --strict, from its own directory: every use is typed, every misuse is seen."""
    program = ROOT / "tests" / "typing" / "api.py"
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        f"--cache-dir={ROOT / '.mypy_cache' / 'typing'}",
        str(program),
    ]
    result = subprocess.run(command, cwd=program.parent, capture_output=True, text=True, timeout=110, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


if __name__ == "__main__":
    sys.stdout.write(surface())
