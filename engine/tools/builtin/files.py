"""file.read and file.write: files below one folder of the worker's host, and never outside of it.

A path is walked one component at a time, each opened relative to the one before without following a link, so
nothing that happens between a check and its use can lead elsewhere. A file is replaced as a whole (written aside,
synced, renamed) or not at all; `append` alone changes one in place.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import hashlib
import json
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from engine.errors import InputInvalid, OutputInvalid, ToolError, ToolRejected, ToolUnavailable
from engine.tools.calls import Arguments, Call

T = TypeVar("T")

MAX_WRITE = 16 * 1024 * 1024
"""Bytes that one call writes at most."""
_DEEPEST = 32
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC
_LATER = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EBUSY, errno.ESTALE}
)
_REASONS: Mapping[int, str] = {
    errno.ENOENT: "there is no such file or folder",
    errno.EEXIST: "it exists already; mode overwrite replaces it",
    errno.ELOOP: "a symbolic link is on the way, and none is followed",
    errno.ENOTDIR: "a part of the path is no folder, or a symbolic link",
    errno.EISDIR: "it is a folder",
    errno.EACCES: "the worker may not",
    errno.EPERM: "the worker may not",
    errno.EROFS: "the file system is read-only",
    errno.ENXIO: "it is no regular file",
}


class FileTools:
    """Works below `root`; `max_read` is the largest file that is read, in bytes."""

    def __init__(self, root: Path | None, max_read: int) -> None:
        self.root = root
        self.max_read = max_read

    async def read(self, arguments: Arguments, _call: Call) -> dict[str, Any]:
        """{path, format?} → {path, size, modified_at, sha256, content}: text, base64, or the value of a JSON file.

        Raises ToolRejected for what is not there, OutputInvalid for what is too large or not of that format.
        """
        parts = parts_of(arguments["path"])
        form = arguments.get("format", "text")
        return await _in_thread(lambda _stop: self._read(parts, form))

    async def write(self, arguments: Arguments, _call: Call) -> dict[str, Any]:
        """{path, content, format?, mode?, make_folders?} → {path, size, sha256, created}; size and sha256 are of what
        was written.

        Mode create (the default) refuses a file that exists, overwrite replaces it, append adds to its end.
        """
        parts = parts_of(arguments["path"])
        data = _encoded(arguments["content"], arguments.get("format", "text"))
        if len(data) > MAX_WRITE:
            raise InputInvalid(f"content has {len(data)} bytes; at most {MAX_WRITE} are written at once")
        put = _PUT[arguments.get("mode", "create")]
        make = arguments.get("make_folders", False)

        def work(stop: threading.Event) -> dict[str, Any]:
            with _reasons(parts), self._folder(parts, make=make) as folder:
                created = put(Target(folder, parts[-1], stop), data)
            return {"path": "/".join(parts), "size": len(data), "sha256": _digest(data), "created": created}

        return await _in_thread(work)

    def _read(self, parts: list[str], form: str) -> dict[str, Any]:
        with _reasons(parts), self._folder(parts, make=False) as folder:
            descriptor = os.open(parts[-1], os.O_RDONLY | os.O_NONBLOCK | _OPEN, dir_fd=folder)
            with open(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENXIO, "")
                data = file.read(self.max_read + 1)
        if len(data) > self.max_read:
            raise OutputInvalid(
                f"{'/'.join(parts)} is larger than {self.max_read} bytes (DUEWORK_MAX_OUTPUT_BYTES)"
            )
        modified = datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
        told = {"path": "/".join(parts), "size": len(data), "modified_at": modified, "sha256": _digest(data)}
        return told | {"content": _decoded(data, form)}

    @contextmanager
    def _folder(self, parts: list[str], *, make: bool) -> Iterator[int]:
        """The open folder that the last of `parts` lies in."""
        if self.root is None:
            raise ToolRejected("file tools are off here: set DUEWORK_FILE_ROOT where the workers run")
        with ExitStack() as opened:
            folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, folder)
            for part in parts[:-1]:
                folder = _entered(folder, part, make=make)
                opened.callback(os.close, folder)
            yield folder


@dataclass(frozen=True, slots=True)
class Target:
    """A name in an open folder; `stop` is set when nobody waits for the call any more."""

    folder: int
    name: str
    stop: threading.Event

    def open(self, flags: int, name: str | None = None) -> int:
        """A descriptor, its link not followed, its mode up to the umask."""
        return os.open(name or self.name, flags | _OPEN, 0o666, dir_fd=self.folder)


def parts_of(path: str) -> list[str]:
    """The components of a relative path. Raises InputInvalid for one that could lead out of its folder."""
    parts = path.split("/")
    if path.startswith("/"):
        raise InputInvalid(f"{path!r} is absolute; paths are relative to DUEWORK_FILE_ROOT")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise InputInvalid(
            f"{path!r} is not a plain path like reports/today.csv: no empty part, no . and no .."
        )
    if len(parts) > _DEEPEST or any(len(os.fsencode(part)) > 255 for part in parts):
        raise InputInvalid(f"a path has up to {_DEEPEST} parts of up to 255 bytes")
    return parts


def _entered(folder: int, part: str, *, make: bool) -> int:
    """The folder `part` in `folder`, opened."""
    if make:
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=folder)
    return os.open(part, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=folder)


def _create(target: Target, data: bytes) -> bool:
    """A link fails where the name is taken, so of two that create it one does."""
    with _aside(target, data) as written:
        os.link(
            written, target.name, src_dir_fd=target.folder, dst_dir_fd=target.folder, follow_symlinks=False
        )
    return True


def _overwrite(target: Target, data: bytes) -> bool:
    try:
        before = os.stat(target.name, dir_fd=target.folder, follow_symlinks=False)
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        raise OSError(errno.ELOOP if stat.S_ISLNK(before.st_mode) else errno.EISDIR, "")
    with _aside(target, data, before) as written:
        os.rename(written, target.name, src_dir_fd=target.folder, dst_dir_fd=target.folder)
    return before is None


def _append(target: Target, data: bytes) -> bool:
    try:
        descriptor = target.open(os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        created = True
    except FileExistsError:
        descriptor = target.open(os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
        created = False
    with open(descriptor, "ab", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENXIO, "")
        _whole(file.write, data)
        os.fsync(descriptor)
    return created


_PUT: Mapping[str, Callable[[Target, bytes], bool]] = {
    "create": _create,
    "overwrite": _overwrite,
    "append": _append,
}


@contextmanager
def _aside(target: Target, data: bytes, like: os.stat_result | None = None) -> Iterator[str]:
    """The name of a file beside the target that holds `data` on disk; what is left of it goes with the block."""
    name = f".duework-{secrets.token_hex(8)}"
    descriptor = target.open(os.O_WRONLY | os.O_CREAT | os.O_EXCL, name)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            _whole(file.write, data)
            if like is not None:
                os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
            os.fsync(descriptor)
        if target.stop.is_set():
            raise ToolUnavailable("the call was given up before the file was put in its place")
        yield name
        os.fsync(target.folder)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=target.folder)


def _whole(write: Callable[[memoryview], int | None], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write(rest) or 0 :]


@contextmanager
def _reasons(parts: list[str]) -> Iterator[None]:
    """Turn the system's errors into ours; the number decides about a retry."""
    try:
        yield
    except OSError as error:
        number = error.errno or 0
        kind: type[ToolError] = ToolUnavailable if number in _LATER else ToolRejected
        reason = _REASONS.get(number) or os.strerror(number)
        raise kind(
            f"{'/'.join(parts)}: {reason}", details={"errno": errno.errorcode.get(number, "")}
        ) from error


def _encoded(content: Any, form: str) -> bytes:
    if form == "json":
        return (json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    if not isinstance(content, str):
        raise InputInvalid(f"content of format {form} is a string; format json takes any value")
    try:
        return base64.b64decode(content, validate=True) if form == "base64" else content.encode()
    except ValueError as error:
        raise InputInvalid(f"content is not {form}: {error}") from error


def _decoded(data: bytes, form: str) -> Any:
    if form == "base64":
        return base64.b64encode(data).decode()
    try:
        return json.loads(data) if form == "json" else data.decode()
    except UnicodeDecodeError as error:
        raise OutputInvalid("the file is not UTF-8 text; read it with format: base64") from error
    except (ValueError, RecursionError) as error:
        raise OutputInvalid(f"the file is not JSON: {error}") from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def _in_thread(work: Callable[[threading.Event], T]) -> T:
    """Disks can be slow: the loop goes on meanwhile. A call that is given up puts no file in place afterwards."""
    stop = threading.Event()
    try:
        return await asyncio.to_thread(work, stop)
    finally:
        stop.set()
