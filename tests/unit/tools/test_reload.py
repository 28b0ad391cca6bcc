"""The catalog of a running process: a changed folder is taken over whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.errors import NotFound, ValidationFailed
from engine.metrics import Metrics
from engine.settings import Settings
from engine.tools.registry import Catalog
from engine.tools.reload import LiveCatalog
from tests.unit.tools.test_registry import SEED


def write(folder: Path, *addresses: str, **more: Any) -> None:
    """A catalog of these tools, in place of the one there was."""
    text = json.dumps([SEED | {"address": address} | more for address in addresses])
    (folder / "new").write_text(text, encoding="utf-8")
    (folder / "new").replace(folder / "tools.json")


def refused(metrics: Metrics) -> bool:
    return "duework_catalog_refused 1.0" in metrics.exposition().decode()


@pytest.fixture
def live(tmp_path: Path) -> LiveCatalog:
    """The catalog of a folder with one tool."""
    write(tmp_path, "a.one")
    return LiveCatalog(Settings(catalog=tmp_path), Metrics())


async def test_a_changed_folder_takes_the_place(live: LiveCatalog, tmp_path: Path) -> None:
    """Who asked to be told is told once; the old catalog is as it was for whoever still has it."""
    old, told = live.current, list[Catalog]()
    live.changed = told.append
    await live.look()
    assert not told
    write(tmp_path, "a.one", "a.two")
    with capture_logs() as logs:
        await live.look()
        await live.look()
    assert [line["event"] for line in logs] == ["catalog.reloaded"]
    assert told == [live.current]
    assert live.current.get("a.two").address == "a.two"
    with pytest.raises(NotFound):
        old.get("a.two")


@pytest.mark.parametrize("content", ["{", '[{"address": "x"}]', '{"tools": null}'])
async def test_a_folder_with_faults_changes_nothing(live: LiveCatalog, tmp_path: Path, content: str) -> None:
    """It is said once for each change, and until it is mended the metric says so."""
    old = live.current
    (tmp_path / "bad.json").write_text(content, encoding="utf-8")
    with capture_logs() as logs:
        await live.look()
        await live.look()
    assert [(line["event"], "bad.json" in line["error"]) for line in logs] == [
        ("catalog.reload_refused", True)
    ]
    assert live.current is old
    assert refused(live.metrics)
    (tmp_path / "bad.json").unlink()
    await live.look()
    assert not refused(live.metrics)


async def test_a_folder_that_goes_away_changes_nothing(live: LiveCatalog, tmp_path: Path) -> None:
    """As when a mount is lost: the tools stay."""
    (tmp_path / "tools.json").unlink()
    tmp_path.rmdir()
    await live.look()
    assert live.current.get("a.one")
    assert refused(live.metrics)


async def test_what_this_host_cannot_call_is_not_taken_over(live: LiveCatalog, tmp_path: Path) -> None:
    """As at the start, where a worker begins whole or not at all."""

    async def admit(catalog: Catalog) -> None:
        raise ValidationFailed(f"{len(catalog.listed())} tools and no such program")

    live.admit = admit
    write(tmp_path, "a.two")
    await live.look()
    assert live.current.get("a.one")
    assert refused(live.metrics)


async def test_a_folder_that_is_still_written_is_looked_at_again(live: LiveCatalog, tmp_path: Path) -> None:
    """What changes while it is loaded is not taken over half."""
    told = list[Catalog]()
    live.changed = told.append

    async def admit(_catalog: Catalog) -> None:
        write(tmp_path, "a.one", "a.two", "a.three")
        live.admit = passed

    async def passed(_catalog: Catalog) -> None:
        pass

    live.admit = admit
    write(tmp_path, "a.one", "a.two")
    await live.look()
    assert not told
    await live.look()
    assert told[0].get("a.three")


def test_a_bad_catalog_is_no_start(tmp_path: Path) -> None:
    """There is no older one to keep."""
    (tmp_path / "bad.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValidationFailed, match=r"bad\.json"):
        LiveCatalog(Settings(catalog=tmp_path), Metrics())
