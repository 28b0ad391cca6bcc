"""The wheel: everything that an installed duework needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.source import PRODUCT, ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built without an index."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("duework-*.whl")
    with zipfile.ZipFile(built) as opened:
        yield opened


def test_the_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    """SQL, migrations, catalogs and schemas travel with the code; tests and caches stay at home."""
    files = (path for top in PRODUCT for path in (ROOT / top).rglob("*") if path.is_file())
    ours = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == ours
    assert {Path(name).suffix for name in held} >= {".py", ".sql", ".mako"}


def test_the_wheel_installs_the_command_and_the_license(wheel: zipfile.ZipFile) -> None:
    """The command is `duework`; the metadata names the license, the extra and the Python versions."""
    names = wheel.namelist()
    (entry_points,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "duework = ops.cli.main:main" in wheel.read(entry_points).decode()
    (metadata,) = (name for name in names if name.endswith("METADATA"))
    text = wheel.read(metadata).decode()
    for line in ("License-Expression: Apache-2.0", "Provides-Extra: embedded", "Requires-Python: >=3.11"):
        assert line in text
    (license_,) = (name for name in names if name.endswith("LICENSE"))
    assert wheel.read(license_) == (ROOT / "LICENSE").read_bytes()
    assert b"Apache License" in wheel.read(license_)


@pytest.mark.parametrize("lock", ["requirements.lock", "ops/docker/requirements.lock"])
def test_no_grammar_is_compiled_when_a_process_starts(lock: str) -> None:
    """Where rfc3987-syntax is installed, jsonschema has it read a grammar for seconds, in each process."""
    assert "rfc3987" not in (ROOT / lock).read_text(encoding="utf-8")
