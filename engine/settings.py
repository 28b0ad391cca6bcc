"""Settings: the only reader of the environment.

Every setting is one field below; its metadata is the text of `docs/reference/settings.md`. The variable is
`DUEWORK_` + the field's name in capitals; the seeds' names are honoured as aliases where they mean the same.
An unknown `DUEWORK_` variable is an error, because a misspelt setting that is silently ignored is worse.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_type_hints

from engine.addresses import service_url
from engine.durations import parse_duration
from engine.errors import Problem, ValidationFailed
from engine.pairs import databases, prices

PREFIX = "DUEWORK_"
EMBEDDED = "embedded"
LARGEST_SECRET = 65_536
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
COMMAND_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ")
CALL_VARIABLES = frozenset(
    f"{PREFIX}{name}"
    for name in ("RUN_ID", "STEP", "ITEM", "ATTEMPT", "IDEMPOTENCY_KEY", "FENCE", "TRACEPARENT")
)
"""What a command tool is told; a command may be duework itself, for which these are no settings."""


def setting(
    default: Any,
    text: str,
    *aliases: str,
    choices: tuple[str, ...] = (),
    secret: bool = False,
    positive: bool = False,
    check: Callable[[str], object] = str,
) -> Any:
    """A field of `Settings`: its default, its sentence in the reference, and older names it answers to.

    `check` raises ValueError for a text that is no such setting.
    """
    told = {"text": text, "aliases": aliases, "choices": choices, "secret": secret, "positive": positive}
    return field(default=default, metadata=told | {"check": check})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings of one process; immutable. Build with `load()`, or directly in tests."""

    database_url: str = setting(
        EMBEDDED,
        "PostgreSQL 15 to 18, as a `postgresql://` URL; `embedded` starts the server from the `embedded` extra.",
        "DATABASE_URL",
        "ORCHESTRATOR_DATABASE_URL",
        secret=True,
    )
    environment: str = setting(
        "production",
        "`development` lets the seeded token `system-agent` in, and only with the embedded database on loopback.",
        "ORCHESTRATOR_ENVIRONMENT",
        choices=("development", "staging", "production"),
    )
    state_dir: Path | None = setting(
        None,
        "Where the embedded server keeps its data; default `$XDG_STATE_HOME/duework`, for root `/var/lib/duework`.",
    )
    pool_size: int = setting(
        10,
        "Database connections of one API or scheduler process, at most.",
        "ORCHESTRATOR_DATABASE_POOL_SIZE",
        positive=True,
    )
    host: str = setting("127.0.0.1", "Address that the API binds.", "UVICORN_HOST")
    port: int = setting(8080, "Port that the API binds.", "UVICORN_PORT")
    url: str = setting("http://127.0.0.1:8080", "Where the command line finds the API.")
    token: str = setting("", "The command line's agent token.", secret=True)
    log_level: str = setting(
        "INFO",
        "Least level that is logged.",
        "LOG_LEVEL",
        "ORCHESTRATOR_LOG_LEVEL",
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )
    log_format: str = setting(
        "auto",
        "`json`, `text`, or `auto`: text on a terminal, JSON elsewhere.",
        choices=("auto", "json", "text"),
    )
    lease_seconds: timedelta = setting(
        timedelta(seconds=30),
        "How long a lease lasts; it is renewed every third of that.",
        "WORKER_LEASE_SECONDS",
        positive=True,
    )
    poll_interval: timedelta = setting(
        timedelta(seconds=1),
        "A worker looks for work at least this often, whatever LISTEN says.",
        "WORKER_POLL_INTERVAL",
        positive=True,
    )
    poll_only: bool = setting(
        False, "Do without LISTEN, for PgBouncer in transaction mode; latency is then the poll interval."
    )
    concurrency: int = setting(10, "Runs that one worker process executes at once.", positive=True)
    processes: int = setting(1, "Worker processes of `duework worker`.", positive=True)
    labels: str = setting("", "Labels of this worker, `name=value` separated by commas.")
    drain_timeout: timedelta = setting(
        timedelta(seconds=30), "How long a draining worker lets its runs finish before it gives them back."
    )
    heartbeat_interval: timedelta = setting(
        timedelta(seconds=5), "How often a worker says that it lives.", positive=True
    )
    tick_interval: timedelta = setting(
        timedelta(seconds=1), "How often the scheduler looks for due tasks.", positive=True
    )
    horizon: timedelta = setting(
        timedelta(seconds=30),
        "How far ahead occurrences are materialised, so that workers start on the instant.",
    )
    misfire_grace: timedelta = setting(
        timedelta(seconds=30),
        "How late an instant may be and still count as on time; later ones are the catch-up policy's.",
        "SCHEDULER_MISFIRE_GRACE_TIME",
    )
    tick_batch: int = setting(500, "Tasks that one tick transaction takes at most.", positive=True)
    reap_interval: timedelta = setting(
        timedelta(seconds=2), "How often expired leases are looked for.", positive=True
    )
    rotation_interval: timedelta = setting(
        timedelta(seconds=30),
        "How often the slots of the queue are rotated and drained ones truncated.",
        positive=True,
    )
    retention: timedelta = setting(
        timedelta(days=90), "How long history is kept; whole months are dropped.", positive=True
    )
    audit_retention: timedelta = setting(
        timedelta(0), "How long lines of the audit log are kept once they are sealed; 0 keeps them for ever."
    )
    catalog: Path | None = setting(
        None,
        "Folder of tool entries (`*.yaml`, or the seeds' `tools.json`) beside those that duework brings.",
    )
    connections: str = setting(
        "",
        "Databases that `sql.query` and `sql.execute` may use, `name=postgresql://…` separated by spaces; "
        "in development `duework` is the own one.",
        secret=True,
        check=databases,
    )
    python_path: str = setting(
        "",
        "Folders from which python tools are imported, after what is installed beside duework, separated by colons.",
    )
    python_calls: int = setting(
        1000, "Calls after which the child process of python tools is replaced.", positive=True
    )
    python_memory_bytes: int = setting(
        536_870_912,
        "Memory above which the child process of python tools is replaced, once its call has ended.",
        positive=True,
    )
    python_idle: timedelta = setting(
        timedelta(seconds=60),
        "How long a child process of python tools waits for its next call.",
        positive=True,
    )
    command_tools: bool = setting(
        False, "Whether workers may run the catalog's tools of transport `command`."
    )
    http_allow: str = setting(
        "",
        "Hosts that http tools may reach although their addresses are private or loopback, separated by commas.",
    )
    smtp_host: str = setting("", "Mail server of `email.send`; without it the tool is off.")
    smtp_port: int = setting(0, "Its port; 0 is the usual one of the mode: 587, 465 or 25.")
    smtp_tls: str = setting(
        "starttls",
        "How the connection to it is encrypted; a server that does not offer STARTTLS is refused.",
        choices=("starttls", "tls", "none"),
    )
    smtp_user: str = setting("", "User to log in to it as; the password is the secret `SMTP_PASSWORD`.")
    smtp_from: str = setting("duework@localhost", "Whom messages are from, unless a step says so.")
    file_root: Path | None = setting(
        None,
        "Folder that `file.read` and `file.write` work in, and never outside of; without it they are off.",
    )
    llm_url: str = setting(
        "",
        "Where `llm.chat` finds an OpenAI-compatible API, up to `/v1`; its key is the secret `LLM_API_KEY`.",
    )
    llm_model: str = setting("", "The model that `llm.chat` asks for, unless a step names one.")
    llm_prices: str = setting(
        "",
        "What a million tokens cost in USD, in and out: `model=2.50/10 other=0.15/0.60`, for budgets of cost.",
        check=prices,
    )
    secrets_dir: Path | None = setting(
        None, "Folder in which each file is one secret, as Docker and Kubernetes mount them."
    )
    reflex_key: str = setting(
        "",
        "Any text, the same for all processes: with it the digests of what the gate blocks cannot be guessed from a "
        "dump of the database alone.",
        secret=True,
    )
    submission_task: str = setting("submission", "The task that runs what is sent to POST /submit, by name.")
    reflex_pii: str = setting(
        "redact",
        "Operator's floor for PII: a looser policy needs the scope `reflex:loosen`.",
        choices=("allow", "flag", "redact", "block"),
    )
    reflex_injection: str = setting(
        "block",
        "Operator's floor for injection: a looser policy needs the scope `reflex:loosen`.",
        choices=("allow", "flag", "block"),
    )
    reflex_kinds: Path | None = setting(None, "TOML file of patterns for further kinds of personal data.")
    reflex_url: str = setting(
        "",
        "Another duework whose gate is asked beside the own one, as `https://gate:8080`; its token is the secret "
        "`REFLEX_TOKEN`.",
        check=service_url,
    )
    reflex_ca: Path | None = setting(None, "PEM file of more authorities for its certificate.")
    reflex_timeout: timedelta = setting(timedelta(seconds=5), "How long it has for one text.", positive=True)
    reflex_open_for: timedelta = setting(
        timedelta(seconds=60), "How long it is left alone after five failures in a row.", positive=True
    )
    max_body_bytes: int = setting(1_048_576, "Largest request body that the API reads.", positive=True)
    max_output_bytes: int = setting(1_048_576, "Largest output of one step.", positive=True)

    @property
    def loopback(self) -> bool:
        """Whether the API listens to this host alone."""
        return self.host in LOOPBACK


def variable(name: str) -> str:
    """The environment variable of a field: `lease_seconds` → `DUEWORK_LEASE_SECONDS`."""
    return PREFIX + name.upper()


def load(
    environ: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env"), **given: Any
) -> Settings:
    """Read the settings from `.env`, the environment and `given` (command-line flags), the later winning.

    Raises ValidationFailed that lists every wrong or unknown variable at once.
    """
    source = {**_dotenv(dotenv), **(os.environ if environ is None else environ)}
    problems = list(_unknown(source))
    hints = get_type_hints(Settings)
    values: dict[str, Any] = {}
    for spec in fields(Settings):
        name, text = _lookup(spec, source)
        if text is None:
            continue
        try:
            values[spec.name] = value = _convert(text, hints[spec.name], spec)
            spec.metadata["check"](text)
            if spec.metadata["positive"] and not value:
                raise ValueError(f"{text} is not more than zero")
        except (ValueError, ValidationFailed) as error:
            problems.append(Problem("invalid_setting", f"{name}: {error}"))
    if problems:
        raise ValidationFailed("; ".join(problem.detail for problem in problems), errors=problems)
    return Settings(**values | {k: v for k, v in given.items() if v is not None})


def environment_value(name: str) -> Any:
    """One setting by itself, from the environment or `.env`: for what must be known wherever it is asked for."""
    spec = next(spec for spec in fields(Settings) if spec.name == name)
    text = _lookup(spec, {**_dotenv(Path(".env")), **os.environ})[1]
    return None if text is None else _convert(text, get_type_hints(Settings)[name], spec)


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The whole environment of a duework process that this one starts: ours, with every setting laid over it."""
    values = {variable(spec.name): getattr(settings, spec.name) for spec in fields(Settings)}
    texts = {name: _text(value) for name, value in values.items() if value is not None}
    return {**os.environ, **texts, **extra}


def tool_environment() -> dict[str, str]:
    """The environment of python tools: the worker's, without duework's own variables and its database's other names.

    Not a wall: who runs as the worker's user can read the worker's environment. It keeps credentials out of what
    tools log, pass on and dump.
    """
    secret = [spec for spec in fields(Settings) if spec.metadata["secret"]]
    aliases = {alias for spec in secret for alias in spec.metadata["aliases"]}
    return {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) and k not in aliases}


def command_environment() -> dict[str, str]:
    """What every command is given: where programs are, and which language and zone they speak."""
    return {name: os.environ[name] for name in COMMAND_VARIABLES if name in os.environ}


def secret(name: str, settings: Settings, *, dotenv: Path | None = Path(".env")) -> str | None:
    """One secret for a tool call, as it is now: the file `name` in `secrets_dir`, else the variable
    `DUEWORK_SECRET_<name>`, else the same in `.env`; None when there is none.

    The line break at a file's end is no part of it. Raises ValidationFailed for a file that is no such text.
    """
    if settings.secrets_dir is not None:
        path = settings.secrets_dir / Path(name).name
        if path.is_file():
            return _secret_of(path, name)
    named = f"{PREFIX}SECRET_{name}"
    return os.environ[named] if named in os.environ else _dotenv(dotenv).get(named)


def _secret_of(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_SECRET + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise ValidationFailed(f"secret {name}: its file in DUEWORK_SECRETS_DIR {reason}") from error
    if len(data) > LARGEST_SECRET:
        raise ValidationFailed(f"secret {name}: its file is larger than {LARGEST_SECRET} bytes")
    return text.removesuffix("\n").removesuffix("\r")


def connections(settings: Settings) -> dict[str, str]:
    """Connection name → database URL, for the tools that speak SQL: those that the operator named.

    In development `duework` is the own database. Elsewhere it is not, unless it is named: its role may write
    everything there, tokens and the audit log included, so a pipeline that has it is as good as an admin.
    """
    own = {"duework": settings.database_url} if settings.environment == "development" else {}
    return {**own, **databases(settings.connections)}


def _text(value: Any) -> str:
    return str(value.total_seconds() if isinstance(value, timedelta) else value)


def _lookup(spec: Field[Any], source: Mapping[str, str]) -> tuple[str, str | None]:
    for name in (variable(spec.name), *spec.metadata["aliases"]):
        if source.get(name):
            return name, source[name]
    return variable(spec.name), None


def _unknown(source: Iterable[str]) -> Iterable[Problem]:
    known = [variable(spec.name) for spec in fields(Settings)]
    for name in source:
        if (
            not name.startswith(PREFIX)
            or name in known
            or name in CALL_VARIABLES
            or name.startswith((f"{PREFIX}SECRET_", f"{PREFIX}TEST_"))
        ):
            continue
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else "; see docs/reference/settings.md"
        yield Problem("unknown_setting", f"{name} is not a setting{hint}")


def _convert(text: str, kind: Any, spec: Field[Any]) -> Any:
    kind = next((part for part in get_args(kind) if part is not type(None)), kind)
    if kind is timedelta:
        return parse_duration(text)
    if kind is bool:
        if text.lower() not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
            raise ValueError(f"{text!r} is neither true nor false")
        return text.lower() in ("1", "true", "yes", "on")
    if kind is int and int(text) < 0:
        raise ValueError(f"{text} is negative")
    choices = {choice.lower(): choice for choice in spec.metadata["choices"]}
    if choices:
        if text.lower() not in choices:
            raise ValueError(f"{text!r} is not one of {', '.join(choices.values())}")
        return choices[text.lower()]
    return kind(text)


def _dotenv(path: Path | None) -> dict[str, str]:
    """`KEY=value` lines; `#` at the start or after a blank opens a comment, quotes around a value are taken off."""
    if path is None or not path.is_file():
        return {}
    pairs = (line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if "=" in line)
    named = {key.strip().removeprefix("export ").strip(): _unquoted(value.strip()) for key, value in pairs}
    return {key: value for key, value in named.items() if not key.startswith("#")}


def _unquoted(value: str) -> str:
    end = value.find(value[0], 1) if value[:1] in ("'", '"') else -1
    return value[1:end] if end > 0 else re.split(r"(?:^|\s)#", value, maxsplit=1)[0].rstrip()
