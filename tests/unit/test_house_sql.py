"""House rules on SQL: one statement per file, with its contract; never built from strings."""

from __future__ import annotations

import ast
import re

import pytest

from tests.source import PRODUCT, ROOT, dotted, modules, report

TAKERS = {"execute", "executemany", "stream", "copy", "text", "SQL", "scalar", "scalars", "exec_driver_sql"}
READERS = {"query", "fetch", "fetch_one", "execute"}  # of engine.db: they name a statement file


def queries() -> list[tuple[str, str]]:
    """Name and text of every stored statement."""
    return [
        (path.stem, path.read_text(encoding="utf-8"))
        for path in sorted((ROOT / "engine/store/queries").glob("*.sql"))
    ]


def test_sql_is_never_built_from_strings() -> None:
    """No f-string, %, + or str.format reaches a call that takes SQL."""
    found = (
        f"{module.name}:{call.lineno}"
        for module in modules(*PRODUCT, "tests")
        for call in module.calls()
        if called(call) in TAKERS and call.args and built(call.args[0])
    )
    report(found, "pass values as parameters; name identifiers with psycopg.sql.Identifier")


def called(call: ast.Call) -> str:
    """The last name of what is called: `execute` of `conn.cursor().execute(…)`."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else dotted(call.func)


def built(node: ast.expr) -> bool:
    """Whether an expression puts text together."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Mod | ast.Add)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return isinstance(node.func.value, ast.Constant | ast.JoinedStr)
    return isinstance(node, ast.JoinedStr)


@pytest.mark.parametrize(
    "text", ["f'SELECT {x}'", "'SELECT %s' % x", "'SELECT ' + x", "'SELECT {}'.format(x)"]
)
def test_the_sql_rule_can_fail(text: str) -> None:
    """Each way of putting SQL together is recognised."""
    assert built(ast.parse(text, mode="eval").body)


def test_statements_open_with_their_contract() -> None:
    """Each query's first comment says what it promises, what it locks and its fence."""
    found = []
    for name, text in queries():
        opening = text[: re.search(r"^(?!--)", text, re.MULTILINE).start()].lower()  # type: ignore[union-attr]  # the end matches
        found += [f"{name}.sql: {word}" for word in ("promises", "locks", "fence") if word not in opening]
    report(found, "open the statement with a comment that states Promises, Locks and Fence")


def test_statements_are_one_each_and_safe() -> None:
    """A query file holds one statement, no placeholder within quotes, and no nameless ON CONFLICT."""
    found = []
    for name, text in queries():
        code = re.sub(r"--[^\n]*", "", text)
        found += [
            f"{name}.sql: {hit[0]} is inside quotes"
            for hit in re.finditer(r"'[^'\n]*%\(\w+\)s[^'\n]*'", code)
        ]
        found += [f"{name}.sql: more than one statement"] if ";" in code.strip().rstrip(";") else []
        found += (
            [f"{name}.sql: ON CONFLICT without its key"] if re.search(r"(?i)on conflict\s+do\b", code) else []
        )
        found += [f"{name}.sql is not verb_noun"] if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name) else []
    report(found, "mend the statement")


def test_each_statement_is_used_and_exists() -> None:
    """Every statement that the code names has its file, and every file is named in the code."""
    calls = [call for module in modules(*PRODUCT) for call in module.calls()]
    reads = [call for call in calls if dotted(call.func).removeprefix("db.") in READERS]
    files = {name for name, _ in queries()}
    wanted = {str(arg.value) for call in reads for arg in call.args if isinstance(arg, ast.Constant)}
    named = {arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)}
    report((f"{name}.sql" for name in wanted - files), "no such statement: write it")
    report((f"{name}.sql" for name in files - named), "nothing uses the statement: remove it")
