"""What the python tools of the test do with a canary in disguise: say it in every way that a function has."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any

from engine.errors import ToolRejected
from tests.integration.diode.canaries import VEIL


def answers(x: str) -> Any:
    """In a key, a text and a list."""
    text = x.replace(VEIL, "")
    return {"text": text, text: [f"see: {text}"]}


def raises(x: str) -> Any:
    """In the words of an error that is no tool error."""
    raise ValueError(x.replace(VEIL, ""))


def refuses(x: str) -> Any:
    """In a tool error's words and details."""
    text = x.replace(VEIL, "")
    raise ToolRejected(f"no: {text}", details={"why": text, text: [text]})


def prints(x: str) -> Any:
    """On both streams, in a warning and in a log line."""
    text = x.replace(VEIL, "")
    print(text)
    print(text, file=sys.stderr)
    warnings.warn(text, stacklevel=1)
    logging.getLogger("functions").error(text)
    return "said"


def crashes(x: str) -> Any:
    """As the last words of a process."""
    print(x.replace(VEIL, ""), file=sys.stderr, flush=True)
    os._exit(3)
