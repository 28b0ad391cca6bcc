"""Settings: read from the environment and `.env`, checked whole, and handed on to child processes."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import settings
from engine.addresses import masked_url
from engine.errors import ValidationFailed
from engine.settings import Settings


def load(environ: dict[str, str], **given_: object) -> Settings:
    return settings.load(environ, dotenv=None, **given_)


def test_an_empty_environment_gives_the_defaults() -> None:
    """Nothing has to be set."""
    assert load({}) == Settings()


def test_each_kind_of_value_is_read() -> None:
    """Durations, numbers, switches, choices and paths, as people write them."""
    given_ = load(
        {
            "DUEWORK_LEASE_SECONDS": "1m30s",
            "DUEWORK_CONCURRENCY": "7",
            "DUEWORK_POLL_ONLY": "Yes",
            "DUEWORK_LOG_LEVEL": "debug",
            "DUEWORK_STATE_DIR": "/somewhere",
        }
    )
    assert given_.lease_seconds == timedelta(seconds=90)
    assert (given_.concurrency, given_.poll_only, given_.log_level) == (7, True, "DEBUG")
    assert given_.state_dir == Path("/somewhere")


def test_every_fault_is_told_at_once() -> None:
    """Wrong values and unknown names, with the nearest setting, in one message."""
    with pytest.raises(ValidationFailed) as refused:
        load(
            {
                "DUEWORK_LEASE_SECONDS": "soon",
                "DUEWORK_CONCURRENCY": "-1",
                "DUEWORK_POLL_ONLY": "perhaps",
                "DUEWORK_LOG_LEVEL": "loud",
                "DUEWORK_CONCURENCY": "3",
            }
        )
    text = str(refused.value)
    assert len(refused.value.errors) == 5
    assert "did you mean DUEWORK_CONCURRENCY?" in text
    assert "one of DEBUG, INFO, WARNING, ERROR" in text


def test_secrets_and_test_variables_are_no_settings() -> None:
    """Their names are free."""
    assert load({"DUEWORK_SECRET_ANY_NAME": "x", "DUEWORK_TEST_ANYTHING": "y", "OTHER": "z"}) == Settings()


def test_the_seeds_names_are_honoured() -> None:
    """An environment made for the seed systems works; our own name wins."""
    given_ = load({"DATABASE_URL": "postgresql://a/b", "WORKER_LEASE_SECONDS": "60", "LOG_LEVEL": "debug"})
    assert (given_.database_url, given_.lease_seconds, given_.log_level) == (
        "postgresql://a/b",
        timedelta(minutes=1),
        "DEBUG",
    )
    both = load({"DATABASE_URL": "postgresql://a/b", "DUEWORK_DATABASE_URL": "postgresql://c/d"})
    assert both.database_url == "postgresql://c/d"


def test_flags_win_over_the_environment_and_that_over_dotenv(tmp_path: Path) -> None:
    """.env, then the environment, then what the command line was given; None is not given."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        '# a comment\nexport DUEWORK_PORT="1001"\nDUEWORK_HOST=::1\nDUEWORK_PROCESSES=2\n', encoding="utf-8"
    )
    given_ = settings.load({"DUEWORK_HOST": "localhost"}, dotenv=dotenv, processes=3, concurrency=None)
    assert (given_.port, given_.host, given_.processes, given_.concurrency) == (1001, "localhost", 3, 10)


@pytest.mark.parametrize("name", ["LEASE_SECONDS", "POLL_INTERVAL", "POOL_SIZE", "CONCURRENCY", "TICK_BATCH"])
def test_what_must_be_more_than_zero_is(name: str) -> None:
    """A lease of no length or a pause of none would stop or burn a process; a drain of none is a wish."""
    with pytest.raises(ValidationFailed, match=f"DUEWORK_{name}: 0 is not more than zero"):
        load({f"DUEWORK_{name}": "0"})
    assert load({"DUEWORK_DRAIN_TIMEOUT": "0"}).drain_timeout == timedelta(0)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("DUEWORK_LABELS=a=b", "a=b"),
        ("  export DUEWORK_LABELS = a=b  ", "a=b"),
        ("DUEWORK_LABELS=a=b # of this host", "a=b"),
        ("DUEWORK_LABELS=a=#b", "a=#b"),
        ("DUEWORK_LABELS='a=b # c' # d", "a=b # c"),
        ('DUEWORK_LABELS="it\'s=b"', "it's=b"),
        ("DUEWORK_LABELS=# none", ""),
        ("#DUEWORK_LABELS=a=b", ""),
        ("not a line", ""),
    ],
)
def test_lines_of_dotenv(tmp_path: Path, line: str, expected: str) -> None:
    """Comments, quotes and blanks as people write them."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"{line}\n", encoding="utf-8")
    assert settings.load({}, dotenv=dotenv).labels == expected


def test_a_misspelt_line_of_dotenv_is_told(tmp_path: Path) -> None:
    """As one of the environment is; a file that is not there is none."""
    (tmp_path / ".env").write_text("DUEWORK_HORIZN=30s\n", encoding="utf-8")
    with pytest.raises(ValidationFailed, match="did you mean DUEWORK_HORIZON"):
        settings.load({}, dotenv=tmp_path / ".env")
    assert settings.load({}, dotenv=tmp_path / "missing") == Settings()


some = st.fixed_dictionaries(
    {},
    optional={
        "database_url": st.sampled_from(["postgresql://u:p@h/d", "embedded"]),
        "lease_seconds": st.integers(1, 10**7).map(lambda ms: timedelta(milliseconds=ms)),
        "concurrency": st.integers(1, 1000),
        "poll_only": st.booleans(),
        "log_level": st.sampled_from(["DEBUG", "INFO", "ERROR"]),
        "state_dir": st.sampled_from([None, Path("/x/y z")]),
        "labels": st.sampled_from(["", "a=b,c=d"]),
        "reflex_pii": st.sampled_from(["allow", "redact", "block"]),
    },
)


@given(some)
def test_a_child_has_its_parents_settings(given_: dict[str, object]) -> None:
    """`child_environment` is the inverse of `load`."""
    made = Settings(**given_)  # type: ignore[arg-type]  # the strategy draws by the fields' own types
    assert load(settings.child_environment(made)) == made


def test_a_flag_that_names_the_default_reaches_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent was told overrides its own environment in the child, aliases and defaults included."""
    monkeypatch.setenv("DUEWORK_CONCURRENCY", "50")
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    monkeypatch.setenv("DUEWORK_SECRET_TOKEN", "kept")
    told = replace(settings.load(dotenv=None), concurrency=10, log_level="INFO")
    child = settings.child_environment(told)
    assert settings.load(child, dotenv=None) == told
    assert child["DUEWORK_SECRET_TOKEN"] == "kept"
    assert "PATH" in child


def test_a_secret_is_a_file_or_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mounted file wins, its last line break is no part of it, and no name leads out of the folder."""
    monkeypatch.setenv("DUEWORK_SECRET_A", "from the environment")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "B").write_text("from a file\n", encoding="utf-8")
    (tmp_path / "outside").write_text("no", encoding="utf-8")
    given_ = Settings(secrets_dir=tmp_path / "secrets")
    assert settings.secret("A", given_) == "from the environment"
    assert settings.secret("B", given_) == "from a file"
    assert settings.secret("../outside", given_) is None
    assert settings.secret("C", Settings()) is None


def test_a_secret_of_dotenv_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every setting of that file is; the environment and a mounted file win, and all are read anew each time."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("DUEWORK_SECRET_A='from # dotenv'\n", encoding="utf-8")
    assert settings.secret("A", Settings(), dotenv=dotenv) == "from # dotenv"
    dotenv.write_text("DUEWORK_SECRET_A=rotated\n", encoding="utf-8")
    assert settings.secret("A", Settings(), dotenv=dotenv) == "rotated"
    monkeypatch.setenv("DUEWORK_SECRET_A", "from the environment")
    assert settings.secret("A", Settings(), dotenv=dotenv) == "from the environment"
    (tmp_path / "A").write_text("from a file", encoding="utf-8")
    assert settings.secret("A", Settings(secrets_dir=tmp_path), dotenv=dotenv) == "from a file"


def test_a_mounted_secret_is_read_as_kubernetes_puts_it_there(tmp_path: Path) -> None:
    """A link into a folder that is exchanged as a whole; the next read has the new value."""
    for version, value in (("v1", "old"), ("v2", "new\r\n")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "T").write_bytes(value.encode())
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "T").symlink_to("..data/T")
    given_ = Settings(secrets_dir=tmp_path)
    assert settings.secret("T", given_) == "old"
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "..data")
    assert settings.secret("T", given_) == "new"


@pytest.mark.parametrize(
    ("content", "words"), [(b"\xff\xfe", "is not UTF-8 text"), (b"x" * 65_537, "larger than 65536 bytes")]
)
def test_a_file_that_is_no_secret_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    """An error of the tree, that names the secret and shows nothing of it."""
    (tmp_path / "T").write_bytes(content)
    with pytest.raises(ValidationFailed, match=f"secret T: .*{words}"):
        settings.secret("T", Settings(secrets_dir=tmp_path))


def test_connections_are_named_and_the_own_database_is_one_in_development() -> None:
    """`name=url` separated by spaces; a URL may hold an equals sign; elsewhere the own database must be named."""
    text = "a=postgresql://h/d?x=1 b=postgresql://i/"
    named = {"a": "postgresql://h/d?x=1", "b": "postgresql://i/"}
    given_ = Settings(database_url="postgresql://own/", connections=text)
    assert settings.connections(given_) == named
    found = settings.connections(replace(given_, environment="development"))
    assert found == {"duework": "postgresql://own/", **named}


def test_a_password_is_not_shown() -> None:
    """Logs and messages name the database without it."""
    assert masked_url("postgresql://u:s3cret@h/d") == "postgresql://u:***@h/d"
    assert masked_url("postgresql://u:p@ss:w@h/d") == "postgresql://u:***@h/d"
    query = "postgresql://h/d?user=u&password=s3cret&sslpassword=s3cret&sslmode=require"
    assert masked_url(query) == "postgresql://h/d?user=u&password=***&sslpassword=***&sslmode=require"
    assert masked_url("host=h password = 's3 cret' dbname=d") == "host=h password = *** dbname=d"
    assert masked_url("postgresql://h/d") == "postgresql://h/d"
    assert masked_url("embedded") == "embedded"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("gate:8080", "is not like"),
        ("ftp://gate", "is not like"),
        ("https://", "is not like"),
        ("https://gate:99999", "Port out of range"),
        ("https://me:hush-hush-0f9a@gate", "credentials"),
        ("https://gate/?token=hush-hush-0f9a", "query"),
        ("https://gate/ x", "blanks"),
    ],
)
def test_the_address_of_a_gate_is_checked_and_not_quoted(text: str, why: str) -> None:
    """A wrong one is refused at the start, and a password in it is not repeated."""
    with pytest.raises(ValidationFailed, match=why) as caught:
        settings.load({"DUEWORK_REFLEX_URL": text}, dotenv=None)
    assert "hush" not in str(caught.value)
    assert settings.load({"DUEWORK_REFLEX_URL": "https://gate:8443/v1"}, dotenv=None).reflex_url


def test_every_setting_has_its_sentence() -> None:
    """The reference page is made from them."""
    for spec in fields(Settings):
        assert spec.metadata["text"].strip().endswith("."), spec.name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("postgresql://u:s3cret@h/d", "entry 1 is not like name="),
        ("a=postgresql://h/d s3cret", "entry 2 is not like name="),
        ("a=mysql://u:s3cret@h/d", "entry 1 .a. is not a postgresql:// URL"),
        ("a=postgresql://h/d a=postgresql://s3cret/d", "a is named twice"),
        ("s3cret:b=postgresql://h/d", "entry 1: a name has"),
        ("a=", "entry 1 is not like"),
    ],
)
def test_a_malformed_connection_is_an_error_at_the_start(text: str, words: str) -> None:
    """Told by its place in the list; what may be a password is not shown."""
    with pytest.raises(ValidationFailed, match=f"DUEWORK_CONNECTIONS: .*{words}") as refused:
        load({"DUEWORK_CONNECTIONS": text})
    assert "s3cret" not in str(refused.value)


def test_a_malformed_price_is_an_error_at_the_start() -> None:
    """A budget of money is counted with it."""
    with pytest.raises(ValidationFailed, match=r"DUEWORK_LLM_PRICES: entry 1 \(gpt\)"):
        load({"DUEWORK_LLM_PRICES": "gpt=2.50"})
