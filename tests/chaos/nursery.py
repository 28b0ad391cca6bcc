"""Worker processes for tests that kill many: forked from one that has everything imported and its catalog read.

Reads a line for each worker wanted, and answers with its pid. All else is as in any worker, and begins with the fork.
"""

from __future__ import annotations

import os
import signal
import sys
from unittest.mock import patch

from engine import reflex
from engine import settings as settings_
from engine.tools.registry import load_catalog
from workers import main


def breed() -> None:
    """Fork a worker for every line that comes in."""
    reflex.scan("")
    catalog = load_catalog(settings_.load(dotenv=None))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    with patch("engine.tools.reload.load_catalog", return_value=catalog):
        for _ in sys.stdin:
            pid = os.fork()
            if pid == 0:
                os.close(0)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                main.main()
                os._exit(0)
            print(pid, flush=True)


if __name__ == "__main__":
    breed()
