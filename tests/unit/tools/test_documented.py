"""The tools that the how-to pages show: they load, their programs are there, and they answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputInvalid
from engine.settings import Settings
from engine.tools.registry import Catalog, load_catalog
from engine.tools.toolbox import open_toolbox
from tests.source import ROOT
from tests.unit.tools.children import CALL


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a how-to page."""
    text = (ROOT / "docs/how-to" / page).read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A catalog and modules as the pages say to write them."""
    modules = blocks("python-tool.md", "python")
    (tmp_path / "text_tools.py").write_text(modules[0])
    (tmp_path / "billing_tools.py").write_text(modules[1])
    (tmp_path / "text.yaml").write_text(blocks("python-tool.md", "yaml")[0])
    (tmp_path / "sort.yaml").write_text(blocks("wrap-a-command.md", "yaml")[0].replace("/tmp", str(tmp_path)))
    return Settings(catalog=tmp_path, python_path=str(tmp_path), command_tools=True)


async def answer(settings: Settings, address: str, arguments: dict[str, Any]) -> Any:
    """What the tool answers, its input and output checked as the executor does."""
    catalog: Catalog = load_catalog(settings)
    entry = catalog.get(address)
    given = entry.input.with_defaults(arguments)
    assert entry.input.check(given) == []
    async with open_toolbox(settings, None) as box:
        assert await box.faults(catalog.listed()) == []
        output = await box.call(entry, given, CALL)
    assert entry.output.check(output) == []
    return output


async def test_the_function(settings: Settings) -> None:
    """It is imported from the folder, called, and its answer is what its schema promises."""
    assert await answer(settings, "text.slug", {"text": "Dimineața, la 8!"}) == {"slug": "dimineata-la-8"}
    assert await answer(settings, "text.slug", {"text": "a b", "longest": 2}) == {"slug": "a"}


async def test_the_command(settings: Settings, tmp_path: Path) -> None:
    """It sorts the file that it is told, by the field that it is told; what is not there is the input's fault."""
    (tmp_path / "list.txt").write_text("b 1\na 2\nb 1\n")
    assert await answer(settings, "text.sort", {"file": "list.txt"}) == "a 2\nb 1"
    assert await answer(settings, "text.sort", {"file": "list.txt", "field": 2}) == "b 1\na 2"
    with pytest.raises(InputInvalid, match="exit code 2"):
        await answer(settings, "text.sort", {"file": "none.txt"})


def test_the_second_function_compiles() -> None:
    """The one that asks for its context is Python, and names what there is."""
    names: dict[str, Any] = {}
    exec(compile(blocks("python-tool.md", "python")[1], "python-tool.md", "exec"), names)
    assert (
        names["charge"].__annotations__["context"] is names["Context"]
        or "context" in names["charge"].__annotations__
    )
