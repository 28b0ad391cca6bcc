"""llm.chat against a real OpenAI-compatible server: what is sent, what comes back, what counts, what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from engine.errors import (
    DueworkError,
    InputInvalid,
    OutputInvalid,
    RateLimited,
    ToolRejected,
    ToolTimeout,
    ToolUnavailable,
)
from engine.pairs import prices
from engine.secrets import Secrets
from engine.settings import Settings
from engine.tools.builtin.llm import LlmTools
from engine.tools.calls import Call
from engine.tools.http.client import HttpTools
from engine.tools.registry import load_catalog
from tests.llm import KEY, Model, llm_server
from tests.polling import poll_until

VAULT = Secrets({"LLM_API_KEY": KEY}.get)
CALL = Call(UUID(int=7), "ask", "run:ask", fence=1, attempt=1, timeout=timedelta(seconds=20), secrets=VAULT)
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
FITTING = {"type": "json_schema", "json_schema": {"schema": SCHEMA, "strict": True}}


@pytest.fixture(scope="module")
def server() -> Iterator[Model]:
    """One server for the module."""
    with llm_server() as model:
        yield model


@pytest.fixture
def model(server: Model) -> Model:
    """The server, with nothing asked yet."""
    server.asked.clear()
    return server


@pytest.fixture
async def http() -> AsyncIterator[HttpTools]:
    """What may reach loopback."""
    made = HttpTools(["127.0.0.1"])
    yield made
    await made.close()


@pytest.fixture
def llm(model: Model, http: HttpTools) -> LlmTools:
    """The tool, with the server as the operator's endpoint."""
    settings = Settings(
        llm_url=model.url, llm_model="echo", llm_prices="echo=2.50/10 dear-2026-11-01=1000000/0"
    )
    return LlmTools(settings, http.request)


def asking(text: str, **given: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **given}


async def test_an_answer_and_what_it_used(llm: LlmTools, model: Model) -> None:
    """Text, message, model, and the tokens and money that the budget counts; it fits the catalog's schema."""
    answer = await llm.chat(HELLO | {"temperature": 0, "max_tokens": 50, "options": {"user": "u1"}}, CALL)
    assert answer["text"] == answer["message"]["content"] == "You said: hello"
    assert (answer["model"], answer["finish_reason"]) == ("echo-2026-11-01", "stop")
    assert answer["usage"] == {
        "tokens": 15,
        "prompt_tokens": 11,
        "completion_tokens": 4,
        "cost_usd": 0.0000675,
    }
    ((key, asked),) = model.asked
    assert key == f"Bearer {KEY}"
    assert asked == {**HELLO, "temperature": 0, "max_tokens": 50, "user": "u1", "model": "echo"}
    assert not load_catalog(Settings()).get("llm.chat").output.check(answer)


async def test_prices_are_by_the_name_asked_for_or_answered(llm: LlmTools) -> None:
    """A model without a price costs nothing that could be counted."""
    assert (await llm.chat(HELLO | {"model": "dear"}, CALL))["usage"]["cost_usd"] == 11
    assert "cost_usd" not in (await llm.chat(HELLO | {"model": "other"}, CALL))["usage"]


async def test_an_endpoint_that_does_not_count_is_estimated(llm: LlmTools) -> None:
    """A budget is not blind to it, and the answer says that it is an estimate."""
    usage = (await llm.chat(HELLO | {"model": "silent"}, CALL))["usage"]
    assert usage == {"tokens": 14, "prompt_tokens": 10, "completion_tokens": 4, "estimated": True}


@pytest.mark.parametrize("count", [10**400, -1, True, 1.5, "7", None])
async def test_what_is_no_count_is_estimated(count: Any) -> None:
    """Whatever an endpoint says of what it used: the budget gets a number that can be counted."""
    choice = {"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    used = {"prompt_tokens": count, "completion_tokens": 1, "total_tokens": count}

    async def answering(_arguments: Any, _call: Call) -> Any:
        return {"status": 200, "headers": {}, "body": {"choices": [choice], "usage": used}}

    priced = Settings(llm_url="http://llm.example", llm_model="m", llm_prices="m=1/2")
    usage = (await LlmTools(priced, answering).chat(HELLO, CALL))["usage"]
    assert usage["estimated"]
    assert type(usage["tokens"]) is int


async def test_the_operators_key_goes_to_the_operators_endpoint_only(llm: LlmTools, model: Model) -> None:
    """A step that names another URL brings its own key."""
    await llm.chat(HELLO | {"url": f"{model.url}/"}, CALL)
    await llm.chat(HELLO | {"url": model.url, "api_key": KEY}, CALL)
    await llm.chat(HELLO | {"api_key": KEY}, replace(CALL, secrets=Secrets(lambda _: None)))
    await llm.chat(HELLO, replace(CALL, secrets=Secrets(lambda _: None)))
    assert [key for key, _ in model.asked] == ["", f"Bearer {KEY}", f"Bearer {KEY}", ""]


@pytest.mark.parametrize(
    ("name", "kind", "details", "wait"),
    [
        ("busy", RateLimited, {"status": 429, "code": "rate_limit_exceeded"}, 7),
        ("poor", ToolRejected, {"status": 429, "code": "insufficient_quota"}, None),
        ("down", ToolUnavailable, {"status": 503, "code": "overloaded"}, 7),
        ("long", ToolRejected, {"status": 400, "code": "context_length_exceeded"}, None),
        ("odd", ToolRejected, {"status": 400}, None),
    ],
)
async def test_status_and_code_decide_about_a_retry(
    llm: LlmTools, name: str, kind: type[DueworkError], details: dict[str, Any], wait: int | None
) -> None:
    """With the wait that the endpoint asks for; its sentences are not passed on."""
    with pytest.raises(kind) as refused:
        await llm.chat(HELLO | {"model": name}, CALL)
    assert (type(refused.value), refused.value.details) == (kind, details)
    assert refused.value.retry_after == (timedelta(seconds=wait) if wait else None)
    assert "previous instructions" not in str(refused.value)


async def test_a_wrong_key_is_refused_and_not_shown(llm: LlmTools) -> None:
    """The endpoint repeats the key; the error does not."""
    with pytest.raises(ToolRejected, match=r"401 \(invalid_api_key") as refused:
        await llm.chat(HELLO | {"api_key": "sk-wrong-0001"}, CALL)
    assert "sk-wrong" not in str(refused.value.as_dict())


@pytest.mark.parametrize(
    ("name", "kind"), [("html", OutputInvalid), ("empty", OutputInvalid), ("lies", ToolUnavailable)]
)
async def test_what_is_no_completion(llm: LlmTools, name: str, kind: type[DueworkError]) -> None:
    """A page, an empty answer and one that breaks off are told apart from an answer."""
    with pytest.raises(kind):
        await llm.chat(HELLO | {"model": name}, CALL)


@pytest.mark.parametrize(
    ("text", "given", "outcome"),
    [
        ('{"n": 1}', {"type": "json_object"}, {"n": 1}),
        ('[1, "x"]', {"type": "json_object"}, [1, "x"]),
        ('```json\n{"n": 2}\n```', FITTING, {"n": 2}),
        ('{"n": 3}', FITTING, {"n": 3}),
        ('{"n": "3"}', FITTING, "breaks the schema at /n"),
        ("sorry", FITTING, "is not JSON"),
        ("[" * 100_000, {"type": "json_object"}, "is not JSON"),
    ],
)
async def test_json_is_parsed_and_checked(
    llm: LlmTools, model: Model, text: str, given: dict[str, Any], outcome: Any
) -> None:
    """What the schema does not allow is an invalid output, whatever the endpoint promised."""
    arguments = asking(f"answer {text}", response_format=given)
    if isinstance(outcome, str):
        with pytest.raises(OutputInvalid, match=outcome):
            await llm.chat(arguments, CALL)
        return
    assert (await llm.chat(arguments, CALL))["json"] == outcome
    sent = model.asked[0][1]["response_format"]
    assert sent["type"] == given["type"]
    assert sent.get("json_schema", {"name": "answer"})["name"] == "answer"


async def test_json_that_was_cut_off_says_so(llm: LlmTools) -> None:
    """The reason is the limit, and not the model."""
    arguments = asking('answer {"n"', max_tokens=1, response_format={"type": "json_object"})
    with pytest.raises(OutputInvalid, match="cut off at max_tokens"):
        await llm.chat(arguments, CALL)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"options": {"stream": True}}, "stream is no option"),
        ({"options": {"model": "x", "messages": []}}, "messages, model is no option"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "objekt"}}}},
            "response_format",
        ),
    ],
)
async def test_wrong_input_is_refused_before_anything_is_paid_for(
    llm: LlmTools, model: Model, wrong: dict[str, Any], words: str
) -> None:
    """The endpoint is not asked."""
    with pytest.raises(InputInvalid, match=words):
        await llm.chat(HELLO | wrong, CALL)
    assert not model.asked


async def test_without_an_endpoint_or_a_model(http: HttpTools, model: Model) -> None:
    """The error names the setting."""
    with pytest.raises(ToolRejected, match="DUEWORK_LLM_URL"):
        await LlmTools(Settings(llm_model="m"), http.request).chat(HELLO, CALL)
    with pytest.raises(InputInvalid, match="DUEWORK_LLM_MODEL"):
        await LlmTools(Settings(llm_url=model.url), http.request).chat(HELLO, CALL)


async def test_private_addresses_need_the_operators_leave(model: Model) -> None:
    """The guard of the http tools stands here too, for the step's URL as for the operator's."""
    http = HttpTools([])
    for settings, given in ((Settings(llm_url=model.url), {}), (Settings(), {"url": model.url})):
        with pytest.raises(ToolRejected, match="DUEWORK_HTTP_ALLOW"):
            await LlmTools(settings, http.request).chat(HELLO | {"model": "echo"} | given, CALL)
    await http.close()
    assert not model.asked


async def test_a_slow_endpoint_times_out_and_can_be_cancelled(http: HttpTools) -> None:
    """Neither waits for the answer."""
    with llm_server() as model:
        llm = LlmTools(Settings(llm_url=model.url, llm_model="slow"), http.request)
        with pytest.raises(ToolTimeout):
            await llm.chat(HELLO, replace(CALL, timeout=timedelta(seconds=0.3)))
        model.waiting.clear()
        waiting = asyncio.create_task(llm.chat(HELLO, CALL))
        await poll_until(model.waiting.is_set)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not model.release.is_set()


@pytest.mark.parametrize(
    "text", ["gpt", "gpt=", "=1/2", "gpt=1", "gpt=a/b", "gpt=1/2/3", "gpt=./1", "gpt=-1/2"]
)
def test_prices_that_are_none(text: str) -> None:
    """Said at the start, by the entry's place."""
    with pytest.raises(ValueError, match="entry 2"):
        prices(f"ok=0.1/2 {text}")
