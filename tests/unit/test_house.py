"""House rules on structure: who imports whom, how long things are, what they are called."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.source import PRODUCT, ROOT, Module, dotted, modules, report

MODULE_LINES, FUNCTION_LINES, MEDIAN_LINES, DOCSTRING_LINES = 400, 50, 10, 15

MAY_IMPORT: Mapping[str, set[str]] = {
    "engine": {"engine"},
    "migrations": {"migrations", "engine"},
    "catalogs": {"catalogs"},
    "api": {"api", "engine", "migrations", "catalogs"},
    "scheduler": {"scheduler", "engine", "migrations", "catalogs"},
    "workers": {"workers", "engine", "migrations", "catalogs"},
    "ops": set(PRODUCT),
}
ROOMS: Sequence[set[str]] = (
    {"errors", "addresses", "durations", "pairs", "settings", "metrics", "telemetry"},
    {"db", "service"},
    {
        "schedule",
        "catchup",
        "retry",
        "expressions",
        "template",
        "secrets",
        "contract",
        "pipeline",
        "reflex",
        "storable",
        "limits",
    },
    {"gate"},
    {"door"},
    {"store"},
    {"tools"},
    {"plan", "execution", "executor", "trial"},
)
PURE = 2  # the room that does no I/O: it sees the first room and itself
BANNED = {
    *(
        "manager",
        "managers",
        "helper",
        "helpers",
        "util",
        "utils",
        "common",
        "base",
        "misc",
        "impl",
        "simple",
    ),
    *("enhanced", "v2"),
}
MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
MUTATORS = {
    "append",
    "extend",
    "insert",
    "add",
    "update",
    "setdefault",
    "pop",
    "popitem",
    "clear",
    "remove",
    "discard",
}
CONTAINERS = {"list", "dict", "set", "defaultdict", "deque", "Counter", "OrderedDict", "count"}


def room(name: str) -> int | None:
    """The number of the room that an engine module lies in."""
    parts = name.split(".")
    return next((number for number, names in enumerate(ROOMS) if len(parts) > 1 and parts[1] in names), None)


def test_packages_import_one_way() -> None:
    """The api, the scheduler and the workers never import each other; nothing imports ops."""
    found = (
        f"{module.name}:{line} imports {name}"
        for module in modules(*PRODUCT)
        for line, name in module.imports()
        if name.split(".")[0] in {*PRODUCT, "tests"} and name.split(".")[0] not in MAY_IMPORT[module.top]
    )
    report(found, "imports between packages go one way (ops → api, scheduler, workers → engine)")


def test_every_engine_module_has_a_room() -> None:
    """A new engine module is given its place in the order before it is used."""
    found = (m.name for m in modules("engine") if m.dotted != "engine" and room(m.dotted) is None)
    report(found, "name the module's room in ROOMS")


def test_rooms_import_only_from_above() -> None:
    """Within the engine, a room imports from the rooms above it; the pure room does no I/O at all."""
    found = []
    for module in modules("engine"):
        own = room(module.dotted)
        for line, name in module.imports():
            other = room(name) if name.startswith("engine.") else None
            if own is None or other is None:
                continue
            if other > own or (own == PURE and other == 1):
                found.append(f"{module.name}:{line} (room {own + 1}) imports {name} (room {other + 1})")
    report(found, "engine's rooms import only those above them")


def test_the_pure_room_opens_nothing_and_has_no_clock() -> None:
    """Schedules, templates, contracts and the gate take the instant, and touch neither file nor socket."""
    io_modules = {"psycopg", "psycopg_pool", "socket", "subprocess", "httpx2", "sqlalchemy"}
    clocks = {
        "datetime.now",
        "datetime.utcnow",
        "datetime.datetime.now",
        "date.today",
        "time.time",
        "time.sleep",
    }
    found = []
    for module in modules("engine"):
        if room(module.dotted) != PURE:
            continue
        found += [
            f"{module.name}:{n} imports {name}"
            for n, name in module.imports()
            if name.split(".")[0] in io_modules
        ]
        found += [
            f"{module.name}:{c.lineno} calls {dotted(c.func)}"
            for c in module.calls()
            if dotted(c.func) in clocks
        ]
    report(found, "pure functions take the instant and do no I/O")


def test_modules_and_functions_stay_short() -> None:
    """No module is longer than 400 lines, no function than 50, and half of the functions have at most 10."""
    found, lengths = [], []
    for module in modules(*PRODUCT, "tests"):
        if module.text.count("\n") > MODULE_LINES:
            found.append(f"{module.name} has {module.text.count(chr(10))} lines (at most {MODULE_LINES})")
        for function in module.functions():
            length = (function.end_lineno or 0) - function.lineno + 1
            lengths += [length] if module.top in PRODUCT else []
            if length > FUNCTION_LINES:
                found.append(f"{module.name}:{function.lineno} {function.name} has {length} lines")
    report(found, f"split it: a module has at most {MODULE_LINES} lines, a function {FUNCTION_LINES}")
    assert statistics.median(lengths) <= MEDIAN_LINES


def test_modules_say_what_they_are_for() -> None:
    """Each module that holds code opens with a docstring of at most 15 lines."""
    found = []
    for module in modules(*PRODUCT, "tests"):
        text = ast.get_docstring(module.tree)
        if module.tree.body and not text:
            found.append(f"{module.name} has no docstring")
        elif text and len(text.splitlines()) > DOCSTRING_LINES and module.name != "engine/errors.py":
            found.append(f"{module.name} needs {len(text.splitlines())} lines to say it")
    report(found, f"say what and why in at most {DOCSTRING_LINES} lines (the error tree draws itself)")


def test_names_are_words_for_what_things_are() -> None:
    """No file, class or function is named by a word that says nothing."""
    found = []
    for module in modules(*PRODUCT, "tests"):
        nodes = [
            n for n in module.nodes if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        for line, name in [(1, Path(module.name).stem), *((node.lineno, node.name) for node in nodes)]:
            words = {word.lower() for word in re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).split("_")}
            found += [f"{module.name}:{line} {name}"] if words & BANNED else []
    report(found, f"banned in names: {', '.join(sorted(BANNED))}")


def test_modules_hold_no_mutable_state() -> None:
    """A table at module level is a constant: its name is upper-case and nothing writes to it."""
    found = []
    for module in modules(*PRODUCT):
        tables = {}
        for node in module.tree.body:
            for name in bound_to_container(node):
                tables[name] = node
        found += [f"{module.name}:{n.lineno} {name}" for name, n in tables.items() if not name.isupper()]
        found += [f"{module.name}:{line} writes {name}" for line, name in written(module) if name in tables]
        found += [f"{module.name}:{n.lineno} global" for n in module.nodes if isinstance(n, ast.Global)]
    report(found, "keep state in an object with a life, or make it a constant")


def bound_to_container(node: ast.stmt) -> list[str]:
    """The names that a module-level statement binds to a list, dict or set."""
    if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
        return []
    call = dotted(node.value.func).split(".")[-1] if isinstance(node.value, ast.Call) else ""
    if not isinstance(node.value, MUTABLE) and call not in CONTAINERS:
        return []
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [dotted(target) for target in targets if dotted(target) != "__all__"]


def written(module: Module) -> Iterator[tuple[int, str]]:
    """Line and name of every container that is changed in place."""
    for node in module.nodes:
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.lineno, dotted(node.value)
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS
        ):
            yield node.lineno, dotted(node.func.value)


def test_importing_does_nothing() -> None:
    """Importing a module reads no file of ours but code, writes none, connects nowhere, starts nothing."""
    names = [module.dotted for module in modules(*PRODUCT) if module.dotted != "migrations.env"]
    names = [name for name in names if not name.startswith("migrations.versions")]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(ROOT), *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


IMPORT_ALL = """
import importlib, sys
root, *names = sys.argv[1:]
sys.dont_write_bytecode = True
def hook(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        ours = isinstance(path, str) and path.startswith(root + "/") and "/.venv" not in path
        if ours and not path.endswith((".py", ".pyc")):
            raise RuntimeError(f"an import opens {path}")
    elif event in {"socket.connect", "subprocess.Popen", "os.system", "os.putenv", "os.mkdir", "os.rename"}:
        raise RuntimeError(f"an import does {event} {arguments}")
sys.addaudithook(hook)
for name in names:
    importlib.import_module(name)
"""
