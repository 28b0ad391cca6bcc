"""What a catalog entry of transport mcp says: which tool of which server, and how that server is reached.

The `mcp` member names the server, by a command (stdio) or a URL (streamable HTTP); entries with equal members share
it. The `endpoint` is the tool's name there, or {tool, listed}, where `listed` is the digest of what the server said of
the tool when it was imported. The protocol's SDK is an extra: nothing here imports it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from engine.errors import InputInvalid, Problem, ValidationFailed
from engine.secrets import Secrets
from engine.template import compile_template
from engine.tools.entry import ToolEntry
from engine.tools.http.exchange import parsed

_WAYS = {"command": ("env", "cwd"), "url": ("headers",)}
"""How a server is reached, and what else may be said of each way."""


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is reached; equal ones are one server. `env` and `headers` are JSON texts of their templates."""

    name: str
    command: tuple[str, ...] = ()
    env: str = "{}"
    cwd: str | None = None
    url: str = ""
    headers: str = "{}"
    allow_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reached:
    """A server with its secrets put in. Two of a server differ when a secret was rotated."""

    server: Server
    env: tuple[tuple[str, str], ...]
    url: str
    headers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """A tool as its server lists it."""

    name: str
    title: str
    description: str
    input_schema: Mapping[str, Any]
    output_schema: Mapping[str, Any] | None
    annotations: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Of both schemas: equal digests take and give the same."""
        text = json.dumps([self.input_schema, self.output_schema], sort_keys=True, ensure_ascii=False)
        # The prefix keeps YAML from taking digits for a number.
        return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def tool_of(entry: ToolEntry) -> str:
    """The tool's name on its server."""
    endpoint = entry.endpoint
    return str(endpoint["tool"] if isinstance(endpoint, Mapping) else endpoint)


def server_of(entry: ToolEntry) -> Server:
    """The server that an entry names."""
    return server(entry.options, entry.address.rpartition(".")[0] or entry.address, entry.allow_hosts)


def server(options: Mapping[str, Any], name: str, allow_hosts: tuple[str, ...] = ()) -> Server:
    """The server that an `mcp` member writes; `name` is what messages call it."""
    return Server(
        name=name,
        command=tuple(options.get("command", ())),
        env=json.dumps(options.get("env", {}), sort_keys=True),
        cwd=options.get("cwd"),
        url=options.get("url", ""),
        headers=json.dumps(options.get("headers", {}), sort_keys=True),
        allow_hosts=tuple(sorted(allow_hosts)),
    )


def reached(server: Server, secrets: Secrets) -> Reached:
    """The server as it is to be opened now. Raises ValidationFailed for a secret that is not set."""
    given = {"env": json.loads(server.env), "headers": json.loads(server.headers), "url": server.url}
    filled = secrets.reveal(compile_template(given).render({"secrets": secrets}))
    env, headers = (tuple(sorted(filled[name].items())) for name in ("env", "headers"))
    return Reached(server, env, filled["url"], headers)


def faults(entry: ToolEntry) -> Iterator[Problem]:
    """What keeps an mcp entry from ever being called; the first of them where the SDK is not installed."""
    if find_spec("mcp") is None:
        text = "transport mcp needs the protocol's SDK: install duework[mcp] wherever this catalog is loaded"
        yield Problem("missing_extra", text, "/transport")
    yield from _endpoint_faults(entry.endpoint)
    options = entry.options
    ways = [way for way in _WAYS if options.get(way)]
    if len(ways) != 1:
        text = "give either command, a list of arguments, or url: how is the server reached?"
        yield Problem("invalid_server", text, "/mcp")
        return
    others = [name for way, names in _WAYS.items() if way != ways[0] for name in names if name in options]
    for name in others:
        yield Problem(
            "invalid_server", f"{name} is not for a server that is reached by {ways[0]}", f"/mcp/{name}"
        )
    yield from _template_faults(options)
    if "url" in ways and "${" not in options["url"]:
        try:
            parsed(options["url"], "the server's url")
        except InputInvalid as error:
            yield Problem("invalid_server", error.message, "/mcp/url")


def _endpoint_faults(endpoint: Any) -> Iterator[Problem]:
    names = {"tool", "listed"} if isinstance(endpoint, Mapping) else set()
    tool = endpoint.get("tool") if isinstance(endpoint, Mapping) else endpoint
    if not isinstance(tool, str) or not tool or (names and set(endpoint) - names):
        text = "the endpoint is the tool's name on its server, or {tool: NAME, listed: DIGEST}"
        yield Problem("invalid_endpoint", text, "/endpoint")


def _template_faults(options: Mapping[str, Any]) -> Iterator[Problem]:
    for argument in options.get("command", ()):
        if "${" in argument:
            text = "an argument list is read by every user of the host and holds no template: use env for a secret"
            yield Problem("invalid_server", text, "/mcp/command")
    members = {name: options[name] for name in ("env", "headers", "url") if name in options}
    try:
        expressions = compile_template(members).expressions
    except ValidationFailed as error:
        yield from (replace(one, pointer=f"/mcp{one.pointer}") for one in error.errors)
        return
    for pointer, expression in expressions:
        if any(not path or path[0] != "secrets" for path in expression.paths):
            text = "a server is opened for many calls: its templates see secrets and nothing else"
            yield Problem("unknown_root", text, f"/mcp{pointer}")
