"""file.read and file.write: nothing leads out of the folder, and a file is whole or not there."""

from __future__ import annotations

import asyncio
import base64
import os
import stat
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InputInvalid, OutputInvalid, ToolRejected, ToolUnavailable
from engine.tools.builtin import files
from engine.tools.builtin.files import FileTools, parts_of
from engine.tools.calls import Call

CALL = Call(UUID(int=7), "keep", "run:keep", fence=1, attempt=1, timeout=timedelta(seconds=20))
LEADING_OUT = [
    "/etc/passwd",
    "../out",
    "a/../../out",
    "a//b",
    "./a",
    "a/.",
    "..",
    ".",
    "",
    "a/",
    "a\0b",
    "x" * 256,
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the tools; beside it lies what nobody may reach."""
    (tmp_path / "outside").write_text("not yours", encoding="utf-8")
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def tools(root: Path) -> FileTools:
    return FileTools(root, max_read=1000)


async def write(tools: FileTools, path: str, content: Any, **given: Any) -> dict[str, Any]:
    return await tools.write({"path": path, "content": content, **given}, CALL)


async def read(tools: FileTools, path: str, form: str = "text") -> Any:
    return (await tools.read({"path": path, "format": form}, CALL))["content"]


async def test_what_is_written_is_read(tools: FileTools, root: Path) -> None:
    """Text, bytes and JSON values come back as they were; sizes and digests are told."""
    answer = await write(tools, "a/b/grüezi.txt", "hallo\nü", make_folders=True)
    assert (answer["created"], answer["size"]) == (True, 8)
    assert await read(tools, "a/b/grüezi.txt") == "hallo\nü"
    packed = base64.b64encode(b"\x00\xff").decode()
    await write(tools, "bytes", packed, format="base64")
    assert (root / "bytes").read_bytes() == b"\x00\xff"
    assert await read(tools, "bytes", "base64") == packed
    await write(tools, "v.json", {"ü": [1, None]}, format="json")
    assert (root / "v.json").read_text(encoding="utf-8") == '{"ü":[1,null]}\n'
    told = await tools.read({"path": "v.json", "format": "json"}, CALL)
    assert (told["content"], told["size"], told["path"]) == ({"ü": [1, None]}, 16, "v.json")
    assert told["modified_at"].endswith("+00:00")


async def test_modes(tools: FileTools, root: Path) -> None:
    """create refuses what is there, overwrite replaces it and keeps its permissions, append adds."""
    await write(tools, "a", "1")
    with pytest.raises(ToolRejected, match="exists already"):
        await write(tools, "a", "2")
    (root / "a").chmod(0o600)
    assert (await write(tools, "a", "3", mode="overwrite"))["created"] is False
    assert ((root / "a").read_text(), stat.S_IMODE((root / "a").stat().st_mode)) == ("3", 0o600)
    assert (await write(tools, "a", {"n": 4}, mode="append", format="json"))["created"] is False
    assert (root / "a").read_text() == '3{"n":4}\n'
    assert (await write(tools, "log", "x", mode="append"))["created"] is True
    assert (await write(tools, "new", "x", mode="overwrite"))["created"] is True
    assert sorted(os.listdir(root)) == ["a", "log", "new"], "nothing is left beside them"


@pytest.mark.parametrize("path", LEADING_OUT)
async def test_a_path_that_leads_out_is_refused(tools: FileTools, path: str) -> None:
    """Absolute paths, dots, empty parts and what no file system takes are no input."""
    for call in (read(tools, path), write(tools, path, "x", mode="overwrite")):
        with pytest.raises(InputInvalid):
            await call


async def test_content_that_is_no_base64_is_refused(tools: FileTools) -> None:
    """Letters that Base64 does not know are the input's fault."""
    with pytest.raises(InputInvalid, match="not base64"):
        await write(tools, "a", "ä", format="base64")


@given(st.text(st.sampled_from("./a\0~\\ü "), max_size=12))
def test_parts_never_lead_out(path: str) -> None:
    """Whatever the text: it is refused, or each of its parts names something within a folder."""
    try:
        parts = parts_of(path)
    except InputInvalid:
        return
    assert "/".join(parts) == path
    assert not {"", ".", ".."} & set(parts)


async def test_no_link_is_followed(tools: FileTools, root: Path, tmp_path: Path) -> None:
    """Neither as the file nor as a folder on the way; what it leads to stays as it was."""
    (root / "link").symlink_to(tmp_path / "outside")
    (root / "folder").symlink_to(tmp_path)
    (root / "inside").symlink_to(root)
    (root / "dangling").symlink_to(tmp_path / "made")
    for path in ("link", "folder/outside", "inside/link"):
        with pytest.raises(ToolRejected, match="link"):
            await read(tools, path)
        for mode in ("overwrite", "append"):
            with pytest.raises(ToolRejected, match="link"):
                await write(tools, path, "mine", mode=mode)
        with pytest.raises(ToolRejected):
            await write(tools, path, "mine")
    for mode in ("create", "overwrite", "append"):
        with pytest.raises(ToolRejected):
            await write(tools, "dangling", "mine", mode=mode)
    with pytest.raises(ToolRejected):
        await write(tools, "folder/new/x", "mine", make_folders=True)
    assert (tmp_path / "outside").read_text() == "not yours"
    assert sorted(os.listdir(tmp_path)) == ["outside", "root"]


async def test_a_link_put_there_in_between_is_not_followed(
    tools: FileTools, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that becomes a link while it is walked leads nowhere: the open folder is what counts."""
    (root / "a").mkdir()
    (tmp_path / "victim").mkdir()
    entered = files._entered

    def swap(folder: int, part: str, *, make: bool) -> int:
        opened = entered(folder, part, make=make)
        (root / "a").rename(root / "moved")
        (root / "a").symlink_to(tmp_path / "victim")
        return opened

    monkeypatch.setattr(files, "_entered", swap)
    await write(tools, "a/file", "x")
    assert os.listdir(tmp_path / "victim") == []
    assert (root / "moved" / "file").read_text() == "x"


async def test_what_is_no_regular_file_is_refused(tools: FileTools, root: Path) -> None:
    """A folder or a pipe is told apart at once, without waiting for anybody."""
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    for path in ("pipe", "folder"):
        with pytest.raises(ToolRejected):
            await read(tools, path)
        for mode in ("create", "overwrite", "append"):
            with pytest.raises(ToolRejected):
                await write(tools, path, "x", mode=mode)
    with pytest.raises(ToolRejected, match="no such file"):
        await read(tools, "missing")
    with pytest.raises(ToolRejected, match="no such file"):
        await write(tools, "missing/x", "x")
    assert sorted(os.listdir(root)) == ["folder", "pipe"]


async def test_limits_and_formats(tools: FileTools, root: Path) -> None:
    """Too large, not UTF-8, not JSON, not Base64: each is said before anything is handed on or written."""
    (root / "large").write_bytes(bytes(1001))
    (root / "latin").write_bytes(b"\xff")
    for path, form, words in (
        ("large", "text", "larger than 1000"),
        ("latin", "text", "not UTF-8"),
        ("latin", "json", "not"),
    ):
        with pytest.raises(OutputInvalid, match=words):
            await read(tools, path, form)
    for content, form in (
        (1, "text"),
        ("%", "base64"),
        ("\ud800", "text"),
        ("x" * (files.MAX_WRITE + 1), "text"),
    ):
        with pytest.raises(InputInvalid):
            await write(tools, "new", content, format=form)
    assert not (root / "new").exists()


async def test_without_a_root_the_tools_are_off(tmp_path: Path) -> None:
    """The error names the setting; a root that is not there is an error of its own."""
    with pytest.raises(ToolRejected, match="DUEWORK_FILE_ROOT"):
        await read(FileTools(None, 10), "a")
    with pytest.raises(ToolRejected, match="no such"):
        await read(FileTools(tmp_path / "none", 10), "a")


async def test_a_failed_write_leaves_the_old_file(
    tools: FileTools, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is tried again later; neither half a file nor a leftover is seen."""
    (root / "a").write_text("old")

    def full(_write: object, _data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_whole", full)
    with pytest.raises(ToolUnavailable) as failed:
        await write(tools, "a", "new", mode="overwrite")
    assert failed.value.details == {"errno": "ENOSPC"}
    assert ((root / "a").read_text(), os.listdir(root)) == ("old", ["a"])


async def test_a_call_that_is_given_up_puts_nothing_in_place(
    tools: FileTools, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while the disk is slow, the file that was there stays."""
    (root / "a").write_text("old")
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()
    whole, overwrite = files._whole, files._overwrite

    def slow(write: Any, data: bytes) -> None:
        begun.set()
        go_on.wait(60)
        whole(write, data)

    def noting(target: Any, data: bytes) -> bool:
        try:
            return overwrite(target, data)
        finally:
            done.set()

    monkeypatch.setattr(files, "_whole", slow)
    monkeypatch.setattr(files, "_PUT", {"overwrite": noting})
    writing = asyncio.create_task(write(tools, "a", "new", mode="overwrite"))
    await asyncio.to_thread(begun.wait, 60)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    go_on.set()
    await asyncio.to_thread(done.wait, 60)
    assert ((root / "a").read_text(), os.listdir(root)) == ("old", ["a"])
