"""Definitions that nobody meant: accepted and run to an end, or refused with a place, and nothing else ever."""

from __future__ import annotations

import asyncio
import selectors
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import errors
from engine.errors import DueworkError, ValidationFailed
from engine.executor import Attempt
from engine.pipeline import Definition, convert, dump_yaml, examine, load_documents, parse_definition
from engine.pipeline.documents import Document
from engine.plan import Outcome, Ports, Run, StepRecord, prepare
from engine.settings import Settings
from engine.tools.registry import Catalog, load_catalog
from engine.tools.toolbox import CORE, Builtins
from tests.examples import examples
from tests.unit.pipeline.fuzzing import RUNNING, drawn, mutated

NOW = datetime(2026, 11, 21, 8, 30, tzinfo=UTC)
RUN = Run(UUID(int=1), 1, 7, "run_now", NOW, {})
ENDS = {"succeeded", "failed", "blocked", "timed_out", "parked", "skipped"}
CODES = {
    each.code for each in vars(errors).values() if isinstance(each, type) and issubclass(each, DueworkError)
}
BATCHES, EACH = 10, 100  # a thousand definitions
LEASES = 3


class _Hurried(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when there is nothing else to do: no wait takes time."""

    ahead = 0.0

    def time(self) -> float:
        """The loop's clock."""
        return super().time() + self.ahead

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined] # the loop's own queues
            self.ahead += max(0.0, self._scheduled[0].when() - self.time())  # type: ignore[attr-defined] # as above
        super()._run_once()  # type: ignore[misc] # as above


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """The tools that come with the package."""
    return load_catalog(Settings())


def judged(document: Any, catalog: Catalog) -> Definition | None:
    """The definition of a document that is accepted. What is refused names its place."""
    examined = examine(Document(document), catalog.entries)
    for problem in (*examined.errors, *examined.warnings):
        assert problem.pointer == "" or problem.pointer.startswith("/")
        assert problem.detail
        assert problem.code
    assert examined.errors or examined.definition is not None
    return None if examined.errors else examined.definition


async def carried_out(definition: Definition, catalog: Catalog) -> Outcome:
    """How a run ends; it is leased again a few times when it parks."""
    kept: list[StepRecord] = []

    async def keep(record: StepRecord) -> None:
        kept.append(record)

    tools = Builtins(CORE)
    ports = Ports(tools.call, keep, lambda: NOW, {"TG": "a-secret-0f9a"}.get, 100_000)
    plan = prepare(definition, catalog)
    run = replace(RUN, params=definition.params)
    for _ in range(LEASES):
        outcome = await Attempt(plan, run, ports).execute()
        if outcome.status != "parked":
            break
        run = replace(run, state=outcome.state or {}, finished=tuple(kept))
    return outcome


def ended(definition: Definition, catalog: Catalog) -> Outcome:
    """The outcome of one run, whose waits take no time."""
    with asyncio.Runner(loop_factory=lambda: _Hurried(selectors.DefaultSelector())) as runner:
        return runner.run(carried_out(definition, catalog))


def check(document: Any, catalog: Catalog) -> str:
    """What becomes of a document: "refused", or the status of its run."""
    definition = judged(document, catalog)
    if definition is None:
        return "refused"
    assert parse_definition(definition.document) == definition
    outcome = ended(definition, catalog)
    assert outcome.status in ENDS
    if outcome.error is not None:
        assert outcome.error["code"] in CODES
    for record in outcome.steps:  # "canceled" is what a step ends with that waited when the run ended
        assert record.error is None or record.error["code"] in {*CODES, "canceled"}
    return outcome.status


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_thousand_definitions_run_or_are_refused(batch: int, catalog: Catalog) -> None:
    """Accepted ones end with a status and a code of the error tree; refused ones name the place; nothing hangs."""
    seen: dict[str, int] = {}
    for number in range(batch * EACH, (batch + 1) * EACH):
        document = drawn(Random(number))
        try:
            became = check(document, catalog)
        except Exception as error:
            error.add_note(f"seed {number}: {document!r:.2000}")
            raise
        seen[became] = seen.get(became, 0) + 1
    assert seen["refused"] >= EACH // 10  # else the mutations are too tame
    assert EACH - seen["refused"] >= EACH // 10  # and else too wild to run anything
    assert seen.get("succeeded")


def test_the_definition_that_is_mutated_succeeds(catalog: Catalog) -> None:
    """Before anything is broken, lists, needs, failures that are excused and output work."""
    definition = judged(RUNNING, catalog)
    assert definition is not None
    outcome = ended(definition, catalog)
    assert (outcome.status, outcome.error) == ("succeeded", None)
    assert [each["it"] for each in outcome.output["all"]["each"]] == [1, "two", None]


@examples(20)
@given(seed=st.integers(BATCHES * EACH, 2**63))
def test_a_definition_that_nobody_drew_before(catalog: Catalog, seed: int) -> None:
    """The same from seeds that no run has tried; the thorough profile tries many."""
    check(drawn(Random(seed)), catalog)


@pytest.mark.parametrize(
    "document",
    [
        [],
        None,
        {"payload": None},
        {"schedule_kind": [], "payload": {"pipeline": [[]]}},
        {"apiVersion": "duework/v1"},
    ],
)
def test_what_is_hardly_a_document_is_refused(document: Any, catalog: Catalog) -> None:
    """The least that can come."""
    assert judged(document, catalog) is None


@pytest.mark.parametrize("seed", range(40))
def test_a_converted_definition_says_the_same(seed: int, catalog: Catalog) -> None:
    """Whatever is accepted reads back from its YAML as an equal definition."""
    random = Random(f"convert {seed}")
    document = drawn(random)
    if judged(document, catalog) is not None:
        (again,) = load_documents(convert(document))
        assert parse_definition(again) == parse_definition(Document(document))


DAMAGES = ["", " ", "\n", ":", "-", "{", "'", '"', "*", "&a ", "!t ", "#", "\t"]


@pytest.mark.parametrize("seed", range(60))
def test_damaged_text_is_accepted_or_refused_with_a_line(seed: int) -> None:
    """Every problem of a definition that came as text has line and column within the text."""
    random = Random(f"damage {seed}")
    document = mutated(random)
    try:
        text = dump_yaml(document) if isinstance(document, dict | list) else ""
    except (UnicodeEncodeError, ValueError):
        return  # not a text in the first place
    at = random.randint(0, len(text))
    text = text[:at] + random.choice(DAMAGES) + text[at:]
    try:
        for each in load_documents(text):
            parse_definition(each)
    except ValidationFailed as error:
        lines = text.split("\n")
        for problem in error.errors:
            assert problem.line is not None
            assert 1 <= problem.line <= len(lines) + 1
            assert problem.column is not None
