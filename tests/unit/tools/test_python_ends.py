"""The end of python tools: timeouts, cancellation, the end of the toolbox and of the worker; nothing is left over."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
from collections.abc import Awaitable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ToolError, ToolUnavailable
from engine.tools.children.processes import Processes
from engine.tools.entry import ToolEntry
from engine.tools.toolbox import Toolbox
from tests.polling import poll_until
from tests.unit.tools.children import CALL, command, descriptors, function, gone, lives, tools, written

WORKER = """
import asyncio, sys
from tests.unit.tools.children import CALL, command, function, tools

async def main():
    async with tools() as box:
        await asyncio.gather(
            box.call(function("hang"), {"path": sys.argv[1]}, CALL),
            box.call(command(sys.executable, "-c", sys.argv[3]), {"path": sys.argv[2]}, CALL),
        )

asyncio.run(main())
"""
HANG = """
import json, sys
from tests.unit.tools.functions import hang
hang(json.load(sys.stdin)["path"])
"""


async def ends(call: Awaitable[Any], place: Path, *, by: str) -> list[int]:
    """The processes of a call that hangs, after its timeout or its cancellation; it has returned by then."""
    task = asyncio.ensure_future(call)
    pids: list[int] = await written(place)
    assert all(map(lives, pids))
    if by == "cancellation":
        task.cancel()
    with pytest.raises((asyncio.CancelledError, TimeoutError)):
        await asyncio.wait_for(task, 0.01 if by == "timeout" else None)
    return pids


@pytest.mark.parametrize("by", ["cancellation", "timeout"])
async def test_a_call_that_ends_early_ends_all_its_processes(tmp_path: Path, by: str) -> None:
    """Its children too, one in a session of its own, one behind a double fork: gone when the call returns."""
    async with tools(concurrency=1) as box:
        first = await box.call(function("grow"), {"size": 1}, CALL)
        pids = await ends(
            box.call(function("hang"), {"path": str(tmp_path / "pids")}, CALL), tmp_path / "pids", by=by
        )
        assert pids[0] == first
        assert not any(map(lives, pids))
        assert await box.call(function("grow"), {"size": 1}, CALL) != first


async def test_a_child_killed_from_outside_takes_its_own_along(tmp_path: Path) -> None:
    """What it started is ended as well, and the call says that it was killed."""
    async with tools() as box:
        call = asyncio.ensure_future(box.call(function("hang"), {"path": str(tmp_path / "pids")}, CALL))
        pids = await written(tmp_path / "pids")
        os.kill(pids[0], signal.SIGKILL)
        with pytest.raises(ToolUnavailable, match="SIGKILL"):
            await call
        assert not any(map(lives, pids))


async def test_a_child_that_is_not_needed_ends_in_order(tmp_path: Path) -> None:
    """What it has registered with atexit is run, when it is worn, idle for too long, and when the toolbox is closed."""
    places = [tmp_path / name for name in ("worn", "idle", "closed")]
    settings: list[dict[str, Any]] = [{"python_calls": 1}, {"python_idle": timedelta(milliseconds=1)}, {}]
    for place, given in zip(places, settings, strict=True):
        async with tools(**given) as box:
            await box.call(function("at_exit"), {"path": str(place)}, CALL)
        assert place.read_text() == "in order"


async def test_what_a_call_leaves_running_ends_with_its_interpreter() -> None:
    """It lives on between calls, and no longer than the toolbox."""
    async with tools() as box:
        pid = await box.call(function("leave_a_process"), {}, CALL)
        await box.call(function("add"), {"left": 1}, CALL)
        assert lives(pid)
    assert not lives(pid)


async def test_kill_9_of_the_worker_ends_its_children(tmp_path: Path) -> None:
    """Functions and commands with all their descendants, although nobody was there to end them."""
    places = [tmp_path / "python", tmp_path / "command"]
    worker = subprocess.Popen([sys.executable, "-c", WORKER, *map(str, places), HANG])
    try:
        pids = [pid for place in places for pid in await written(place)]
        assert all(map(lives, pids))
    finally:
        worker.kill()
        worker.wait()
    await gone(pids)


async def test_a_warden_that_died_is_replaced() -> None:
    """Calls under way go on under their guards, and the next process is started by a new warden."""
    async with tools() as box:
        live: Any = box.transports["command"]
        processes: Processes = live._processes
        running = asyncio.ensure_future(box.call(command("sh", "-c", "cat && cat >&2"), {"a": 1}, CALL))
        assert await box.call(command("cat"), {"b": 2}, CALL) == {"b": 2}
        before = processes._warden
        assert before is not None
        before.kill()
        before.wait()
        assert await box.call(command("cat"), {"c": 3}, CALL) == {"c": 3}
        assert processes._warden is not before
        assert await running == {"a": 1}


@pytest.mark.parametrize("politely", [True, False])
async def test_what_was_given_up_before_it_began_never_begins(tmp_path: Path, *, politely: bool) -> None:
    """A warden that had no time until now starts nothing whose call is over."""
    processes = Processes()
    with open(os.devnull, "r+b") as nothing:
        streams = (nothing.fileno(),) * 3
        await (await processes.start(["/bin/true"], {}, streams)).end()
        warden = processes._warden
        assert warden is not None
        warden.send_signal(signal.SIGSTOP)
        late = await processes.start(["/bin/touch", str(tmp_path / "late")], {}, streams, grace=60)
        late.stop(politely=politely)
        warden.send_signal(signal.SIGCONT)
        ending = await late.ended
        late.close()
    await processes.close()
    assert (ending.code, late.pid) == (None, None)
    assert not (tmp_path / "late").exists()


async def test_a_guard_that_was_killed_takes_its_process_along() -> None:
    """The call is told, and the process does not stay behind without anybody to end it."""
    async with tools() as box:
        pid = await box.call(function("grow"), {"size": 1}, CALL)
        guard = parent(Path(f"/proc/{pid}/stat"))
        os.kill(guard, signal.SIGKILL)
        await gone([pid])
        assert await poll_until(lambda: box.call(function("grow"), {"size": 1}, CALL)) != pid


async def one(box: Toolbox, number: int, chance: random.Random) -> None:
    """A call that ends in one of many ways, often before it is done."""
    calls: list[tuple[ToolEntry, dict[str, Any]]] = [
        (function("say"), {"text": "x", "times": 10}),
        (function("leave"), {"code": 1}),
        (function("long_text"), {"size": 500_000}),
        (function("fork_and_return"), {}),
        (command("cat"), {"x": "y" * 100_000}),
        (command("sh", "-c", "setsid cat /dev/zero & exit 3"), {}),
        (command("no-such-program"), {}),
        (command("cat", cwd="/nowhere"), {}),
        (command("cat", "/dev/zero"), {}),
        (function("write_everywhere"), {}),
    ]
    entry, arguments = calls[number % len(calls)]
    try:
        async with asyncio.timeout(chance.choice([0.001, 0.01, 0.1, 0.5])):
            await box.call(entry, arguments, CALL)
    except (ToolError, TimeoutError):
        return


async def test_nothing_leaks() -> None:
    """Whatever becomes of a hundred calls, many of them cancelled: no process and no descriptor more than before."""
    chance = random.Random(4)
    gc.collect()
    before = descriptors()
    async with tools(concurrency=4) as box:
        live: Any = box.transports["python"]
        await box.call(function("add"), {"left": 1}, CALL)
        warden = live._processes._warden.pid
        for start in range(0, 100, 10):
            await asyncio.gather(*(one(box, start + n, chance) for n in range(10)))
        assert len(live._idle) <= 4
        family = descendants(warden)
    assert not any(map(lives, [warden, *family]))
    assert descriptors() == before


def descendants(pid: int) -> list[int]:
    """The processes below one, now."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            children.setdefault(parent(place), []).append(int(place.parent.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def parent(place: Path) -> int:
    """Whose child the process of a /proc/*/stat is."""
    return int(place.read_text().rpartition(")")[2].split()[1])
