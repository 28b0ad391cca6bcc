"""HTTP calls: the builtins http.get, http.post, http.request, and catalog entries of transport http.

Private hosts are refused by the guard unless the operator or the entry allows them; redirects are followed only
where the call or the entry says how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpx2

from engine.errors import Problem, ValidationFailed
from engine.tools.calls import Arguments, Call
from engine.tools.entry import ToolEntry
from engine.tools.http.answer import Rules, value_of
from engine.tools.http.exchange import Asked, exchange, headers_of, parsed
from engine.tools.http.guard import Hosts, hosts, open_client
from engine.tools.http.recipe import Recipe, as_text, asked, body, compile_recipe, with_query

RECIPES = 1000
"""Compiled entries that one process keeps; those of a catalog that was replaced go first."""
_ANSWERED = frozenset(range(100, 400))


def faults(entry: ToolEntry) -> Iterator[Problem]:
    """What keeps an http entry from ever being called."""
    try:
        compile_recipe(entry)
    except ValidationFailed as error:
        yield from error.errors


class HttpTools:
    """The clients of one process, one for each set of allowed hosts. `allowed` are the operator's."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self.allowed = hosts(allowed)
        self._clients: dict[Hosts, httpx2.AsyncClient] = {}
        self._recipes: dict[int, tuple[ToolEntry, Recipe]] = {}

    async def close(self) -> None:
        """Close the pooled connections."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def request(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """http.request and its short forms: {method?, url, headers?, params?, json|form|body?, expect?, redirects?}.

        Answers {status, headers, body}; the body is parsed when it is JSON. A status outside `expect` (default:
        below 400) raises RateLimited or ToolUnavailable when trying again may help, else ToolRejected.
        """
        expected = arguments.get("expect")
        rules = Rules(
            expect=frozenset(expected) if expected else _ANSWERED,
            form="full",
            redirects=arguments.get("redirects", 0),
        )
        response = await exchange(self._client(self.allowed), _given(arguments, call), rules, call)
        answer: dict[str, Any] = value_of(response, rules)
        return answer

    async def call(self, entry: ToolEntry, arguments: Arguments, call: Call) -> Any:
        """A catalog entry of transport http, as its `http` member says."""
        recipe = self._recipe(entry)
        client = self._client(self.allowed | hosts(entry.allow_hosts))
        response = await exchange(client, asked(recipe, arguments, call), recipe.rules, call)
        return value_of(response, recipe.rules)

    def _client(self, allowed: Hosts) -> httpx2.AsyncClient:
        if allowed not in self._clients:
            self._clients[allowed] = open_client(allowed)
        return self._clients[allowed]

    def _recipe(self, entry: ToolEntry) -> Recipe:
        """By identity, which lasts as long as the entry is kept beside it."""
        known = self._recipes.get(id(entry))
        if known is None:
            known = self._recipes[id(entry)] = entry, compile_recipe(entry)
            if len(self._recipes) > RECIPES:
                self._recipes.pop(next(iter(self._recipes)))
        return known[1]


def _given(arguments: Arguments, call: Call) -> Asked:
    """The request that a builtin's arguments are."""
    shown = _shown(arguments["url"])
    parts = {name: arguments[name] for name in ("json", "form") if name in arguments}
    content, kind = body(parts | ({"text": arguments["body"]} if "body" in arguments else {}))
    headers = ({"content-type": kind} if kind else {}) | {
        name.lower(): as_text(value)
        for name, value in arguments.get("headers", {}).items()
        if value is not None
    }
    url = parsed(with_query(arguments["url"], arguments.get("params", {})), shown)
    return Asked(arguments.get("method", "GET"), url, shown, headers_of(headers, call), content)


def _shown(url: str) -> str:
    """The URL without its query, which may hold what must not be logged."""
    return url.split("?", 1)[0].split("#", 1)[0]
