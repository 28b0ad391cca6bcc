"""The project's own source, parsed once per test process, for the tests that read it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("api", "engine", "scheduler", "workers", "migrations", "catalogs", "ops")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file: `name` is its path from the root, `dotted` its import name, `nodes` all of its tree."""

    name: str
    dotted: str
    text: str
    tree: ast.Module
    nodes: tuple[ast.AST, ...]

    @property
    def top(self) -> str:
        return self.dotted.split(".")[0]

    def functions(self) -> Iterator[Function]:
        """Every function and method, nested ones too."""
        return (node for node in self.nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))

    def calls(self) -> Iterator[ast.Call]:
        """Every call."""
        return (node for node in self.nodes if isinstance(node, ast.Call))

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of everything imported; `from engine import db` is `engine.db`."""
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, f"{self._origin(node)}.{alias.name}") for alias in node.names)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.dotted.split(".") if self.name.endswith("__init__.py") else self.dotted.split(".")[:-1]
        return ".".join([*parts[: len(parts) - node.level + 1], node.module or ""]).strip(".")


@cache
def modules(*tops: str) -> tuple[Module, ...]:
    """The modules below these folders."""
    found = (path for top in tops for path in sorted((ROOT / top).rglob("*.py")))
    return tuple(_parsed(path) for path in found)


@cache
def texts() -> tuple[tuple[str, str], ...]:
    """Name and text of every file that people read: code, SQL, documents, configuration."""
    tops = [ROOT / top for top in (*PRODUCT, "tests", "docs", ".ci", ".github")]
    paths = [path for top in tops for path in sorted(top.rglob("*"))] + sorted(ROOT.glob("*"))
    kept = (path for path in paths if path.is_file() and "__pycache__" not in path.parts)
    return tuple((str(path.relative_to(ROOT)), _text(path)) for path in kept)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or an attribute, "" of anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}".lstrip(".")
    return node.id if isinstance(node, ast.Name) else ""


def report(found: Iterable[str], rule: str) -> None:
    """Fail with the rule and every line that breaks it."""
    broken = sorted(found)
    assert not broken, f"{rule}\n  " + "\n  ".join(broken)


@cache
def _parsed(path: Path) -> Module:
    name = str(path.relative_to(ROOT))
    parts = path.relative_to(ROOT).with_suffix("").parts
    text = path.read_text(encoding="utf-8")
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    tree = ast.parse(text, name)
    return Module(name=name, dotted=module, text=text, tree=tree, nodes=tuple(ast.walk(tree)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
