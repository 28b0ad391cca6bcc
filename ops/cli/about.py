"""`duework version`."""

from __future__ import annotations

from importlib.metadata import version as installed


def version() -> None:
    """Print the version of duework."""
    print(installed("duework"))
