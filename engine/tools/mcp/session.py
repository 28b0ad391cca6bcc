"""One session with an MCP server: opened by a task that holds it until it is to end.

The SDK's scopes must be left by the task that entered them, while calls come from many; so the session has a task of
its own, and calls go through the client that it holds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any

import mcp_types as types
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    Implementation,
)
from pydantic import TypeAdapter, ValidationError

from engine.errors import (
    DueworkError,
    OutputInvalid,
    RateLimited,
    ToolError,
    ToolRejected,
    ToolTimeout,
    ToolUnavailable,
)
from engine.retry import asked_for
from engine.secrets import Secrets
from engine.tools.calls import no_secrets
from engine.tools.mcp.answer import shortened
from engine.tools.mcp.server import Listed
from engine.tools.mcp.streamable import UNREACHED

OPENING = 30.0
"""Seconds within which a session must be open."""
PAGES = 100
"""Pages of a listing that are read; a server that has more has no end."""

Opened = AbstractAsyncContextManager[Any]
_ANSWER: TypeAdapter[types.CallToolResult | types.InputRequiredResult] = TypeAdapter(
    types.CallToolResult | types.InputRequiredResult
)


class Session:
    """A session that opens when it is made. `over` is final; `proven` once a call came back.

    `expired` if the server forgot it, so that nothing of a call reached a tool. `since` is the loop's time at which it
    began, or ended; `reason` is why it could not be opened.
    """

    def __init__(
        self,
        open_: Callable[[Session], Opened],
        secrets: Secrets,
        last_words: Callable[[Callable[..., Any]], str] = lambda _conceal: "",
    ) -> None:
        loop = asyncio.get_running_loop()
        self._told = no_secrets()  # those of all runs: one may be told what the server says of another's call
        self._told.share(secrets)
        self.proven = False
        self.reason = ""
        self.since = self.used_at = loop.time()
        self.calls = 0
        self.expired = False
        self._words = last_words
        self._closing = asyncio.Event()
        self._client: asyncio.Future[Client] = loop.create_future()
        self._task = loop.create_task(self._hold(open_))
        self._task.add_done_callback(self._ended)

    @property
    def over(self) -> bool:
        """Whether nothing can be asked of it any more."""
        return self._closing.is_set() or self._task.done()

    async def call(
        self, name: str, arguments: dict[str, Any], meta: dict[str, Any], secrets: Secrets
    ) -> types.CallToolResult:
        """Call a tool. Raises classes of the error tree; cancelled, it tells the server."""
        self._told.share(secrets)
        request = types.CallToolRequest(
            params=types.CallToolRequestParams.model_validate(
                {"name": name, "arguments": arguments, "_meta": meta}
            )
        )
        client = await self._opened()
        self.calls += 1
        try:
            result = await self._sent(client, request)
        finally:
            self.calls -= 1
            self.used_at = asyncio.get_running_loop().time()
        self.proven = True
        if isinstance(result, types.InputRequiredResult):
            raise ToolRejected(f"{name} asks for more input, which a pipeline has nobody to give")
        return result

    async def tools(self) -> list[Listed]:
        """All that the server lists. Raises classes of the error tree."""
        client = await self._opened()
        try:
            return [_listed(tool) async for tool in _every(client)]
        except MCPError as error:
            raise self._translated(error) from error
        except ValidationError as error:
            raise OutputInvalid(f"the server's listing is not one: {_first(error)}") from error

    async def close(self) -> None:
        """End it, and wait until nothing of it is left."""
        self._closing.set()
        if not self._client.done():  # its server has not answered yet, and need not any more
            self._task.cancel()
        await asyncio.wait({self._task})

    async def _hold(self, open_: Callable[[Session], Opened]) -> None:
        timeout = asyncio.timeout(OPENING)
        async with timeout:
            about = Implementation(name="duework", version=version("duework"))
            async with Client(open_(self), client_info=about, cache=None) as client:
                timeout.reschedule(None)
                self._client.set_result(client)
                await self._closing.wait()

    def end(self) -> None:
        """Nothing comes from the server any more."""
        self._closing.set()

    def expire(self) -> None:
        """The server no longer knows it."""
        self.expired = self._client.done()
        self.end()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.since = asyncio.get_running_loop().time()
        failure = None if task.cancelled() else task.exception()  # looked at, so that nobody logs it
        if not self._client.done():
            error = self._unopened(failure)
            self.reason = f": {error.message}"
            self._client.set_exception(error)
            self._client.exception()  # the same

    async def _opened(self) -> Client:
        return await asyncio.shield(self._client)

    async def _sent(
        self, client: Client, request: types.CallToolRequest
    ) -> types.CallToolResult | types.InputRequiredResult:
        try:
            try:
                return await client.session.send_request(request, _ANSWER)
            except MCPError as error:
                if error.code != HEADER_MISMATCH:
                    raise
            async for _ in _every(
                client
            ):  # the server refused it for want of headers that its listing asks for
                pass
            return await client.session.send_request(request, _ANSWER)
        except MCPError as error:
            raise self._translated(error) from error
        except ValidationError as error:
            raise OutputInvalid(f"the server's answer is not one to tools/call: {_first(error)}") from error

    def _translated(self, error: MCPError) -> DueworkError:
        """The class that decides about a retry, by the protocol's code."""
        said = shortened(error.message, self._told.conceal)
        if error.code == UNREACHED:
            return _retold(error, said)
        if error.code == CONNECTION_CLOSED:
            return ToolUnavailable(f"the server ended before it answered{self._last_words()}")
        if error.code == PARSE_ERROR:  # the SDK quotes parts of what the server wrote: of a secret, too
            return OutputInvalid("what the server answers is no JSON-RPC message")
        if error.code == REQUEST_TIMEOUT:
            return ToolTimeout("the server did not answer")
        if error.code == INTERNAL_ERROR:
            return ToolUnavailable(f"the server failed: {said}")
        return ToolRejected(f"the server refused the call: {said} ({error.code})")

    def _last_words(self) -> str:
        return self._words(self._told.conceal)

    def _unopened(self, failure: BaseException | None) -> DueworkError:
        """Why there is no session: the first thing in whatever the SDK's task groups raised."""
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        if isinstance(failure, MCPError):
            return self._translated(failure)
        if isinstance(failure, DueworkError):
            return failure
        if isinstance(failure, TimeoutError):
            return ToolUnavailable(
                f"the server did not open a session within {OPENING:.0f} s{self._last_words()}"
            )
        if isinstance(failure, ValidationError):
            return OutputInvalid(f"the server's answer is not one to initialize: {_first(failure)}")
        reason = "it was closed" if failure is None else f"{type(failure).__name__}: {failure}"
        return ToolUnavailable(f"no session could be opened: {reason}{self._last_words()}")


def _retold(error: MCPError, said: str) -> DueworkError:
    """The error that our HTTP transport wrote into an answer."""
    kinds: dict[str, type[DueworkError]] = {
        kind.code: kind for kind in (ToolUnavailable, ToolRejected, OutputInvalid, RateLimited, ToolTimeout)
    }
    data = error.data if isinstance(error.data, dict) else {}
    kind = kinds.get(str(data.get("code")), ToolError)
    return kind(said, retry_after=asked_for(data.get("retry_after")))


async def _every(client: Client) -> AsyncIterator[types.Tool]:
    cursor: str | None = None
    for _ in range(PAGES):
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            yield tool
        cursor = page.next_cursor
        if cursor is None:
            return


def _listed(tool: types.Tool) -> Listed:
    hints = tool.annotations.model_dump(by_alias=True, exclude_none=True) if tool.annotations else {}
    title = tool.title or hints.pop("title", None) or tool.name
    hints.pop("title", None)
    return Listed(tool.name, title, tool.description or "", tool.input_schema, tool.output_schema, hints)


def _first(error: ValidationError) -> str:
    fault = error.errors(include_input=False, include_url=False)[0]
    return f"{'/'.join(map(str, fault['loc']))}: {fault['msg']}"
