"""Time zones from the pinned `tzdata` package, never from the host.

Governments change their clocks and hosts update their zone files at different times; two schedulers that
disagree about an instant would each materialise their own occurrence. So the zone data is a locked dependency
like any other, and `tzdata_version` is stored beside what was computed with it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from tzdata import IANA_VERSION  # type: ignore[import-untyped] # the package ships no types

from engine.schedule.refusals import did_you_mean, refusal, shown

EXAMPLE = " Write it like Europe/Chisinau, or UTC."


def tzdata_version() -> str:
    """The IANA release in use, such as "2026a"."""
    return str(IANA_VERSION)


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """Every zone name of the release, links included."""
    return frozenset(resources.files("tzdata").joinpath("zones").read_text("ascii").split())


def load_zone(name: str) -> ZoneInfo:
    """The zone called `name` ("Europe/Chisinau", "UTC"). Raises ValidationFailed for an unknown name."""
    if not isinstance(name, str) or name not in zone_names():
        hint = did_you_mean(name, zone_names()) if isinstance(name, str) and len(name) < 64 else ""
        raise refusal("timezone", f"{shown(name)} is not an IANA time zone.{hint or EXAMPLE}", "/timezone")
    return _read_zone(name)


@lru_cache(maxsize=1024)
def _read_zone(name: str) -> ZoneInfo:
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
