"""What tables.py makes its columns with."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, DateTime, FetchedValue, MetaData

metadata = MetaData(schema="duework")
INSTANT = DateTime(timezone=True)


def key(name: str, kind: Any, **more: Any) -> Column[Any]:
    """A column of the primary key."""
    return Column(name, kind, primary_key=True, **more)


def must(name: str, kind: Any) -> Column[Any]:
    """A column that no row is without."""
    return Column(name, kind, nullable=False)


def filled(name: str, kind: Any, *, nullable: bool = False) -> Column[Any]:
    """A column that the database fills when an INSERT leaves it out."""
    return Column(name, kind, nullable=nullable, server_default=FetchedValue())


def may(name: str, kind: Any) -> Column[Any]:
    """A column that a row may be without."""
    return Column(name, kind, nullable=True)
