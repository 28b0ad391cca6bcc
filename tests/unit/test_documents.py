"""The documents: what they link to exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.source import ROOT, report, texts

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def links() -> Iterator[tuple[str, str]]:
    """Document and target of every relative link; what stands in code is no link."""
    for name, text in texts():
        if name.endswith(".md"):
            prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
            for match in LINK.finditer(prose):
                target = match[1] or match[2]
                if "://" not in target and not target.startswith("mailto:"):
                    yield name, target


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_leads_somewhere() -> None:
    """A relative link names a file of the project, and its fragment a heading of that file."""
    found = []
    for name, target in links():
        place, _, fragment = target.partition("#")
        path = (ROOT / name).parent / place if place else ROOT / name
        if not path.exists() or (fragment and fragment not in anchors(path)):
            found.append(f"{name} links to {target}")
    report(found, "mend the link")
