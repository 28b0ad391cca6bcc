"""Commands as tools: real programs, their arguments, their surroundings and their ends."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engine.errors import (
    InputInvalid,
    OutputInvalid,
    ToolError,
    ToolRejected,
    ToolTimeout,
    ToolUnavailable,
    ValidationFailed,
)
from engine.secrets import Secrets
from engine.settings import load
from engine.tools.children.command import _arguments
from engine.tools.registry import parse_entry
from engine.tools.toolbox import Toolbox
from tests.unit.tools.children import CALL, RUN, SECRETS, command, lives, tools, written

ARGV = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]


@pytest.fixture(scope="module")
async def box() -> AsyncIterator[Toolbox]:
    """A toolbox that runs commands."""
    async with tools() as toolbox:
        yield toolbox


@pytest.mark.parametrize(
    "value",
    [{}, {"text": "é\u2028\U0001f600 a\x00b \ud800"}, {"large": "x" * 1_000_000}],
    ids=["none", "odd", "large"],
)
async def test_json_goes_in_and_comes_out(box: Toolbox, value: dict[str, Any]) -> None:
    """The input is one JSON document on stdin, the output one on stdout."""
    assert await box.call(command("cat"), value, CALL) == value


async def test_text_comes_out_without_its_last_line_ends(box: Toolbox) -> None:
    """For programs that know no JSON."""
    entry = command("printf", r"two\nlines \n\r\n", output="text")
    assert await box.call(entry, {}, CALL) == "two\nlines "


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("true", "not one JSON document: it wrote nothing"),
        ("echo '{} {}'", "not one JSON document"),
        ("echo '{'", "not one JSON document"),
        ("echo NaN", "not one JSON document"),
        (r"printf '\377'", "not UTF-8"),
        ("exec cat /dev/zero", "more than 1048576 bytes"),
        ("exec >&-", "it wrote nothing"),
        ("head -c 200000 /dev/zero | tr '\\0' '['", "not one JSON document"),
    ],
)
async def test_an_output_that_was_not_promised(box: Toolbox, script: str, words: str) -> None:
    """Garbage, too much, nothing: OutputInvalid says which, and a program that never ends is ended."""
    with pytest.raises(OutputInvalid, match=words):
        await box.call(command("sh", "-c", script), {}, CALL)


async def test_a_program_need_not_read_its_input(box: Toolbox) -> None:
    """A megabyte that nobody reads stops nothing."""
    assert await box.call(command("echo", "1"), {"large": "x" * 1_000_000}, CALL) == 1


async def test_the_environment_is_the_entrys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """PATH and the language, what the entry names, the secrets it lists, the call's own, and nothing else."""
    for name, value in {
        "PATH": "/usr/bin:/bin",
        "LANG": "C",
        "LC_ALL": "C",
        "TZ": "UTC",
        "HOME": "/x",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DUEWORK_SECRET_KEY", "of the worker")
    entry = command(
        "env", secrets=["KEY"], environment={"MODE": "é=1", "TZ": "Asia/Tokyo"}, cwd="/tmp", output="text"
    )
    call = replace(CALL, item=0, attempt=2)
    async with tools() as box:
        lines = (await box.call(entry, {}, call)).split("\n")
        assert await box.call(command("pwd", output="text", cwd="/usr"), {}, CALL) == "/usr"
        assert await box.call(command("pwd", output="text"), {}, CALL) == "/"
        plain = await box.call(command("env", output="text"), {}, CALL)
    found = dict(line.split("=", 1) for line in lines)
    assert found == {
        "PATH": "/usr/bin:/bin",
        "LANG": "C",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "MODE": "é=1",
        "KEY": SECRETS["KEY"],
        "DUEWORK_RUN_ID": str(RUN),
        "DUEWORK_STEP": "work",
        "DUEWORK_ITEM": "0",
        "DUEWORK_ATTEMPT": "2",
        "DUEWORK_IDEMPOTENCY_KEY": f"{RUN}:work",
        "DUEWORK_FENCE": "7",
        "DUEWORK_TRACEPARENT": call.traceparent,
    }
    assert "KEY=" not in plain.replace("IDEMPOTENCY_KEY=", "")
    assert load({name: value for name, value in found.items() if name.startswith("DUEWORK_")}, dotenv=None)


async def test_a_secret_that_is_not_there(box: Toolbox) -> None:
    """The program is not started."""
    with pytest.raises(ValidationFailed, match="OTHER is not set"):
        await box.call(command("env", secrets=["OTHER"]), {}, CALL)


async def test_an_element_is_one_argument(box: Toolbox) -> None:
    """Blanks, quotes, stars, line ends and the empty text split nothing and mean nothing."""
    nasty = ["a b", "'\"`$(id)`", "*", "a\nb", "", "; rm -rf /", "${HOME}", "é\U0001f600", "--x"]
    elements = [{"$input": f"/a/{n}"} for n in range(len(nasty))]
    assert await box.call(command(*ARGV, "--", *elements), {"a": nasty}, CALL) == ["--", *nasty]
    entry = command(*ARGV, {"$input": "/n~1m/~0"}, {"$input": "/t", "prefix": "--flag="}, {"$input": "/f"})
    arguments = {"n/m": {"~": 1.5}, "t": "-x", "f": False}
    assert await box.call(entry, arguments, CALL) == ["1.5", "--flag=-x", "false"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("-rf", "begins with a dash"),
        (-1, "begins with a dash"),
        (None, "neither text nor a number"),
        ({"a": 1}, "neither text nor a number"),
        ([], "neither text nor a number"),
        ("a\x00b", "NUL"),
        ("\ud800", "surrogate"),
    ],
)
async def test_what_cannot_be_an_argument(box: Toolbox, value: Any, words: str) -> None:
    """It is refused with its place, and the program is not started."""
    with pytest.raises(InputInvalid, match=words) as refused:
        await box.call(command("echo", {"$input": "/x"}), {"x": value}, CALL)
    assert refused.value.errors[0].pointer == "/x"


async def test_a_secret_is_no_argument(box: Toolbox) -> None:
    """Every user of the host reads arguments; on stdin it is the program's alone."""
    vault = Secrets(SECRETS.get)
    given = vault.reveal({"x": f"token={vault['KEY']}"})
    call = replace(CALL, secrets=vault)
    with pytest.raises(InputInvalid, match="holds a secret") as refused:
        await box.call(command("echo", {"$input": "/x"}), given, call)
    assert SECRETS["KEY"] not in str(refused.value)
    assert await box.call(command("cat"), given, call) == given


async def test_half_of_a_secret_is_not_told(box: Toolbox) -> None:
    """A program that is killed while it writes one leaves its beginning in the error and the log."""
    script = "printf 'it was %.9s' \"$KEY\" >&2; kill -9 $$"
    call = replace(CALL, secrets=Secrets(SECRETS.get))
    with capture_logs() as logs, pytest.raises(ToolUnavailable) as ended:
        await box.call(command("sh", "-c", script, secrets=["KEY"]), {}, call)
    assert ended.value.details["stderr"] == logs[0]["text"] == "it was [SECRET:KEY]"


@pytest.mark.parametrize("pointer", ["/y", "/x/0", "/x/y"])
async def test_an_argument_that_is_missing(box: Toolbox, pointer: str) -> None:
    """It is not left out, which would move the others."""
    with pytest.raises(InputInvalid, match="is not there"):
        await box.call(command("echo", {"$input": pointer}), {"x": "text"}, CALL)


@given(st.text(), st.booleans(), st.sampled_from(["", "--name="]))
def test_no_value_becomes_an_option_or_a_second_argument(text: str, ended: bool, prefix: str) -> None:
    """Whatever the input holds: one argument that means itself, or none and an error."""
    element = {"$input": "/x"} | ({"prefix": prefix} if prefix else {})
    before = ["--"] if ended else []
    try:
        found = list(_arguments([*before, element, "last"], {"x": text}, CALL))
    except InputInvalid:
        assert (text.startswith("-") and not ended and not prefix) or "\x00" in text
        return
    assert found == [*before, prefix + text, "last"]
    assert ended or prefix or not text.startswith("-")


@pytest.mark.parametrize(
    ("script", "kind", "words", "details"),
    [
        (
            "echo why >&2; exit 1",
            ToolRejected,
            "ended with exit code 1: why",
            {"exit_code": 1, "stderr": "why"},
        ),
        ("exit 75", ToolUnavailable, "ended with exit code 75", {"exit_code": 75, "stderr": ""}),
        ("exit 3", ToolTimeout, "exit code 3", {"exit_code": 3, "stderr": ""}),
        ("exit 4", InputInvalid, "exit code 4", {"exit_code": 4, "stderr": ""}),
        ("kill -9 $$", ToolUnavailable, "was ended by SIGKILL", {"signal": 9, "stderr": ""}),
        ("printf 'a\\0b jane.doe@example.org' >&2; exit 1", ToolRejected, "a\ufffdb [EMAIL]", None),
        ('echo "$KEY" >&2; exit 1', ToolRejected, "[SECRET:KEY]", None),
    ],
)
async def test_an_exit_code_has_a_class(
    box: Toolbox, script: str, kind: type[ToolError], words: str, details: dict[str, Any] | None
) -> None:
    """75 may be tried again, others not, unless the entry says otherwise; stderr is told masked and without secrets."""
    entry = command(
        "sh", "-c", script, secrets=["KEY"], exit_codes={"3": "timeout", "4": "input_invalid", "5": "ok"}
    )
    with pytest.raises(ToolError) as failed:
        await box.call(entry, {}, CALL)
    assert type(failed.value) is kind
    assert words in str(failed.value)
    assert details is None or failed.value.details == details
    assert SECRETS["KEY"] not in json.dumps(failed.value.as_dict())
    assert await box.call(command("sh", "-c", "echo 1; exit 5", exit_codes={"5": "ok"}), {}, CALL) == 1


async def test_stderr_goes_to_the_log(box: Toolbox) -> None:
    """Of a call that went well too, the last of it."""
    with capture_logs() as lines:
        await box.call(command("sh", "-c", "seq 100000 >&2; echo 1"), {}, CALL)
    (line,) = [line for line in lines if line["event"] == "tool.printed"]
    assert line["text"].endswith("\n99999\n100000")
    assert len(line["text"]) < 5000


async def test_a_command_may_end_in_order(box: Toolbox, tmp_path: Path) -> None:
    """SIGTERM comes first, and there is a while to clean up."""
    script = "trap 'echo swept > swept; exit' TERM; echo '[]' > begun; tail -f /dev/null & wait"
    call = asyncio.ensure_future(box.call(command("sh", "-c", script, cwd=str(tmp_path)), {}, CALL))
    await written(tmp_path / "begun")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (tmp_path / "swept").read_text() == "swept\n"


async def test_one_that_will_not_is_killed(box: Toolbox, tmp_path: Path) -> None:
    """With its child, one in a session of its own and one behind a double fork, before the call returns."""
    script = (
        "import json, sys; from tests.unit.tools.functions import hang; hang(json.load(sys.stdin)['path'])"
    )
    entry = command(sys.executable, "-c", script, cwd=str(Path(__file__).parents[3]))
    call = asyncio.ensure_future(box.call(entry, {"path": str(tmp_path / "pids")}, CALL))
    pids = await written(tmp_path / "pids")
    assert all(map(lives, pids))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(call, 0.01)
    assert not any(map(lives, pids))


async def test_what_a_command_leaves_behind_ends_with_it(box: Toolbox) -> None:
    """A process in the background that holds stdout open holds nothing up."""
    script = "setsid cat /dev/zero > /dev/null & echo $!"
    assert not lives(await box.call(command("sh", "-c", script), {}, CALL))


async def test_commands_are_off_unless_the_operator_allows_them() -> None:
    """The catalog alone does not suffice; then nothing is looked for either."""
    async with tools(command_tools=False) as box:
        with pytest.raises(ToolRejected, match="DUEWORK_COMMAND_TOOLS"):
            await box.call(command("cat"), {}, CALL)
        assert await box.faults([command("no-such-program")]) == []


async def test_what_is_not_there_is_told(box: Toolbox, tmp_path: Path) -> None:
    """When the catalog is checked, and at the call, where another worker may have it."""
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    (tmp_path / "not-a-program").write_bytes(b"\x7fELF, no")
    (tmp_path / "not-a-program").chmod(0o755)
    entries = [
        command("no-such-program"),
        command(str(tmp_path / "not-executable")),
        command("cat", cwd="/nowhere"),
        command("cat", environment={"PATH": str(tmp_path)}),
        command("cat"),
    ]
    assert [(each.code, each.pointer) for each in await box.faults(entries)] == [
        ("missing_program", "/endpoint/0"),
        ("missing_program", "/endpoint/0"),
        ("missing_folder", "/command/cwd"),
        ("missing_program", "/endpoint/0"),
    ]
    for entry in (*entries[:4], command(str(tmp_path / "not-a-program"))):
        with pytest.raises(ToolUnavailable, match=r"is not on this worker|could not be started"):
            await box.call(entry, {}, CALL)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"endpoint": "cat"}, "must be array, not string"),
        ({"endpoint": []}, "at least 1 element"),
        ({"endpoint": [{"$input": "/a"}]}, "the first argument is the program"),
        ({"endpoint": ["./cat"]}, "the first argument is the program"),
        ({"endpoint": ["cat", 1]}, "must be string or object"),
        ({"endpoint": ["cat", {"$inptu": "/a"}]}, r"'\$input' is missing"),
        ({"endpoint": ["cat", {"$input": "a"}]}, "must match the pattern"),
        ({"endpoint": ["cat", "a\x00"]}, "must match the pattern"),
        ({"endpoint": None}, "'endpoint' is missing"),
        ({"command": {"cwd": "here"}}, "an absolute path"),
        ({"command": {"environment": {"A B": ""}}}, "must match the pattern"),
        ({"command": {"environment": {"DUEWORK_FENCE": "1"}}}, "is set for each call"),
        ({"command": {"exit_codes": {"1": "fine"}}}, "must be one of"),
        ({"command": {"shell": True}}, "unknown key 'shell'"),
        ({"scopes": ["tool:other"]}, r'say scopes: \["tool:my.command"\]'),
        ({"scopes": []}, "not for everybody"),
    ],
)
def test_an_entry_that_could_not_be_called_is_refused(members: dict[str, Any], words: str) -> None:
    """With its place, while the catalog is loaded; a command needs the scope of its own name."""
    whole: dict[str, Any] = {
        "address": "my.command",
        "transport": "command",
        "endpoint": ["cat"],
        "scopes": ["tool:my.command"],
    }
    whole |= {"input_schema": {}, "output_schema": {}}
    merged = {key: value for key, value in (whole | members).items() if value is not None}
    with pytest.raises(ValidationFailed, match=words):
        parse_entry(merged, "test.yaml")
