"""llm.chat: one answer of a language model, from any endpoint that speaks OpenAI's chat completions.

The call goes through the http tools, so the same guard stands before private addresses and the same limits hold.
What it used is told as `usage`, which the run's budget counts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engine.contract import compile_schema
from engine.errors import (
    DueworkError,
    InputInvalid,
    OutputInvalid,
    RateLimited,
    ToolRejected,
    ToolUnavailable,
    ValidationFailed,
)
from engine.pairs import prices
from engine.settings import Settings
from engine.tools.calls import Arguments, Call, Tool
from engine.tools.http.answer import BUSY, retry_after

KEY = "LLM_API_KEY"
"""The secret that goes to the operator's endpoint, and never to one that a step names."""
PASSED_ON = ("max_tokens", "temperature", "top_p", "seed", "stop")

_ANSWERS = list(range(200, 600))  # every status comes back, and is judged here
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_FENCED = re.compile(r"\s*```[A-Za-z]*\s*\n(.*)\n\s*```\s*", re.DOTALL)
_MOST = 10**12  # tokens of one call; more of them is no count
_PER_TOKEN = 4  # characters; what most tokenizers come to for English


@dataclass(frozen=True, slots=True)
class Shape:
    """What the text must be: JSON or not, and by which schema."""

    is_json: bool
    schema: Mapping[str, Any] | None


class LlmTools:
    """Asks the endpoint that `settings` or the step names; `request` is `http.request`."""

    def __init__(self, settings: Settings, request: Tool) -> None:
        self.settings = settings
        self.prices = prices(settings.llm_prices)
        self._request = request

    async def chat(self, arguments: Arguments, call: Call) -> dict[str, Any]:
        """{messages, model?, url?, api_key?, max_tokens?, temperature?, …, response_format?, options?} →
        {text, message, model, finish_reason, usage: {tokens, prompt_tokens, completion_tokens, cost_usd?}, json?}.

        `json` is there when `response_format` asks for JSON; text that is none, or breaks the schema, is OutputInvalid.
        Raises RateLimited and ToolUnavailable where a later try may help, ToolRejected otherwise, with
        `details.status` and the provider's own code.
        """
        asked = self._body(arguments)
        shape = _shape(arguments)
        url, key = self._endpoint(arguments, call)
        answer = await self._request(
            {
                "method": "POST",
                "url": f"{url.rstrip('/')}/chat/completions",
                "headers": {"authorization": f"Bearer {key}"} if key else {},
                "json": asked,
                "expect": _ANSWERS,
            },
            call,
        )
        if answer["status"] >= 300:
            raise _refused(answer)
        return self._read(asked, answer["body"], shape)

    def _endpoint(self, arguments: Arguments, call: Call) -> tuple[str, str | None]:
        if "url" in arguments:
            return arguments["url"], arguments.get("api_key")
        if not self.settings.llm_url:
            raise ToolRejected(
                "llm.chat has no endpoint: give url, or set DUEWORK_LLM_URL where the workers run"
            )
        return self.settings.llm_url, arguments.get("api_key") or call.secrets.value(KEY)

    def _body(self, arguments: Arguments) -> dict[str, Any]:
        model = arguments.get("model") or self.settings.llm_model
        if not model:
            raise InputInvalid("model is missing: give one, or set DUEWORK_LLM_MODEL where the workers run")
        options = arguments.get("options", {})
        own = {"model", "messages", "stream", "n", "response_format", *PASSED_ON} & set(options)
        if own:
            raise InputInvalid(
                f"options: {', '.join(sorted(own))} is no option; the tool's own input says it"
            )
        passed = {name: arguments[name] for name in PASSED_ON if name in arguments}
        body = {**options, **passed, "model": model, "messages": arguments["messages"]}
        form = arguments.get("response_format")
        if form and form["type"] != "text":
            body["response_format"] = (
                form if "json_schema" not in form else {**form, "json_schema": _named(form)}
            )
        return body

    def _read(self, asked: Mapping[str, Any], body: Any, shape: Shape) -> dict[str, Any]:
        try:
            choice = body["choices"][0]
            message, finish = choice["message"], choice.get("finish_reason")
            text = _text(message.get("content"))
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise OutputInvalid(
                "the endpoint's answer is no chat completion: it has no choices[0].message"
            ) from error
        model = body.get("model") if isinstance(body.get("model"), str) else asked["model"]
        told = {"text": text, "message": message, "model": model, "finish_reason": finish}
        told["usage"] = self._usage(asked, body.get("usage"), text, model)
        return told | {"json": _parsed(text, finish, shape)} if shape.is_json else told

    def _usage(self, asked: Mapping[str, Any], given: Any, text: str, model: str) -> dict[str, Any]:
        """What was used. An endpoint that does not say is estimated by length, so that no budget is blind to it."""
        given = given if isinstance(given, Mapping) else {}
        counts = [given.get(name) for name in ("prompt_tokens", "completion_tokens")]
        told = all(map(_is_count, counts))
        if not told:
            said = json.dumps(asked["messages"], ensure_ascii=False)
            counts = [math.ceil(len(each) / _PER_TOKEN) for each in (said, text)]
        prompt, completion = (int(count or 0) for count in counts)
        total = given.get("total_tokens")
        tokens = total if told and _is_count(total) and total > prompt + completion else prompt + completion
        usage: dict[str, Any] = {"tokens": tokens, "prompt_tokens": prompt, "completion_tokens": completion}
        price = self.prices.get(asked["model"]) or self.prices.get(model)
        if price:
            usage["cost_usd"] = round((prompt * price[0] + completion * price[1]) / 1_000_000, 9)
        return usage if told else {**usage, "estimated": True}


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def _named(form: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": "answer", **form["json_schema"]}


def _shape(arguments: Arguments) -> Shape:
    """Raises InputInvalid for a schema that is none, before anything is paid for."""
    form = arguments.get("response_format") or {"type": "text"}
    schema = form.get("json_schema", {}).get("schema")
    if schema is not None:
        try:
            compile_schema(schema)
        except ValidationFailed as error:
            raise InputInvalid(f"response_format: {error}", errors=error.errors) from error
    return Shape(form["type"] != "text", schema)


def _text(content: Any) -> str:
    """A message's content as text: itself, or the text parts of a list."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return content if isinstance(content, str) else ""


def _parsed(text: str, finish: Any, shape: Shape) -> Any:
    fenced = _FENCED.fullmatch(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError) as error:
        cut = ": it was cut off at max_tokens" if finish == "length" else ""
        raise OutputInvalid(f"the model's text is not JSON{cut}") from error
    if shape.schema is not None and (problems := compile_schema(shape.schema).check(value)):
        detail = f"{problems[0].pointer or '/'}: {problems[0].detail}"
        raise OutputInvalid(f"the model's JSON breaks the schema at {detail}", errors=problems)
    return value


def _refused(answer: Mapping[str, Any]) -> DueworkError:
    """By status and the provider's code; its sentences are left out: no gate has looked at them."""
    status, body = answer["status"], answer["body"]
    told = body.get("error") if isinstance(body, Mapping) else None
    code = told.get("code") or told.get("type") if isinstance(told, Mapping) else None
    code = code if isinstance(code, str) and _CODE.fullmatch(code) else None
    detail = f"the model's endpoint answered {status}" + (f" ({code})" if code else "")
    details = {"status": status} | ({"code": code} if code else {})
    if status not in BUSY or code == "insufficient_quota":  # an empty account answers 429, now and later
        return ToolRejected(detail, details=details)
    kind = RateLimited if status == 429 else ToolUnavailable
    return kind(detail, details=details, retry_after=retry_after(answer["headers"], datetime.now(UTC)))
