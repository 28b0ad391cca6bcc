"""The process tree of `duework up`: what a person is told of a child that does not stay."""

from __future__ import annotations

import os
from pathlib import Path

from ops import dev
from tests.polling import poll_until


async def test_a_child_that_refuses_to_start_says_why(tmp_path: Path) -> None:
    """Its last words stand below the line that it ended, so that nobody has to look for them in its log."""
    said: list[str] = []
    child = dev.Child("worker-1", ("version", "--no-such-option"))
    tree = dev.ProcessTree([child], dict(os.environ), tmp_path / "logs", said.append)

    def tended() -> bool:
        tree.tend()
        return bool(said)

    await poll_until(tended)
    tree.stop(patience=60)
    assert said[0].startswith("worker-1 ended with exit code 2 and starts again in 0.5 s; see ")
    assert said[1].startswith("  error: ")
    assert "--no-such-option" in said[1]
