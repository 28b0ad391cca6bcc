"""Tools of MCP servers as catalog files, without a server: what is written, what is kept, what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ValidationFailed
from engine.settings import Settings
from engine.tools.mcp import server as mcp_server
from engine.tools.mcp.answer import CONTENT_SCHEMA
from engine.tools.mcp.importing import imported
from engine.tools.mcp.server import Listed, server_of, tool_of
from engine.tools.registry import Catalog, load_catalog, parse_entry

INPUT = {"type": "object", "properties": {"city": {"type": "string", "description": "a: b"}}}
FORECAST = Listed(
    "forecast", "Forecast", "Says the weather.", INPUT, {"type": "object"}, {"readOnlyHint": True}
)
ALERT = Listed("alert", "alert", "", {"type": "object"}, None, {})
OPTIONS: dict[str, Any] = {"url": "https://mcp.example/", "headers": {"x-key": "${secrets.KEY}"}}


def loaded(folder: Path, text: str) -> Catalog:
    """The catalog with this file in it."""
    (folder / "weather.yaml").write_text(text, encoding="utf-8")
    return load_catalog(Settings(catalog=folder))


def test_an_imported_file_is_a_catalog(tmp_path: Path) -> None:
    """Loaded as it is written: one server for all tools, hints as idempotence, a scope for each."""
    made = imported("weather", OPTIONS, ["mcp.example"], [FORECAST, ALERT])
    assert made.changes == ("+ weather.forecast", "+ weather.alert")
    catalog = loaded(tmp_path, made.text)
    first, second = catalog.get("weather.forecast"), catalog.get("weather.alert")
    assert (first.title, first.description, first.idempotent) == ("Forecast", "Says the weather.", True)
    assert (first.input_schema, first.output_schema) == (INPUT, {"type": "object"})
    assert (second.idempotent, second.output_schema) == (False, CONTENT_SCHEMA)
    assert (first.scopes, first.allow_hosts) == (("tool:weather.forecast",), ("mcp.example",))
    assert (tool_of(first), tool_of(second)) == ("forecast", "alert")
    assert server_of(first) == server_of(second)


def test_nothing_new_changes_nothing() -> None:
    """The same text comes back, byte for byte."""
    text = imported("weather", OPTIONS, [], [FORECAST, ALERT]).text
    again = imported("weather", OPTIONS, [], [FORECAST, ALERT], text)
    assert (again.text, again.changes) == (text, ())


def test_what_a_person_wrote_stays(tmp_path: Path) -> None:
    """Timeouts, scopes, comments and additions survive; what the server says is taken over and named."""
    text = imported("weather", OPTIONS, [], [FORECAST, ALERT]).text
    text = text.replace("timeout_seconds: 60", "timeout_seconds: 7 # short", 1)
    text = text.replace("idempotent: false", "idempotent: true # I know\n    x-owner: me", 1)
    schema = {"type": "object", "properties": {"place": {"type": "string"}}}
    changed = replace(FORECAST, input_schema=schema, description="New words.")
    fresh = Listed("history", "h", "", {}, None, {})
    made = imported("weather", OPTIONS | {"url": "https://new.example/"}, [], [changed, ALERT, fresh], text)
    assert made.changes == (
        "~ how the server is reached: url",
        "~ weather.forecast: description, input_schema",
        "+ weather.history",
    )
    assert "timeout_seconds: 7 # short" in made.text
    assert "idempotent: true # I know" in made.text
    catalog = loaded(tmp_path, made.text)
    assert catalog.get("weather.forecast").input_schema == schema
    assert {server_of(catalog.get(f"weather.{name}")).url for name in ("forecast", "alert", "history")} == {
        "https://new.example/"
    }


def test_what_is_gone_is_taken_out(tmp_path: Path) -> None:
    """The first tool holds the server's definition; the others keep it."""
    text = imported("weather", OPTIONS, [], [FORECAST, ALERT]).text
    made = imported("weather", OPTIONS, [], [ALERT], text)
    assert made.changes == ("- weather.forecast",)
    assert server_of(loaded(tmp_path, made.text).get("weather.alert")).url == OPTIONS["url"]


@pytest.mark.parametrize(
    "tool",
    [
        replace(ALERT, name="a/b"),
        replace(ALERT, name="a" * 200),
        replace(ALERT, input_schema={"type": "string", "pattern": "(?=x)"}),
        replace(ALERT, output_schema={"$ref": "https://elsewhere.example/schema"}),
    ],
)
def test_a_tool_that_no_catalog_can_hold_is_left_out(tool: Listed) -> None:
    """And said, with the reason; the rest is imported."""
    made = imported("weather", OPTIONS, [], [tool, FORECAST])
    assert made.changes == ("+ weather.forecast",)
    assert len(made.refused) == 1


@pytest.mark.parametrize("text", ["- a", "tools: {a: 1}", "tools: [x]", "tools: [", "address: x"])
def test_a_file_of_somebody_else_is_not_touched(text: str) -> None:
    """It is refused as it is."""
    with pytest.raises(ValidationFailed, match="the file of weather"):
        imported("weather", OPTIONS, [], [ALERT], text)


def test_the_digest_is_that_of_the_schemas() -> None:
    """Other words and another order of members are no change; another type is."""
    assert replace(FORECAST, description="x", annotations={}).digest == FORECAST.digest
    turned = {"properties": INPUT["properties"], "type": "object"}
    assert replace(FORECAST, input_schema=turned).digest == FORECAST.digest
    assert replace(FORECAST, input_schema={"type": "array"}).digest != FORECAST.digest
    assert replace(FORECAST, output_schema=None).digest != FORECAST.digest


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({}, "either command"),
        ({"command": ["x"], "url": "https://x.example/"}, "either command"),
        ({"command": []}, "command"),
        ({"command": ["x"], "headers": {"a": "b"}}, "headers is not for"),
        ({"url": "https://x.example/", "env": {"A": "b"}}, "env is not for"),
        ({"url": "x.example"}, "not an http"),
        ({"url": "https://me:pw@x.example/"}, "credentials"),
        ({"command": ["x", "--key=${secrets.KEY}"]}, "read by every user"),
        ({"command": ["x"], "env": {"A": "${input.a}"}}, "see secrets"),
        ({"command": ["x"], "env": {"A": "${secrets.A"}}, "closing }"),
        ({"command": ["x"], "enw": {}}, "did you mean"),
    ],
)
def test_a_server_that_cannot_be_reached_is_refused_at_load(members: dict[str, Any], words: str) -> None:
    """With its place, before a worker starts."""
    with pytest.raises(ValidationFailed) as found:
        parse_entry(entry(mcp=members), "x.yaml")
    assert words in str(found.value)


@pytest.mark.parametrize("endpoint", ["", {}, [], {"tool": 1}, {"tool": "x", "other": 1}])
def test_an_entry_names_a_tool(endpoint: Any) -> None:
    """By its name, or by {tool, listed}."""
    with pytest.raises(ValidationFailed, match="the tool's name"):
        parse_entry(entry(endpoint=endpoint), "x.yaml")


def test_without_the_sdk_a_catalog_with_mcp_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """At load, with what is to be installed."""
    monkeypatch.setattr(mcp_server, "find_spec", lambda _name: None)
    with pytest.raises(ValidationFailed, match=r"duework\[mcp\]"):
        parse_entry(entry(), "x.yaml")


def entry(**members: Any) -> dict[str, Any]:
    """An entry of transport mcp."""
    given = {"address": "a.b", "transport": "mcp", "endpoint": "b", "mcp": {"url": "https://x.example/"}}
    return given | {"input_schema": {}, "output_schema": {}} | members
