"""The MCP server itself: lists what is offered, turns a call into a request of the REST API, and its answer back.

Everything that guards the API guards this: a call is a request with the caller's own token, so scopes, the gate,
admission, idempotency and the audit log are the API's. A problem comes back as an error that says what, where and how
to mend it, for the model that made the call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx2
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import (
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    TextContent,
    Tool,
    ToolAnnotations,
)

from api.mcp import offers
from api.mcp.offers import OFFERS, Offer
from engine import reflex

INSTRUCTIONS = (
    "duework runs pipelines on schedules. Look at list_tools for what steps may use, write a pipeline, check it with "
    "validate_pipeline, then create_task. run_task runs one now; get_run shows what became of it. Times are ISO 8601."
)
KEY = "duework/idempotency-key"
"""In `_meta` of a call: the same call again, as after a lost answer. duework's own client sends it."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the API, as a tool's call makes it."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Context = ServerRequestContext[Any]
Send = Callable[[Context, Asked], Awaitable[httpx2.Response]]
Allows = Callable[[Context, str], bool]


def made(send: Send, allows: Allows, version: str) -> Server[Any]:
    """A server whose calls go out by `send`; tools for which `allows(context, scope)` is False are not listed."""

    async def listing(context: Context, _: PaginatedRequestParams | None) -> ListToolsResult:
        return ListToolsResult(tools=list(listed(lambda scope: allows(context, scope))))

    async def call(context: Context, params: CallToolRequestParams) -> CallToolResult:
        offer = offers.by_name().get(params.name)
        if offer is None:
            known = ", ".join(offers.by_name())
            return _failed(f"there is no tool {reflex.mask(params.name)!r}; the tools are {known}")
        arguments = params.arguments or {}
        problems = offers.contract(offer.name).check(arguments)
        if problems:
            lines = (f"{each.pointer or '/'}: {each.detail}" for each in problems)
            return _failed(f"the arguments of {offer.name} are not valid", lines)
        meta = context.meta or {}
        key = meta.get(KEY)
        if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
            return _failed(f"{KEY} in _meta must be 1 to 255 visible ASCII characters")
        return _answer(await send(context, asked(offer, arguments, meta)))

    return Server(
        "duework",
        version=version,
        title="duework",
        instructions=INSTRUCTIONS,
        on_list_tools=listing,
        on_call_tool=call,
    )


def listed(allows: Callable[[str], bool]) -> Iterable[Tool]:
    """The tools that somebody may use, by the scopes of the operations behind them."""
    for offer in OFFERS:
        scope = offer.operation.scope
        if not scope or allows(scope):
            yield Tool(
                name=offer.name,
                description=offer.text + (f" Needs the scope {scope}." if scope else ""),
                input_schema=offers.taken(offer.name),
                output_schema=offers.given(offer.name),
                annotations=ToolAnnotations(
                    read_only_hint=offer.reads,
                    destructive_hint=offer.destructive,
                    idempotent_hint=offer.reads or offer.idempotent,
                    open_world_hint=False,
                ),
            )


def asked(offer: Offer, arguments: Mapping[str, Any], meta: Mapping[str, Any]) -> Asked:
    """The request that a call stands for; `arguments` and `meta` have been checked."""
    left = dict(arguments)
    operation = offer.operation
    path = operation.path
    if offer.place:
        head, _, tail = path.partition("{")
        path = head + quote(left.pop(offer.place), safe="") + tail.partition("}")[2]
    query = {name: _text(left.pop(name)) for name in offer.query if name in left}
    headers = {"Accept": "application/json"}
    if offer.wait and "wait_seconds" in left:
        headers["Prefer"] = f"wait={left.pop('wait_seconds')}"
    if operation.keyed and KEY in meta:
        headers["Idempotency-Key"] = meta[KEY]
    content = b""
    if operation.method != "GET" and (offer.given_whole or operation.body):
        content, headers["Content-Type"] = _body(left.get("definition") if offer.given_whole else left)
    return Asked(operation.method, path, {**query, **(offer.fixed or {})}, content, headers)


def _body(value: Any) -> tuple[bytes, str]:
    if isinstance(value, str):
        return value.encode("utf-8", "replace"), "application/yaml"
    return json.dumps(value).encode(), "application/json"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _answer(response: httpx2.Response) -> CallToolResult:
    try:
        body = response.json()
    except ValueError:
        return _failed(f"the API answered {response.status_code} without JSON")
    if response.is_error:
        problem = body if isinstance(body, dict) else {}
        lines = (
            f"{each.get('pointer') or '/'}: {each.get('detail')}" for each in problem.get("errors") or ()
        )
        told = (
            f"{problem.get('code', response.status_code)}: {problem.get('detail', 'the request was refused')}"
        )
        return _failed(told, lines)
    text = TextContent(type="text", text=json.dumps(body, ensure_ascii=False))
    return CallToolResult(content=[text], structured_content=body)


def _failed(what: str, lines: Iterable[str] = ()) -> CallToolResult:
    """An error, masked: problems name keys, which are the caller's words."""
    text = reflex.mask("\n".join([what, *(f"- {line}" for line in lines)]))
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
