"""Addresses of other services, as settings name them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_PASSWORD = re.compile(r"(\b(?:ssl)?password\s*=\s*)(?:'[^']*'|[^&\s]*)")


def masked_url(url: str) -> str:
    """The URL of a database without its password, wherever libpq lets one stand, for logs and messages."""
    password = urlsplit(url).password if "://" in url else None
    shown = url.replace(f":{password}@", ":***@") if password else url
    return _PASSWORD.sub(r"\1***", shown)


def service_url(text: str) -> str:
    """`text`, if it is where a service may be: http or https, a host, a path at most.

    Raises ValueError, which does not quote the text: what is wrong with it may be a password within.
    """
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("it is not like https://gate.example:8080")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials do not belong into it; the token is a secret of its own")
    if parts.query or parts.fragment or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("it ends with the path, and has neither blanks nor a query")
    return text
