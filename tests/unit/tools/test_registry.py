"""The catalog: what comes with duework, what an operator adds, and every fault told at once."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.errors import NotFound, ValidationFailed
from engine.limits import PATIENCE, Breaker, Rate
from engine.settings import Settings
from engine.store.agents import unknown_scopes
from engine.tools.registry import Catalog, load_catalog, parse_entry, read_entries
from engine.tools.versions import order

SEED: dict[str, Any] = {
    "address": "my-service.my-tool",
    "transport": "http",
    "endpoint": "http://my-service:8080/tools/my-tool",
    "input_schema": {
        "type": "object",
        "required": ["param1"],
        "properties": {"param1": {"type": "string"}, "param2": {"type": "integer", "default": 100}},
    },
    "output_schema": {
        "type": "object",
        "required": ["result"],
        "properties": {"result": {"type": "string"}, "metadata": {"type": "object"}},
    },
    "timeout_seconds": 30,
    "scopes": ["my-service.read"],
}
"""The entry of seed 003, "Update Tool Catalog"."""


def catalog_of(folder: Path, **files: Any) -> Catalog:
    """The catalog with these files beside duework's own: text as it is, anything else as JSON."""
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return load_catalog(Settings(catalog=folder))


def faults_of(folder: Path, **files: Any) -> list[str]:
    """What is wrong with them, one text each; all of them are in the message."""
    with pytest.raises(ValidationFailed) as refused:
        catalog_of(folder, **files)
    details = [problem.detail for problem in refused.value.errors]
    assert all(detail in str(refused.value) for detail in details)
    return details


def test_the_tools_that_come_with_duework() -> None:
    """Each is listed once, by address, and its alias answers too."""
    catalog = load_catalog(Settings())
    addresses = [entry.address for entry in catalog.listed()]
    assert addresses == sorted(set(addresses))
    assert {"core.echo", "http.get", "sql.query", "event.publish", "task.run_now"} <= set(addresses)
    assert catalog.get("echo.message") is catalog.get("core.echo")
    for entry in catalog.listed():
        assert entry.input.check({}) or entry.output.check([]), f"{entry.address} accepts anything"
        assert entry.as_dict().keys() >= {"input_schema", "output_schema", "scopes", "timeout_seconds"}


@pytest.mark.parametrize("shape", [SEED, [SEED], {"tools": [SEED]}], ids=["one", "list", "tools"])
def test_the_seeds_json_form_loads(tmp_path: Path, shape: Any) -> None:
    """A tools.json of one entry, of a list, or with the key `tools`."""
    entry = catalog_of(tmp_path, tools_json=shape).get("my-service.my-tool")
    assert (entry.transport, entry.endpoint) == ("http", SEED["endpoint"])
    assert (entry.timeout, entry.scopes) == (timedelta(seconds=30), ("my-service.read",))
    assert (entry.idempotent, entry.source, entry.title) == (False, "tools.json", "my-service.my-tool")
    assert entry.input.with_defaults({"param1": "x"}) == {"param1": "x", "param2": 100}
    assert entry.output.check({"metadata": {}})


def test_yaml_with_several_documents_loads(tmp_path: Path) -> None:
    """The same members in YAML; other files of the folder are none of the catalog's."""
    documents = "\n---\n".join(json.dumps(SEED | {"address": name}) for name in ("a.one", "a.two"))
    catalog = catalog_of(tmp_path, more_yaml=documents, readme_md="# not a tool", notes_txt="nor this")
    assert [catalog.get(name).source for name in ("a.one", "a.two")] == ["more.yaml"] * 2


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path) -> None:
    """Text that is no JSON or YAML, entries that are none, wrong members, schemas and policies; each with its file."""
    faults = faults_of(
        tmp_path,
        a_json="{bad",
        b_yaml="tools: [",
        c_json=["text", SEED | {"address": "two words"}],
        d_json=SEED
        | {"address": "d.tool", "input_schema": {"type": "strnig"}, "output_schema": {"minimum": "1"}},
        e_json=SEED | {"address": "e.tool", "endpiont": "x", "reflex": {"pii": "mask"}},
        f_json={"address": "f.tool"},
        g_json=SEED | {"address": "g.tool", "reflex": {"allow": ["emial"]}},
    )
    expected = [
        "a.json:1:",
        "b.yaml:1:",
        "c.json: entry: an entry is a mapping",
        "c.json: two words: an address has",
        "d.json: d.tool: must be one of",
        "d.json: d.tool:",
        "e.json: e.tool: unknown key 'endpiont'; did you mean 'endpoint'? (at /endpiont)",
        "e.json: e.tool: must be one of 'block', 'redact', 'flag', 'allow' (at /reflex/pii)",
        "f.json: f.tool: 'transport' is missing (at /)",
        'g.json: g.tool: "emial" is unknown in allow; did you mean "email"? (at /reflex/allow/0)',
    ]
    for text in expected:
        assert any(fault.startswith(text) for fault in faults), f"{text} is not in {faults}"
    places = [fault.rpartition(" (at ")[2] for fault in faults if fault.startswith("d.json")]
    assert places == ["/input_schema/type)", "/output_schema/minimum)"]


@pytest.mark.parametrize(
    "content", ['"text"', "3", '{"tools": null}', '{"tools": {"x": 1}}', "[[]]", "[null]"]
)
def test_what_is_no_entry_is_a_fault(tmp_path: Path, content: str) -> None:
    """Whatever the JSON is, the answer is a list of faults."""
    assert all(fault.startswith("tools.json: entry: ") for fault in faults_of(tmp_path, tools_json=content))


def test_an_address_has_one_tool(tmp_path: Path) -> None:
    """Within a file, between files, with duework's own, and for aliases; the other place is named."""
    twice = faults_of(tmp_path, a_json=[SEED, SEED], b_json=SEED | {"aliases": ["core.echo", "echo.message"]})
    assert twice == [
        "a.json: my-service.my-tool is already defined in a.json",
        "b.json: my-service.my-tool is already defined in a.json",
        "b.json: core.echo is already defined in core.yaml",
        "b.json: echo.message is already defined in core.yaml",
    ]


def test_limits_are_read() -> None:
    """Each with what nothing is said of; durations as people write them."""
    entry = parse_entry(
        SEED | {"rate": {"limit": 3, "per": "1m"}, "concurrency": 2, "breaker": {"open_for": "90s"}},
        "tools.json",
    )
    assert entry.rate == Rate(3, timedelta(minutes=1), 3)
    assert entry.rate.interval == timedelta(seconds=20)
    assert (entry.concurrency, entry.breaker) == (2, Breaker(5, timedelta(seconds=90), 1))
    assert entry.patience == 3 * PATIENCE
    assert not parse_entry(SEED, "tools.json").patience


@pytest.mark.parametrize(
    ("members", "pointer"),
    [
        ({"rate": {"limit": 1, "per": "0s"}}, "/rate/per"),
        ({"rate": {"limit": 1, "per": "soon"}}, "/rate/per"),
        ({"rate": {"limit": 0, "per": "1s"}}, "/rate/limit"),
        ({"breaker": {"open_for": "P1M"}}, "/breaker/open_for"),
        ({"concurrency": 0}, "/concurrency"),
    ],
)
def test_limits_that_mean_nothing_are_refused(members: dict[str, Any], pointer: str) -> None:
    """With the place at fault."""
    with pytest.raises(ValidationFailed) as refused:
        parse_entry(SEED | members, "tools.json")
    assert [problem.pointer for problem in refused.value.errors] == [pointer]


@pytest.mark.parametrize(("limit", "per", "micros"), [(3, 1, 333_334), (1000, 1, 1000), (7, 60, 8_571_429)])
def test_a_rate_is_never_more_than_its_limit(limit: int, per: int, micros: int) -> None:
    """What does not divide is rounded up to whole microseconds."""
    assert Rate(limit, timedelta(seconds=per), 1).interval == timedelta(microseconds=micros)


@pytest.mark.parametrize("endpoint", [None, "", "ftp://host/", "my-service:8080/tool", ["http://host/"]])
def test_an_http_tool_needs_a_url(endpoint: Any) -> None:
    """Without one it could never be called."""
    members = {key: value for key, value in SEED.items() if key != "endpoint"}
    if endpoint is not None:
        members["endpoint"] = endpoint
    with pytest.raises(ValidationFailed, match="needs an endpoint"):
        parse_entry(members, "tools.json")


def versioned(*versions: Any) -> list[dict[str, Any]]:
    """The seed's entry once for each version; None is an entry without one."""
    return [
        SEED | ({} if version is None else {"version": version, "title": str(version)})
        for version in versions
    ]


def test_a_tool_has_versions(tmp_path: Path) -> None:
    """A plain address is the newest, numbers counting as numbers, wherever it stands in the file; `@` takes one."""
    catalog = catalog_of(
        tmp_path, tools_json=[*versioned(9, "10", "10-rc1"), SEED | {"address": "other.tool"}]
    )
    assert catalog.get("my-service.my-tool").version == "10"
    assert catalog.get("my-service.my-tool@9").version == "9"
    assert catalog.get("my-service.my-tool@9").name == "my-service.my-tool@9"
    listed = [entry.name for entry in catalog.listed() if entry.source == "tools.json"]
    plain = "my-service.my-tool"
    assert listed == [f"{plain}@10", f"{plain}@10-rc1", f"{plain}@9", "other.tool"]


def test_a_version_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    """So that a pin that became stale can be mended from its message."""
    catalog = catalog_of(tmp_path, tools_json=[*versioned(1, "2.0"), SEED | {"address": "other.tool"}])
    with pytest.raises(
        NotFound, match=r"no version '3' of the tool 'my-service\.my-tool'; there are 2\.0, 1"
    ):
        catalog.get("my-service.my-tool@3")
    with pytest.raises(NotFound, match="its entry has no version"):
        catalog.get("other.tool@1")


def test_an_alias_follows_the_versions(tmp_path: Path) -> None:
    """The old name has the same versions; it cannot be somebody else's."""
    entries = [entry | {"aliases": ["old.name"]} for entry in versioned(1, 2)]
    catalog = catalog_of(tmp_path, tools_json=entries)
    assert [catalog.get(name).version for name in ("old.name", "old.name@1")] == ["2", "1"]
    faults = faults_of(tmp_path, tools_json=[*entries, SEED | {"address": "old.name", "version": 3}])
    assert faults == ["tools.json: old.name@3 is already defined in tools.json"]
    assert faults_of(tmp_path, tools_json=versioned(2, "2")) == [
        "tools.json: my-service.my-tool@2 is already defined in tools.json"
    ]
    assert faults_of(tmp_path, tools_json=versioned(2, None)) == [
        "tools.json: my-service.my-tool@2 is already defined in tools.json"
    ], "the one without a version could never be named"


@pytest.mark.parametrize(
    "rising", [[None, "alpha", "1", "1.2", "1.2.1", "1.10", "2-rc1", "2"], ["2024-12", "2024", "2025"]]
)
def test_versions_have_one_order(rising: list[str | None]) -> None:
    """From the oldest to the newest, however they come."""
    backwards = rising[::-1]
    backwards.sort(key=order)
    assert backwards == rising


@pytest.mark.parametrize("scope", ["tool:http.get", "event:publish", "my-service.read", "admin"])
def test_a_scope_that_an_agent_can_hold(scope: str) -> None:
    """What an entry asks for and what an agent may be given are the same words."""
    assert parse_entry(SEED | {"scopes": [scope]}, "tools.json").scopes == (scope,)
    assert unknown_scopes([scope]) == []


@pytest.mark.parametrize(
    "scope", ["tool:", "task:raed", "everything", "tool:*", "my-service.*", "two words", "*"]
)
def test_a_scope_that_no_agent_holds_is_refused(scope: str) -> None:
    """Such a tool would be an admin's alone, and nobody would be told."""
    with pytest.raises(ValidationFailed, match="no scope that an agent can hold"):
        parse_entry(SEED | {"scopes": [scope]}, "tools.json")


def test_options_of_another_transport_are_refused() -> None:
    """They would never be read."""
    with pytest.raises(ValidationFailed, match="command is for tools of transport command"):
        parse_entry(SEED | {"command": {}}, "tools.json")


def test_faults_have_a_place_in_the_file(tmp_path: Path) -> None:
    """Line and column of each, in JSON and in YAML, inside lists too."""
    file = tmp_path / "tools.yaml"
    entry = (
        "  - address: a.b\n    transport: http\n    endpiont: http://h/\n    input_schema: {type: strnig}\n"
    )
    file.write_text(f"tools:\n{entry}    output_schema: {{}}\n", encoding="utf-8")
    (found,) = read_entries(file)
    assert isinstance(found, ValidationFailed)
    assert [(one.pointer, one.line, one.column) for one in found.errors] == [("/tools/0/endpiont", 4, 5)]


def test_a_wrong_address_names_the_nearest() -> None:
    """A slip of the pen gets a hint; what is like nothing gets the way to the list."""
    catalog = load_catalog(Settings())
    with pytest.raises(NotFound, match=r"did you mean 'http\.get'"):
        catalog.get("http.gte")
    with pytest.raises(NotFound, match="duework tool list"):
        catalog.get("qqqqqqqqqqqq")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Not an empty catalog: a mount that failed must not look like success."""
    with pytest.raises(ValidationFailed, match="DUEWORK_CATALOG"):
        load_catalog(Settings(catalog=tmp_path / "missing"))
