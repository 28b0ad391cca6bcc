"""The pipelines of docs/how-to/mail-models-files.md, run as they stand there against real servers on loopback."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from engine.executor import Attempt
from engine.pipeline import load_documents, parse_definition
from engine.plan import Outcome, Ports, Run, StepRecord, prepare
from engine.settings import Settings
from engine.tools.registry import load_catalog
from engine.tools.toolbox import open_toolbox
from tests.llm import KEY, llm_server
from tests.mail import mail_sink
from tests.source import ROOT
from tests.unit.test_docs import FENCE

PAGE = ROOT / "docs" / "how-to" / "mail-models-files.md"
VAULT = {"LLM_API_KEY": KEY}


async def run(name: str, settings: Settings, **params: Any) -> tuple[Outcome, Attempt]:
    """The outcome of the page's pipeline of that name."""
    blocks = [match[2] for match in FENCE.finditer(PAGE.read_text(encoding="utf-8")) if match[1] == "yaml"]
    definitions = [
        parse_definition(document) for text in blocks for document in load_documents(text, PAGE.name)
    ]
    (definition,) = [one for one in definitions if one.name == name]
    given = Run(UUID(int=7), 1, 1, "run_now", datetime.now(UTC), {**definition.params, **params})

    async def forget(_record: StepRecord) -> None:
        """Nothing outlives this run."""

    async with open_toolbox(settings, None) as toolbox:
        ports = Ports(toolbox.call, forget, lambda: datetime.now(UTC), VAULT.get)
        attempt = Attempt(prepare(definition, load_catalog(settings)), given, ports)
        return await attempt.execute(), attempt


async def test_the_mail_is_sent() -> None:
    """Through the gate, which lets the address pass where it stands; the Message-ID is no leak either."""
    with mail_sink() as sink:
        settings = Settings(smtp_host="127.0.0.1", smtp_port=sink.port, smtp_tls="none")
        outcome, _ = await run("morning-mail", settings)
    assert outcome.status == "succeeded", outcome.error
    (taken,) = sink.taken
    assert (taken.recipients, taken.message["Subject"]) == (["ops@example.org"], "120 runs")
    assert [part.get_filename() for part in taken.message.iter_attachments()] == ["figures.json"]


async def test_the_model_is_asked() -> None:
    """Its JSON decides, is checked, and what it used is told."""
    with llm_server() as model:
        settings = Settings(llm_url=model.url, llm_model="echo", http_allow="127.0.0.1")
        outcome, attempt = await run("sort-a-message", settings, message='answer {"urgent": true}')
        assert outcome.status == "succeeded", outcome.error
        assert attempt.steps["ask"]["usage"]["tokens"] == 15
        assert attempt.steps["tell"] == {"text": 'Urgent: answer {"urgent": true}'}
        outcome, _ = await run("sort-a-message", settings, message='answer {"urgent": "very"}')
    assert (outcome.error or {}).get("code") == "output_invalid"
    assert len(model.asked) == 4, "the step was tried three times"


async def test_the_files_are_kept(tmp_path: Path) -> None:
    """And a second run replaces the report, and adds to the log."""
    for _ in range(2):
        outcome, _ = await run("keep-a-report", Settings(file_root=tmp_path))
        assert (outcome.status, outcome.output) == ("succeeded", {"runs": 120}), outcome.error
    assert (tmp_path / "log.txt").read_text() == "wrote 13 bytes\n" * 2
