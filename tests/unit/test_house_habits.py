"""House rules on habits: what is caught, read, printed, logged, silenced and waited for."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.telemetry import EVENTS
from tests.source import PRODUCT, ROOT, Module, dotted, modules, report, texts

CATCH_ALL: Mapping[str, str] = {
    "engine/tools/children/callee.py": "whatever a user's function raises becomes its answer",
    "engine/service.py": "a service's loop outlives one failed round",
    "workers/runner.py": "whatever a tool raises becomes the run's outcome",
    "workers/requested.py": "whatever a request by SQL brings about ends that request, and no other",
    "api/edge.py": "whatever a route raises becomes a problem document",
}
DATABASE_FIXTURES = {"server_url", "template_database", "database_url", "empty_database_url", "conn"}
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


def comments(module: Module) -> Iterator[tuple[int, str]]:
    """Line and text of each comment."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_catch_alls_stand_at_the_edges_with_a_reason() -> None:
    """`except Exception` is allowed where a loop, a run or a request ends, and says why."""
    found = []
    for module in modules(*PRODUCT):
        lines = module.text.splitlines()
        for node in module.nodes:
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = {n.id for n in (ast.walk(node.type) if node.type else ()) if isinstance(n, ast.Name)}
            broad = node.type is None or names & {"Exception", "BaseException"}
            clause = " ".join(line.strip() for line in lines[node.lineno - 1 : node.body[0].lineno - 1])
            if broad and (module.name not in CATCH_ALL or "#" not in clause):
                found.append(f"{module.name}:{node.lineno} {clause}")
    report(
        found, f"catch what you expect; a catch-all only in {', '.join(CATCH_ALL)}, with its reason beside it"
    )


def test_only_the_settings_read_the_environment() -> None:
    """`os.environ` and its kin appear in engine/settings.py alone."""
    found = []
    for module in modules(*PRODUCT):
        names = [(n.lineno, dotted(n)) for n in module.nodes if isinstance(n, ast.Attribute)]
        names += list(module.imports())
        found += [
            f"{module.name}:{line} {name}"
            for line, name in names
            if name in {"os.environ", "os.getenv", "os.putenv", "os.environb"}
            and module.name != "engine/settings.py"
        ]
    report(found, "read it through engine/settings.py")


def test_only_the_command_line_prints() -> None:
    """Everything else logs."""
    found = (
        f"{module.name}:{call.lineno}"
        for module in modules(*PRODUCT)
        for call in module.calls()
        if dotted(call.func) == "print" and not module.name.startswith("ops/cli/")
    )
    report(found, "log an event instead of printing")


def test_nothing_is_left_for_later() -> None:
    """No marker of unfinished work stands anywhere."""
    marks = re.compile("|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")))
    found = (
        f"{name}:{number} {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if marks.search(line)
    )
    report(found, "do it, or leave it out")


def test_no_file_names_this_machine() -> None:
    """Neither the checkout's place nor the author's home stands in a file; a lock file names no address."""
    places = [place for place in (str(ROOT), str(Path.home())) if len(place) > 4]
    found = [
        f"{name}:{number} {line.strip()}"
        for name, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if any(re.search(rf"(?<![\w./]){re.escape(place)}(?![\w-])", line) for place in places)
    ]
    found += [
        f"{name} holds an address"
        for name, text in texts()
        if name.endswith("requirements.lock") and "://" in text
    ]
    report(found, "name no machine")


def logged() -> Iterator[tuple[str, object]]:
    """Place and event of every log call; an event that is put together at run time is None."""
    for module in modules(*PRODUCT):
        for call in module.calls():
            if not isinstance(call.func, ast.Attribute) or call.func.attr not in LOG_METHODS:
                continue
            if dotted(call.func.value).split(".")[-1].strip("_") in {"log", "logger"}:
                first = call.args[0] if call.args else None
                yield f"{module.name}:{call.lineno}", first.value if isinstance(first, ast.Constant) else None


def test_every_logged_event_is_listed() -> None:
    """A log call names one of telemetry's EVENTS, literally, so that docs and metrics can follow it."""
    report((f"{place} {event}" for place, event in logged() if event not in EVENTS), "list it in EVENTS")
    assert list(EVENTS) == sorted(set(EVENTS))


def test_every_listed_event_is_logged() -> None:
    """The list promises no event that never comes."""
    report(set(EVENTS) - {event for _, event in logged()}, "log the event or take it off the list")


def test_exceptions_to_the_linters_have_reasons() -> None:
    """A suppressed finding says beside it why it is none."""
    reason = re.compile(
        r"#\s*(noqa: [A-Z0-9]+(, ?[A-Z0-9]+)*\s+\S|type: ignore\[[\w, -]+\]\s+#\s*\S|pragma: no cover\s+\S)"
    )
    mark = re.compile(r"#\s*(noqa|type:\s*ignore|pragma: no cover)")
    found = (
        f"{module.name}:{line} {text}"
        for module in modules(*PRODUCT, "tests")
        if mark.search(module.text)  # taking a file apart takes long
        for line, text in comments(module)
        if mark.search(text) and not reason.search(text)
    )
    report(found, "give the rule's code and, after it, the reason")


def test_tests_say_what_they_show() -> None:
    """Each test opens with one sentence."""
    found = []
    for module in modules("tests"):
        for function in module.functions():
            opening = (ast.get_docstring(function) or "").split("\n\n")[0]
            if function.name.startswith("test_") and not opening.endswith((".", "?")):
                found.append(f"{module.name}:{function.lineno} {function.name}")
    report(found, "open the test with a sentence that ends with a full stop")


def test_tests_wait_in_one_place() -> None:
    """Only tests/polling.py sleeps; a test waits for a condition."""
    found = (
        f"{module.name}:{call.lineno}"
        for module in modules("tests")
        for call in module.calls()
        if dotted(call.func).split(".")[-1] == "sleep" and module.name != "tests/polling.py"
    )
    report(found, "use tests.polling.poll_until")


def test_unit_tests_need_no_database() -> None:
    """No unit test asks for a database fixture."""
    found = (
        f"{module.name}:{function.lineno} {function.name} asks for {argument.arg}"
        for module in modules("tests/unit")
        for function in module.functions()
        for argument in function.args.args
        if function.name.startswith("test_") and argument.arg in DATABASE_FIXTURES
    )
    report(found, "move it to tests/integration")
