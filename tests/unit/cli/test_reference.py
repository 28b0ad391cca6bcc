"""The reference pages say what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import docs
from ops.cli import tree


def test_no_page_is_stale() -> None:
    """docs/reference is what `python -m ops.docs` writes today."""
    assert docs.stale() == []


def test_a_changed_page_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check can fail: a page that says something else, or is missing, is named."""
    monkeypatch.setattr(docs, "pages", lambda: {"cli.md": "one\n", "api.md": "two\n", "views.md": "three\n"})
    docs.write(tmp_path)
    assert docs.stale(tmp_path) == []
    (tmp_path / "cli.md").write_text("something else", encoding="utf-8")
    (tmp_path / "views.md").unlink()
    assert docs.stale(tmp_path) == ["cli.md", "views.md"]


def test_every_command_is_documented() -> None:
    """Each command has a section, and there is no section without a command."""
    text = docs.command_line()
    sections = [
        line.removeprefix("## duework ") for line in text.splitlines() if line.startswith("## duework ")
    ]
    assert sections == [" ".join(words) for words, _ in tree.walk()]


def test_every_view_and_column_is_documented() -> None:
    """The page of views has a meaning for each column that the views select."""
    text = docs.views()
    for view in (
        "runs",
        "attempts",
        "steps",
        "occurrences",
        "upcoming",
        "queue",
        "workers",
        "verdicts",
        "audit",
    ):
        assert f"## duework.{view}\n" in text
    assert "| `scheduled_for` | The instant that the schedule named; null for run-now and events |" in text
