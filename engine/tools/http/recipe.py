"""How a tool's input becomes an HTTP request: the `endpoint` and the `http` member of a catalog entry, compiled.

The endpoint is a URL whose {name}s are members of the input, percent-encoded; they stand in its path and its query,
so that the host is always the catalog's to say. Everywhere else `${input.name}` and `${secrets.NAME}` are templates
as in pipelines. Without `query`, `json`, `form` and `text`, what the URL leaves of the input goes into the query
of a request that has no body, and into a JSON body otherwise.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from engine.errors import InputInvalid, Problem, ValidationFailed
from engine.template import Template, compile_template
from engine.tools.calls import Arguments, Call
from engine.tools.entry import ToolEntry
from engine.tools.http.answer import BUSY, MAX_RESPONSE, SUCCESS, Rules, statuses
from engine.tools.http.exchange import Asked, headers_of, parsed

BODIES = ("json", "form", "text")
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
_REFUSED = frozenset({"CONNECT", "TRACE"})
_ROOTS = frozenset({"input", "secrets"})
_NAME = re.compile(r"(?<!\$)\{([A-Za-z_][A-Za-z0-9_-]*)\}", re.ASCII)
_HOST = re.compile(r"^(?:https?://[^/?#]*|\$\{[^}]*\}/*)")
_TYPES = {"form": "application/x-www-form-urlencoded", "text": "text/plain; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A compiled entry. `filled` are the names in its URL; `parts` renders query, headers, auth and body at once."""

    method: str
    url: str
    filled: frozenset[str]
    secret_url: Template | None
    parts: Template
    plain: bool
    rules: Rules


def compile_recipe(entry: ToolEntry) -> Recipe:
    """The recipe of an http entry. Raises ValidationFailed with every fault, pointers counted from the entry."""
    problems = list(_url_faults(entry))
    options = entry.options
    method = str(options.get("method", "POST"))
    if method in _REFUSED:
        problems.append(Problem("invalid_http", f"{method} is nothing a tool may ask", "/http/method"))
    bodies = [name for name in BODIES if name in options]
    if len(bodies) > 1:
        text = f"give at most one of json, form and text (found {', '.join(bodies)})"
        problems.append(Problem("invalid_http", text, "/http"))
    members = {name: options[name] for name in ("query", "headers", "auth", *BODIES) if name in options}
    parts, found = _compiled(members)
    problems += found
    if problems:
        raise ValidationFailed(problems[0].detail, errors=problems)
    url = str(entry.endpoint)
    return Recipe(
        method=method,
        url=url,
        filled=frozenset(_NAME.findall(url)),
        secret_url=compile_template(url) if "${" in url else None,
        parts=parts,
        plain=not any(name in options for name in ("query", *BODIES)),
        rules=_rules(options),
    )


def _compiled(members: Mapping[str, Any]) -> tuple[Template, list[Problem]]:
    """The template of the members, and what is wrong with it."""
    try:
        parts = compile_template(members)
    except ValidationFailed as error:
        return compile_template({}), [replace(one, pointer=f"/http{one.pointer}") for one in error.errors]
    return parts, [
        Problem("unknown_root", _unknown(path[0] if path else "@"), f"/http{pointer}")
        for pointer, expression in parts.expressions
        for path in sorted(expression.paths, key=str)
        if not path or path[0] not in _ROOTS
    ]


def _unknown(root: object) -> str:
    return f"{root} is not known here: templates of a catalog entry see input and secrets"


def _url_faults(entry: ToolEntry) -> Iterator[Problem]:
    url = str(entry.endpoint)
    if not url.startswith(("http://", "https://", "${secrets.")):
        text = "transport http needs an endpoint that begins with http:// or https://"
        yield Problem("invalid_endpoint", text, "/endpoint")
        return
    host = _HOST.match(url)
    if host and _NAME.search(host.group()):
        text = "a {name} stands in the path or the query: the host is the catalog's to say"
        yield Problem("invalid_endpoint", text, "/endpoint")
    if host and "@" in host.group():
        yield Problem("invalid_endpoint", "credentials belong into http.auth, not into the URL", "/endpoint")
    try:
        found = compile_template(url)
    except ValidationFailed as error:
        yield from (replace(one, pointer="/endpoint") for one in error.errors)
        return
    for path in sorted(found.paths, key=str):
        if not path or path[0] != "secrets":
            text = "in a URL write {name} for a member of the input; only ${secrets.NAME} is a template there"
            yield Problem("invalid_endpoint", text, "/endpoint")
    yield from _unknown_names(entry, url)


def _unknown_names(entry: ToolEntry, url: str) -> Iterator[Problem]:
    """A name that the input can never have would make every call fail."""
    schema = entry.input_schema
    if schema.get("additionalProperties") is not False:
        return
    for name in _NAME.findall(url):
        if name not in schema.get("properties", {}):
            yield Problem(
                "invalid_endpoint", f"the input_schema has no {name} to put into the URL", "/endpoint"
            )


def _rules(options: Mapping[str, Any]) -> Rules:
    mapped = {int(status): value for status, value in options.get("map", {}).items()}
    return Rules(
        expect=statuses(options["expect"]) if "expect" in options else SUCCESS,
        retry_on=statuses(options["retry_on"]) if "retry_on" in options else BUSY,
        mapped=mapped,
        form=options.get("answer", "auto"),
        redirects=options.get("redirects", 0),
        max_bytes=options.get("max_bytes", MAX_RESPONSE),
    )


def asked(recipe: Recipe, arguments: Arguments, call: Call) -> Asked:
    """The request of one call, its secrets put in. Raises InputInvalid, and ValidationFailed for an unset secret."""
    context = {"input": arguments, "secrets": call.secrets}
    parts = call.secrets.reveal(recipe.parts.render(context))
    if recipe.plain:
        rest = {name: value for name, value in arguments.items() if name not in recipe.filled}
        parts = parts | ({"query": rest} if recipe.method in _BODILESS else {"json": rest})
    shown = recipe.url.split("?", 1)[0]
    url = parsed(_url(recipe, arguments, call, parts.get("query") or {}), shown)
    content, kind = body(parts)
    given = {"content-type": kind} if kind else {}
    given |= {name.lower(): as_text(v) for name, v in parts.get("headers", {}).items() if v is not None}
    given |= _authorization(parts.get("auth", {}))
    return Asked(recipe.method, url, shown, headers_of(given, call), content)


def _url(recipe: Recipe, arguments: Arguments, call: Call, query: Mapping[str, Any]) -> str:
    url = recipe.url
    if recipe.secret_url is not None:
        url = recipe.secret_url.render(
            {"secrets": call.secrets}
        )  # placeholders: no brace of a secret is a name's
    url = _NAME.sub(lambda found: _segment(found.group(1), arguments.get(found.group(1))), url)
    return with_query(call.secrets.reveal(url), query)


def _segment(name: str, value: Any) -> str:
    """A value as a part of the URL that stays that part: no way to leave it, and none to make it vanish."""
    if isinstance(value, dict | list) or value is None:
        raise InputInvalid(f"{name} goes into the URL, so it is a text, a number or a boolean")
    text = as_text(value)
    if text in ("", ".", ".."):
        raise InputInvalid(f"{name} goes into the URL and would change its path: {text!r}")
    return quote(text, safe="")


def with_query(url: str, query: Mapping[str, Any]) -> str:
    """The URL with more in its query; a list is a name several times, null is left out."""
    pairs = [
        (name, as_text(one))
        for name, value in query.items()
        for one in (value if isinstance(value, list) else [value])
        if one is not None
    ]
    if not pairs:
        return url
    front, mark, fragment = url.partition("#")
    return f"{front}{'&' if '?' in front else '?'}{urlencode(pairs)}{mark}{fragment}"


def body(parts: Mapping[str, Any]) -> tuple[bytes | None, str | None]:
    """The bytes of a body and their content type. Raises InputInvalid for what is no JSON."""
    if "json" in parts:
        try:
            text = json.dumps(parts["json"], ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise InputInvalid(f"the body is not JSON: {error}") from error
        return text.encode("utf-8", "surrogatepass"), "application/json"
    if "form" in parts:
        return with_query("", parts["form"] or {})[1:].encode(), _TYPES["form"]
    if parts.get("text") is None:
        return None, None
    return as_text(parts["text"]).encode("utf-8", "surrogatepass"), _TYPES["text"]


def _authorization(auth: Mapping[str, Any]) -> dict[str, str]:
    if "bearer" in auth:
        return {"authorization": f"Bearer {as_text(auth['bearer'])}"}
    if "basic" in auth:
        pair = f"{as_text(auth['basic']['username'])}:{as_text(auth['basic']['password'])}"
        return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    return {}


def as_text(value: Any) -> str:
    """A scalar as queries, headers and forms write it; anything else as compact JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
