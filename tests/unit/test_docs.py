"""The prose: what README and docs name exists, and the pipelines they show are definitions that would be stored.

Links are held by test_documents.py, the reference pages by the test of ops.docs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.pipeline import is_error, lint, load_documents, parse_definition
from engine.settings import CALL_VARIABLES, Settings, load
from engine.tools.registry import load_catalog, parse_entry
from ops.cli.tree import TREE, Places, command
from tests.source import PRODUCT, ROOT, report

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
PATH = re.compile(rf"`((?:{'|'.join((*PRODUCT, 'tests', 'docs'))})/[\w./*-]*)`")
SETTING = re.compile(r"\bDUEWORK_[A-Z][A-Z_]*[A-Z]\b")
INLINE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:^ *|[|(] *|-n1 |=\S+ )duework +([a-z][^|#\n]*)", re.MULTILINE)


def pages() -> Iterator[tuple[str, str]]:
    """Name and text of README and of every page that people wrote."""
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = path.read_text(encoding="utf-8")
        if "<!-- Written by" not in text:
            yield str(path.relative_to(ROOT)), text


def fenced(language: str) -> Iterator[tuple[str, str]]:
    """Page and content of every fenced block of a language."""
    for name, text in pages():
        yield from ((name, match[2]) for match in FENCE.finditer(text) if match[1] == language)


def test_paths_exist() -> None:
    """A path of the checkout that stands in code is a file or folder of it, tests above all."""
    found = [
        f"{name} names {match[1]}"
        for name, text in pages()
        for match in PATH.finditer(text)
        if not any(ROOT.glob(match[1].rstrip("/")))
    ]
    report(found, "name what is there")


def test_pipelines_would_be_stored() -> None:
    """Every fenced YAML is a definition that parses, whose tools exist and that this version executes, or tools."""
    catalog = load_catalog(load({}, dotenv=None)).entries
    found = []
    for name, text in fenced("yaml"):
        documents = load_documents(text, name)
        assert documents, f"{name} holds a yaml block without a document"
        for document in documents:
            if "tools" in document.value:  # entries of a catalog
                for each in document.value["tools"]:
                    parse_entry(each, name)
                continue
            definition = parse_definition(document)
            problems = [each for each in lint(definition, catalog, document) if is_error(each)]
            found += [f"{name}: {each.detail}" for each in problems]
    report(found, "mend the example")


def test_settings_exist() -> None:
    """A variable that the prose names is a setting, a secret, one that a command is given, or one of the tests' own."""
    known = {f"DUEWORK_{name.upper()}" for name in Settings.__slots__} | CALL_VARIABLES
    found = [
        f"{name} names {variable}"
        for name, text in pages()
        for variable in sorted(set(SETTING.findall(text)) - known)
        if not variable.startswith(("DUEWORK_SECRET_", "DUEWORK_TEST_"))
    ]
    report(found, "name a setting of engine/settings.py")


def test_commands_exist() -> None:
    """`duework …` in the prose is a command of the command line, with options that it has."""
    found = [
        f"{name} shows `duework {words}`: {fault}"
        for name, words in shown_commands()
        if (fault := _fault(words.split(), TREE))
    ]
    report(found, "name a command of ops/cli/tree.py and its own options")


def shown_commands() -> Iterator[tuple[str, str]]:
    """Page and arguments of every `duework …`, inline or in a block without a language."""
    for name, text in pages():
        prose = FENCE.sub("", text)
        for code in (
            *(match[1] for match in INLINE.finditer(prose)),
            *(c for n, c in fenced("") if n == name),
        ):
            yield from ((name, match[1].strip()) for match in COMMAND.finditer(code))


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every page below docs."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.name != "README.md" and f"({path.relative_to(ROOT / 'docs')})" not in index
    ]
    report(missing, "add it to docs/README.md")


def test_the_checks_can_fail() -> None:
    """The patterns find what they are meant to find."""
    text = "`tests/none.py` DUEWORK_NONE\n```\nduework task explode X\nduework up --loudly\n```\n```yaml\na\n```\n"
    assert [match[1] for match in PATH.finditer(text)] == ["tests/none.py"]
    assert SETTING.findall(text) == ["DUEWORK_NONE"]
    faults = [_fault(match[1].split(), TREE) for match in COMMAND.finditer(text)]
    assert faults == ["there is no command 'explode'", "there is no option '--loudly'"]
    assert [match[1] for match in FENCE.finditer(text)] == ["", "yaml"]


def _fault(words: list[str], places: Places) -> str:
    """What is wrong with a command line, or ""; a group alone is right, and `run NAME` is `run now NAME`."""
    if not words:
        return ""
    place = places.get(words[0])
    if place is None and places is TREE["run"]:
        return _fault(["now", *words], places)
    if place is None:
        return f"there is no command {words[0]!r}"
    if not isinstance(place, str):
        return _fault(words[1:], place)
    known = {option for parameter in command(words[0], place).params for option in parameter.opts}
    given = [word.partition("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)]
    return next((f"there is no option {word!r}" for word in given if word not in known), "")
