"""Python functions as tools: real interpreters, called, reused, replaced."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from engine.errors import (
    InputInvalid,
    OutputInvalid,
    ToolError,
    ToolRejected,
    ToolUnavailable,
    ValidationFailed,
)
from engine.retry import LONGEST_ASKED
from engine.tools.children.python import PythonTools
from engine.tools.registry import parse_entry
from engine.tools.toolbox import Toolbox
from tests.polling import poll_until
from tests.unit.tools.children import CALL, RUN, SECRETS, function, gone, lives, tools


@pytest.fixture(scope="module")
async def box() -> AsyncIterator[Toolbox]:
    """One toolbox for the tests of this module that need no settings of their own."""
    async with tools(concurrency=2) as toolbox:
        yield toolbox


async def test_a_function_is_called_with_keywords(box: Toolbox) -> None:
    """Sync and async functions, defaults, and the same interpreter from call to call."""
    assert await box.call(function("add"), {"left": 1, "right": 2}, CALL) == 3
    assert await box.call(function("add"), {"left": 1}, CALL) == 2
    assert await box.call(function("add_later"), {"left": 1, "right": 2}, CALL) == 3
    pids = {(await box.call(function("surroundings"), {}, CALL))["pid"] for _ in range(3)}
    assert len(pids) == 1
    assert pids.isdisjoint({os.getpid()})


async def test_an_async_function_leaves_nothing_behind(box: Toolbox) -> None:
    """What it did not wait for is cancelled, and does not run on during the next call."""
    assert await box.call(function("add_later"), {"left": 1, "right": 1}, CALL) == 2
    assert await box.call(function("tasks_left"), {}, CALL) == 0


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -1.5,
        10**30,
        "",
        "é\u2028\U0001f600",
        "a\x00b",
        "\ud800",
        [],
        {},
        {"a": [1, {"": None}]},
        "x" * 1_000_000,
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_values_arrive_as_they_are(box: Toolbox, value: Any) -> None:
    """There and back, NUL, half of a surrogate pair and a megabyte as well; what may be stored is said elsewhere."""
    assert await box.call(function("echo"), {"value": value}, CALL) == value


async def test_a_function_may_ask_for_its_circumstances(box: Toolbox) -> None:
    """A parameter `context` has the run, the keys and the secrets that the entry lists; its repr hides them."""
    call = replace(CALL, item=3, attempt=2)
    context = await box.call(function("told", secrets=["KEY"]), {}, call)
    assert SECRETS["KEY"] not in context.pop("shown")
    assert context == {
        "run_id": str(RUN),
        "step": "work",
        "item": 3,
        "attempt": 2,
        "idempotency_key": f"{RUN}:work",
        "fence": 7,
        "traceparent": call.traceparent,
        "secrets": SECRETS,
    }
    with pytest.raises(ValidationFailed, match="OTHER is not set"):
        await box.call(function("told", secrets=["OTHER"]), {}, CALL)


async def test_the_child_is_a_fresh_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leader of its group, where the worker stands, and without anything of the worker's or duework's own."""
    monkeypatch.setenv("DUEWORK_SECRET_KEY", "x")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/d")
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    async with tools() as box:
        found = await box.call(function("surroundings"), {}, CALL)
    assert found["group"] == found["pid"]
    assert (found["threads"], found["modules"], found["folder"]) == (1, [], str(Path.cwd()))
    names = found["environment"].keys()
    assert [name for name in names if name.startswith("DUEWORK_") or name == "DATABASE_URL"] == []
    assert {"PATH", "LOG_LEVEL"} <= names


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "words"),
    [
        ("refuse", {"text": "a\x00b"}, ToolRejected, "ValueError: a\ufffdb"),
        ("refuse", {"text": "write to jane.doe@example.org"}, ToolRejected, "ValueError: write to [EMAIL]"),
        ("add", {"wrong": 1}, ToolRejected, "TypeError"),
        ("reject", {}, ToolRejected, "not like this"),
        ("busy", {}, ToolUnavailable, "come back later"),
        ("unstorable", {}, OutputInvalid, "the function's result is not JSON"),
        ("infinite", {}, OutputInvalid, "the function's result is not JSON"),
        ("long_text", {"size": 2_000_000}, OutputInvalid, "more than 1048576 bytes"),
        ("leave", {"code": 3}, ToolUnavailable, "ended with exit code 3; its last words: my last words"),
        ("leave", {"code": 0}, ToolUnavailable, "ended with exit code 0"),
        ("vanish", {"number": signal.SIGKILL}, ToolUnavailable, "was ended by SIGKILL"),
        ("crash", {}, ToolUnavailable, "was ended by SIGSEGV"),
        ("write_everywhere", {}, ToolUnavailable, "was ended by SIGKILL"),
        ("close_everything", {}, ToolUnavailable, "ended with exit code 1"),
        ("missing", {}, ToolRejected, "AttributeError"),
        ("speechless", {}, ToolRejected, "Mute"),
    ],
)
async def test_what_goes_wrong_has_its_class(
    box: Toolbox, name: str, arguments: dict[str, Any], kind: type[ToolError], words: str
) -> None:
    """The class decides about a retry; the words may be stored; the next call is none the worse for it."""
    with pytest.raises(ToolError) as failed:
        await box.call(function(name), arguments, CALL)
    assert type(failed.value) is kind
    assert words in str(failed.value)
    assert await box.call(function("add"), {"left": 1}, CALL) == 2


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("message", ("boom", {}, None)),
        ("keys", ("odd", {"details": "{(1, 2): 3}"}, None)),
        ("circle", ("odd", {"details": "{'self': {...}}"}, None)),
        ("details", ("odd", {"details": "'text'"}, None)),
        ("number", ("odd", {}, timedelta(seconds=5))),
        ("forever", ("odd", {}, LONGEST_ASKED)),
        ("past", ("odd", {}, timedelta(0))),
        ("word", ("odd", {}, None)),
    ],
)
async def test_an_odd_error_is_still_what_its_class_says(
    box: Toolbox, how: str, told: tuple[str, dict[str, Any], timedelta | None]
) -> None:
    """A function that gives its error something else than the types ask for has failed, and its process has not."""
    with pytest.raises(ToolUnavailable) as failed:
        await box.call(function("reject_oddly"), {"how": how}, CALL)
    error = failed.value
    assert (error.message, error.details, error.retry_after) == told


async def test_an_error_keeps_its_details(box: Toolbox) -> None:
    """Those that the function gave; of a dead process how it ended and what it said last."""
    with pytest.raises(ToolRejected) as refused:
        await box.call(function("reject"), {}, CALL)
    assert refused.value.details == {"field": "x"}
    with pytest.raises(ToolUnavailable) as gone_:
        await box.call(function("leave"), {"code": 9}, CALL)
    assert gone_.value.details == {"printed": "my last words", "exit_code": 9}


async def test_prints_go_to_the_log(box: Toolbox) -> None:
    """They are no part of the answer; masked, without secrets, bounded, and with the run that they belong to."""
    secret = CALL.secrets.reveal(CALL.secrets["KEY"])
    with capture_logs() as lines:
        await box.call(function("say"), {"text": f"key {secret}, jane.doe@example.org"}, CALL)
        await box.call(function("say"), {"text": "line", "times": 100_000}, CALL)
        await box.call(function("add"), {"left": 1}, CALL)
    first, second = [line for line in lines if line["event"] == "tool.printed"]
    assert first["text"] == "key [SECRET:KEY], [EMAIL]"
    assert (first["run_id"], first["step"], first["tool"]) == (str(RUN), "work", "my.function")
    assert second["text"].endswith("line\nline")
    assert len(second["text"]) < 5000


async def test_what_is_printed_between_calls_is_nobodys(box: Toolbox) -> None:
    """A thread that prints late is not heard in another run's log, whose secrets are others."""
    with capture_logs() as lines:
        await box.call(function("print_later"), {"text": "a secret of the first"}, CALL)
        child = cast("PythonTools", box.transports["python"])._idle[-1]
        await poll_until(lambda: b"secret" in child.printed._data)
        await box.call(function("say"), {"text": "second"}, CALL)
    assert [line["text"] for line in lines if line["event"] == "tool.printed"] == ["second"]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "3",
        '{"memory": 1, "whole": true}',
        '{"error": {}, "memory": 1, "whole": true}',
        "{",
        '{"error": {"kind": "LeaseLost", "message": ""}, "memory": 1, "whole": true}',
        '{"error": {"kind": "ToolError", "message": 3}, "memory": 1, "whole": true}',
    ],
)
async def test_an_answer_that_is_none_of_ours(box: Toolbox, text: str) -> None:
    """User code may write to the socket that it shares with our program; then its process is ended."""
    with pytest.raises(ToolUnavailable):
        await box.call(function("pretend"), {"text": text}, CALL)


async def test_stdin_is_empty(box: Toolbox) -> None:
    """A function that reads finds nothing, and takes nothing from the protocol."""
    assert await box.call(function("read"), {}, CALL) == ""


async def test_a_worn_child_is_replaced() -> None:
    """After so many calls, above so much memory, without its stdout, and after a while without work."""
    async with tools(python_calls=2) as box:
        pids = [await box.call(function("say"), {"text": ""}, CALL) for _ in range(4)]
        assert pids[0] == pids[1] != pids[2] == pids[3]
        await gone(pids[:2])
    async with tools(python_memory_bytes=200_000_000) as box:
        pids = [await box.call(function("grow"), {"size": size}, CALL) for size in (1, 300_000_000, 1)]
        assert pids[0] == pids[1] != pids[2]
        await box.call(function("close_stdout"), {}, CALL)
        assert await box.call(function("grow"), {"size": 1}, CALL) != pids[2]
    async with tools(python_idle=timedelta(milliseconds=10)) as box:
        await gone([await box.call(function("grow"), {"size": 1}, CALL)])


async def test_a_child_that_dies_idle_is_not_used() -> None:
    """The next call has a new one."""
    async with tools() as box:
        pid = await box.call(function("grow"), {"size": 1}, CALL)
        os.kill(pid, signal.SIGKILL)
        await gone([pid])
        with capture_logs():
            assert await poll_until(lambda: box.call(function("grow"), {"size": 1}, CALL)) != pid


async def test_forks_do_not_answer(box: Toolbox) -> None:
    """A copy that comes back out of the function ends, and its answer is not taken for the next one's."""
    for _ in range(3):
        assert await box.call(function("fork_and_return"), {}, CALL) == "parent"
        assert await box.call(function("add"), {"left": 1}, CALL) == 2


async def test_no_more_children_than_places() -> None:
    """Calls beyond the worker's concurrency wait; every answer reaches its own call."""
    async with tools(concurrency=3) as box:
        calls = [box.call(function("echo"), {"value": n}, CALL) for n in range(40)]
        assert await asyncio.gather(*calls) == list(range(40))
        pids = await asyncio.gather(*(box.call(function("say"), {"text": ""}, CALL) for _ in range(40)))
        assert len(set(pids)) <= 3
    assert not any(map(lives, pids))


async def test_a_catalog_is_checked_in_a_child(tmp_path: Path) -> None:
    """Modules that are not there, break or exit, functions that do not fit: all are told, none is imported here."""
    (tmp_path / "their_broken.py").write_text("raise RuntimeError('not today')")
    (tmp_path / "their_ending.py").write_text("raise SystemExit(4)")
    (tmp_path / "their_tool.py").write_text("def run(city, days=1): return city\n")
    fits: dict[str, Any] = {"input_schema": {"properties": {"city": {}}}}
    entries = [
        function("their_tool:run", **fits),
        function("their_tool:run", input_schema={"properties": {"town": {}}}),
        function("their_none:run"),
        function("their_tool:walk", **fits),
        function("their_broken:run"),
        function("their_ending:run"),
        function("NOT_A_FUNCTION"),
        function("positional", input_schema={"properties": {"value": {}}}),
        function("told", input_schema={"properties": {"context": {}}}),
    ]
    async with tools(python_path=str(tmp_path)) as box:
        found = [problem.detail for problem in await box.faults(entries)]
        assert await box.call(entries[0], {"city": "Chisinau"}, CALL) == "Chisinau"
    assert not any(name.startswith("their_") for name in sys.modules)
    expected = [
        "their_tool:run: it has no parameter 'town' for the input's 'town'",
        "their_tool:run: its parameter 'city' has no default and is no property of the input_schema",
        "their_none:run: ModuleNotFoundError: No module named 'their_none'",
        "their_tool:walk: AttributeError",
        "their_broken:run: RuntimeError: not today",
        "their_ending:run: the process of their_ending:run ended with exit code 4",
        "NOT_A_FUNCTION: TypeError",
        "positional: it has no parameter 'value'",
        "told: its parameter 'context' is given the call's circumstances",
    ]
    assert len(found) == len(expected), found
    for text, words in zip(found, expected, strict=True):
        assert text.startswith("test.yaml: my.function: ")
        assert words in text


async def test_a_catalog_that_is_read_anew_imports_anew(tmp_path: Path) -> None:
    """After a check no call goes to an interpreter that has imported before it, also one that was busy meanwhile."""
    module = tmp_path / "their_changing.py"
    module.write_text("def value(): return 1\n")
    entry = function("their_changing:value")
    async with tools(python_path=str(tmp_path)) as box:
        assert await box.call(entry, {}, CALL) == 1
        busy = asyncio.ensure_future(box.call(function("wait_for"), {"path": str(tmp_path / "go")}, CALL))
        await poll_until((tmp_path / "go.waiting").exists)
        module.write_text("def value(): return 1 + 1\n")
        assert await box.faults([entry]) == []
        (tmp_path / "go").touch()
        await busy
        assert await asyncio.gather(*(box.call(entry, {}, CALL) for _ in range(3))) == [2, 2, 2]


@pytest.mark.parametrize(
    "endpoint", [None, "", "module", "module:", ":function", "a b:c", "m:f()", "m:f:g", ["m:f"], {}]
)
def test_an_endpoint_is_a_module_and_a_function(endpoint: Any) -> None:
    """What names none is refused while the catalog is loaded."""
    members = {"address": "a", "transport": "python", "input_schema": {}, "output_schema": {}}
    with pytest.raises(ValidationFailed) as refused:
        parse_entry(members | ({} if endpoint is None else {"endpoint": endpoint}), "test.yaml")
    assert json.dumps([problem.as_dict() for problem in refused.value.errors])
    assert not isinstance(refused.value, InputInvalid)
