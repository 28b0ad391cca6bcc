"""The API's answers as the command line understands them: errors by class, exit codes by error, pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from engine import errors
from engine.errors import DueworkError
from ops.cli import exits, remote
from ops.cli.output import Output


def classes(kind: type[DueworkError] = DueworkError) -> Iterator[type[DueworkError]]:
    """Every class of the error tree in engine/errors.py."""
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
        yield from classes(child)


def answering(status: int, body: Any) -> remote.Remote:
    """A connection to a server that always answers so."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(status, json=body))
    return remote.Remote(httpx2.Client(transport=transport, base_url="http://api.test"), Output())


@pytest.mark.parametrize("kind", list(classes()), ids=lambda kind: str(kind.__name__))
def test_each_error_comes_back_as_itself(kind: type[DueworkError]) -> None:
    """A problem document is raised as the class that the server raised, with its places."""
    body = {
        "code": kind.code,
        "detail": "what, where, how to mend",
        "errors": [{"pointer": "/a", "line": 2, "column": 3, "code": "x", "detail": "y"}],
    }
    with pytest.raises(DueworkError) as caught:
        answering(kind.status, body).get("/tasks")
    assert type(caught.value) is kind
    assert caught.value.message == "what, where, how to mend"
    assert [problem.as_dict() for problem in caught.value.errors] == body["errors"]


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (400, "malformed", 3),
        (400, "gate_blocked", 7),
        (401, "unauthenticated", 5),
        (403, "forbidden", 5),
        (404, "not_found", 4),
        (409, "conflict", 6),
        (412, "precondition_failed", 6),
        (413, "too_large", 3),
        (415, "unsupported_media_type", 3),
        (422, "validation_failed", 3),
        (422, "input_invalid", 3),
        (429, "rate_limited", 9),
        (500, "internal_error", 1),
        (503, "store_unavailable", 9),
        (503, "gate_unavailable", 9),
        (418, "unheard_of", 3),
        (502, None, 9),
    ],
)
def test_exit_codes_follow_the_problem(status: int, code: str | None, exit_code: int) -> None:
    """The table of SURFACES: what a script learns from each refusal."""
    with pytest.raises(DueworkError) as caught:
        answering(status, {"code": code, "detail": "no"}).get("/tasks")
    assert exits.of_error(caught.value) == exit_code


@pytest.mark.parametrize(
    ("status", "code"), [("succeeded", 0), ("blocked", 7), ("failed", 1), ("dead", 1), ("canceled", 1)]
)
def test_a_run_ends_the_command_as_it_ended(status: str, code: int) -> None:
    """A finished run's status decides the exit code."""
    assert exits.of_run(status) == code


@pytest.mark.parametrize("body", ["<html>", [1], None])
def test_an_answer_that_is_no_problem_document_is_still_an_error(body: Any) -> None:
    """A proxy's own error page says its status at least."""
    with pytest.raises(DueworkError, match="503"):
        answering(503, body).get("/tasks")


def test_a_server_that_is_not_there_is_unreachable() -> None:
    """No connection is exit code 9, and the message says how to mend it."""
    api = remote.connect("http://127.0.0.1:1", "x", Output())
    with api.client, pytest.raises(remote.ServerUnreachable, match="duework up") as caught:
        api.get("/tasks")
    assert exits.of_error(caught.value) == 9


def test_the_development_token_explains_its_refusal() -> None:
    """Who configured no token learns that one was assumed."""
    transport = httpx2.MockTransport(lambda _: httpx2.Response(401, json={"code": "unauthenticated"}))
    api = remote.Remote(httpx2.Client(transport=transport, base_url="http://x"), Output(), default_token=True)
    with pytest.raises(errors.AuthenticationFailed, match="DUEWORK_TOKEN"):
        api.get("/tasks")


def test_lists_are_read_over_as_many_pages_as_they_take() -> None:
    """Pages are followed by their cursor, up to the limit and not beyond."""

    def page(request: httpx2.Request) -> httpx2.Response:
        first = int(request.url.params.get("cursor", 0))
        count = int(request.url.params["limit"])
        return httpx2.Response(
            200, json={"items": list(range(first, first + count)), "next_cursor": str(first + count)}
        )

    client = httpx2.Client(transport=httpx2.MockTransport(page), base_url="http://api.test")
    assert remote.Remote(client, Output()).pages("/runs", 450) == list(range(450))


def test_a_name_cannot_leave_its_place_in_a_path() -> None:
    """Slashes and dots of an argument are escaped."""
    assert remote.path("tasks", "../agents?x") == "/tasks/..%2Fagents%3Fx"
