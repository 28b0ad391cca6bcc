"""A supervisor as a process of its own, for the tests that signal and kill it: `python -m tests.supervising`."""

from __future__ import annotations

import sys

from engine import reflex, telemetry
from engine import settings as settings_
from workers.supervisor import supervise

if __name__ == "__main__":
    given = settings_.load(dotenv=None)
    telemetry.configure(given, reflex.mask)
    sys.exit(supervise(given))
