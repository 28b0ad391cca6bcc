"""The command line's side of the API: one request in, one answer or one error of our own tree out.

A command that talks to the API is a function whose first parameter is a `Remote`; `remote` turns it into a
command with the options that all of them share.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import httpx2
import typer

from engine import errors
from engine.errors import AuthenticationFailed, DueworkError, Problem
from engine.settings import LOOPBACK, load
from ops.cli.output import Format, Output

DEVELOPMENT_TOKEN = "system-agent"  # noqa: S105 — no secret: it is let in by a development server only
PATIENCE = 30.0  # seconds for an answer, above what a request asks the server to wait
PAGE = 200  # items of one request, at most

Server = Annotated[str | None, typer.Option("--server", help="URL of the API; else DUEWORK_URL.")]
Token = Annotated[str | None, typer.Option("--token", help="Agent token; else DUEWORK_TOKEN.")]
Shape = Annotated[Format, typer.Option("-o", "--output", help="How to print the answer.")]
Query = Annotated[str | None, typer.Option("--query", help="JMESPath over the answer.")]


class ServerUnreachable(DueworkError):
    """The API does not answer."""

    code, status = "server_unreachable", 503


@dataclass(frozen=True, slots=True)
class Remote:
    """An open connection to the API, and how the command prints."""

    client: httpx2.Client
    output: Output
    default_token: bool = False

    def send(self, method: str, path: str, *, wait: float = 0, **request: Any) -> Any:
        """The body of the answer, parsed; None where there is none. Raises the error that the server raised."""
        try:
            answer = self.client.request(method, path, timeout=PATIENCE + wait, **request)
        except httpx2.TransportError as error:
            raise ServerUnreachable(
                f"no answer from {self.client.base_url}: {error}. Start one with `duework up`, "
                "or name it with --server or DUEWORK_URL"
            ) from error
        if answer.is_error:
            raise self._problem(answer)
        return answer.json() if answer.content else None

    def get(self, path: str, **parameters: Any) -> Any:
        """GET; parameters that are None are left out."""
        return self.send("GET", path, params=_given(parameters))

    def post(self, path: str, json: Any = None, **parameters: Any) -> Any:
        """POST a JSON body."""
        return self.send("POST", path, json=json, params=_given(parameters))

    def pages(self, path: str, limit: int, **parameters: Any) -> list[Any]:
        """Up to `limit` items of a list, over as many pages as they take."""
        items: list[Any] = []
        cursor = None
        while len(items) < limit:
            page = self.get(path, cursor=cursor, limit=min(PAGE, limit - len(items)), **parameters)
            items += page["items"]
            cursor = page.get("next_cursor")
            if not cursor:
                break
        return items[:limit]

    def show(self, value: Any, *columns: str) -> None:
        """Print the answer; see `Output.show`."""
        self.output.show(value, *columns)

    def _problem(self, answer: httpx2.Response) -> DueworkError:
        error = problem(answer)
        if isinstance(error, AuthenticationFailed) and self.default_token:
            error.message += (
                f". No token is configured, so {DEVELOPMENT_TOKEN!r} was sent, which only a development server "
                "lets in: give one with --token or DUEWORK_TOKEN"
            )
        return error


@dataclass(frozen=True, slots=True)
class Target:
    """Which API is spoken to, and what every request to it carries."""

    url: str
    headers: dict[str, str]
    local: bool
    default_token: bool


def target(server: str | None, token: str | None) -> Target:
    """The API by flag, else by setting; without a token a local server is tried with the development one."""
    settings = load(url=server, token=token)
    local = urlsplit(settings.url).hostname in LOOPBACK
    default_token = local and not settings.token
    bearer = DEVELOPMENT_TOKEN if default_token else settings.token
    headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    return Target(settings.url, headers, local, default_token)


def connect(server: str | None, token: str | None, output: Output) -> Remote:
    """A connection to the API by flag, else by setting."""
    given = target(server, token)
    client = httpx2.Client(base_url=given.url, headers=given.headers, trust_env=not given.local)
    return Remote(client, output, given.default_token)


def problem(answer: httpx2.Response) -> DueworkError:
    """The error of our tree that a problem document stands for: by its code, else by its status."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    message = body.get("detail") or body.get("message") or f"the server answered {answer.status_code}"
    places = [
        Problem(**{k: item[k] for k in Problem.__slots__ if k in item}) for item in body.get("errors", ())
    ]
    kind = _kind(body.get("code"), answer.status_code)
    return kind(message, errors=places, details=body.get("details") or {})


def path(*parts: str) -> str:
    """A path of the API; each part is escaped, so that a name cannot leave its place."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def remote(function: Callable[..., None]) -> Callable[..., None]:
    """The command for a function of a `Remote`: with --server, --token, --output and --query beside its own."""

    def call(
        server: Server = None,
        token: Token = None,
        output: Shape = Format.TABLE,
        query: Query = None,
        **given: Any,
    ) -> None:
        made = connect(server, token, Output(output, query))
        with made.client:
            function(made, **given)

    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
    shared = list(inspect.signature(call, eval_str=True).parameters.values())[:-1]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *shared)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # Typer reads it
    call.__annotations__ = {p.name: p.annotation for p in parameters}
    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


def _kind(code: str | None, status: int) -> type[DueworkError]:
    """The class with this code; else the first of this status, nearest to the root."""
    known = list(_tree(DueworkError))
    by_code = (kind for kind in known if kind.code == code)
    by_status = (kind for kind in known if kind.status == status)
    return next(by_code, None) or next(by_status, errors.ValidationFailed if status < 500 else DueworkError)


def _tree(kind: type[DueworkError]) -> Iterator[type[DueworkError]]:
    """The error classes, breadth first."""
    level = [kind]
    while level:
        yield from level
        level = [child for parent in level for child in parent.__subclasses__()]


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}
