"""An operator's own patterns: kinds like any other, and files that are refused as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import reflex, settings
from engine.errors import ValidationFailed
from engine.reflex import edition as editions
from engine.reflex.catalogue import patterns
from engine.reflex.custom import parse_rows, regex_fault
from engine.reflex.digits import luhn, mod11, mod97, verhoeff
from engine.reflex.edition import Edition, judged_by
from engine.reflex.proof import prepare, prove
from engine.settings import Settings

BADGE = r"""
[[pattern]]
name = "employee_id.badge"
kind = "employee_id"
regex = '''\bEMP-\d{6}\b'''
match = ["badge «EMP-204417» is lost", "\"id\": \"«EMP-000001»\""]
no_match = ["EMP-20", "TEMP-204417"]
"""
MEMBER = r"""
[[pattern]]
name = "member_no.near_word"
kind = "member_no"
regex = '''\b\d{11}\b'''
words = ["member no", "mitglied"]
check = "luhn"
match = ["memberNo: «79927398713»", "Mitglied Nr. «79927398713»"]
no_match = ["79927398713", "member no 79927398714"]
"""


def made(text: str) -> Edition:
    """The edition of a file with this text."""
    return Edition(parse_rows(text, "kinds.toml"), "kinds.toml")


def refused(text: str) -> str:
    """The message with which a file is refused: as it is read, or by its examples."""
    with pytest.raises(ValidationFailed) as told:
        prove(made(text))
    return str(told.value)


@pytest.fixture(scope="module")
def own() -> Edition:
    """Two kinds of our own, proven once."""
    edition = made(BADGE + MEMBER)
    prove(edition)
    return edition


@pytest.fixture
def ours(own: Edition) -> Iterator[Edition]:
    """The gate judges by our own kinds beside the package's."""
    with judged_by(own):
        yield own


@pytest.mark.usefixtures("ours")
def test_a_custom_kind_is_a_kind_like_any_other() -> None:
    """It is scanned for, masked, redacted, allowed by kind and by pointer, and named in verdicts."""
    assert [found["type"] for found in reflex.scan("badge EMP-204418")["pii"]] == ["employee_id"]
    assert reflex.mask("badge EMP-204418") == "badge [EMPLOYEE_ID]"
    value = {"to": "EMP-204418", "cc": "EMP-204419"}
    redact = reflex.strictest(reflex.parse_policy({"pii": "redact"}))
    assert reflex.judge(value, redact).value == {"to": "[EMPLOYEE_ID]", "cc": "[EMPLOYEE_ID]"}
    allowed = reflex.strictest(reflex.parse_policy({"allow": ["employee_id"]}))
    assert reflex.judge(value, allowed).action == "pass"
    at = reflex.strictest(reflex.parse_policy({"allow": {"/to": ["employee_id"]}}))
    verdict = reflex.judge(value, at)
    assert [(each.pointer, each.rule) for each in verdict.findings] == [("/cc", "employee_id.badge")]


@pytest.mark.usefixtures("ours")
def test_words_and_checks_decide_about_bare_digits() -> None:
    """A number counts beside its word, in text as in a key, and only if its check digit is right."""
    assert reflex.mask('{"memberNo": "79927398713"}') == '{"memberNo": "[MEMBER_NO]"}'
    assert reflex.judge({"member_no": 79927398713}, reflex.DEFAULT_POLICY).action == "block"
    assert reflex.judge({"total": 79927398713}, reflex.DEFAULT_POLICY).action == "pass"
    assert reflex.mask("member no 79927398714") == "member no 79927398714"


def test_an_edition_holds_within_its_block_only(own: Edition) -> None:
    """What one edition found in a text is not remembered for another."""
    text = "badge EMP-777777"
    assert reflex.mask(text) == text
    with judged_by(own):
        assert reflex.mask(text) == "badge [EMPLOYEE_ID]"
    assert reflex.mask(text) == text


def test_a_row_of_the_package_can_be_replaced() -> None:
    """With `replace` the package's row of that name is gone; without it the name is refused."""
    row = BADGE.replace("employee_id.badge", "email.address").replace('"employee_id"', '"email"')
    assert "replace = true" in refused(row)
    replaced = made(row + "replace = true\n")
    with judged_by(replaced):
        assert reflex.mask("ada@example.org EMP-204417") == "ada@example.org [EMAIL]"


def test_fragments_and_optional_groups() -> None:
    """Fragments are filled in; where the group did not take part, the whole match is the value."""
    text = r"""
[fragments]
office = '''(?:BER|NYC)'''
[[pattern]]
name = "desk.number"
kind = "desk"
regex = '''\b{office}-\d{3}(-[A-Z]{4})?\b'''
match = ["at «BER-204» now"]
"""
    edition = made(text)
    prove(edition)
    with judged_by(edition):
        assert reflex.mask("NYC-204 sits") == "[DESK] sits"


def _without(member: str) -> str:
    return "\n".join(line for line in BADGE.splitlines() if not line.startswith(f"{member} ="))


FAULTS: dict[str, tuple[str, str]] = {
    "no TOML": ("[[pattern", "not TOML"),
    "nothing in it": ("", "no [[pattern]]"),
    "unknown table": (BADGE + "[rules]\na = 1\n", "'rules' is unknown"),
    "unknown member": (BADGE + "colour = 'red'\n", "row 1 (employee_id.badge): 'colour' is no member"),
    "wrong type": (BADGE.replace("no_match = [", "reach = true\nno_match = ["), "reach is of another type"),
    "no examples": (_without("match"), "match is missing"),
    "no regex": (_without("regex"), "regex is missing"),
    "neither kind nor family": (_without("kind"), "a kind (personal data) or a family"),
    "kind in capitals": (BADGE.replace('"employee_id"', '"EmployeeID"'), "no name for a kind"),
    "kind of a family": (BADGE.replace('"employee_id"', '"dan_variant"'), "no family of injection"),
    "unknown family": (BADGE.replace("kind =", "family ="), "none of the families"),
    "severity of a kind": (BADGE + 'severity = "high"\n', "a family, and no kind, has a severity"),
    "unknown check": (BADGE + 'check = "lunh"\n', "no check 'lunh'"),
    "confidence": (BADGE + "confidence = 7\n", "at most 1"),
    "reach": (BADGE + "reach = 4000\n", "reach is from 1"),
    "words and context": (BADGE + "words = ['id']\ncontext = 'id'\n", "in place of context"),
    "look-around": (BADGE.replace(r"\bEMP", "(?=x)EMP"), "regex: not RE2"),
    "empty match": (BADGE.replace(r"\bEMP-\d{6}\b", r"\d*"), "everywhere"),
    "word boundary alone": (BADGE.replace(r"\bEMP-\d{6}\b", r"\b"), "everywhere"),
    "too large": (BADGE.replace(r"\d{6}", r"(?:[a-z]{900}){20}"), "not RE2"),
    "long": (BADGE.replace(r"\d{6}", "A" * 5000), "at most 4000"),
    "two groups": (BADGE.replace(r"EMP-\d{6}", r"(EMP)-(\d{6})"), "more than one group"),
    "other scripts": (BADGE.replace("EMP-", "Ж"), "only ASCII"),
    "unknown fragment": (BADGE.replace("EMP-", "{office}"), "no fragment 'office'"),
    "unmarked example": (BADGE.replace("«EMP-204417»", "EMP-204417"), "encloses"),
    "example not found": (BADGE.replace("«EMP-204417»", "«EMP-20441»"), "match 1: employee_id is not found"),
    "example found elsewhere": (BADGE.replace("«EMP-204417» is", "EMP-204417 «is»"), "found is employee_id"),
    "look-alike found": (BADGE.replace('"EMP-20"', '"EMP-204417"'), "no_match 1"),
    "name twice": (BADGE + BADGE, "row 2 (employee_id.badge): the name"),
    "replaces nothing": (BADGE + "replace = true\n", "no row of this name to replace"),
}


@pytest.mark.parametrize(("text", "told"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_file_is_refused(text: str, told: str) -> None:
    """The error names the file and says what is wrong, and in which row."""
    message = refused(text)
    assert message.startswith("kinds.toml: ")
    assert told in message


def test_every_fault_is_told_at_once() -> None:
    """Faults of several rows are collected, each with its pointer."""
    text = BADGE.replace("EMP-", "(?=") + MEMBER.replace('"luhn"', '"lunh"')
    with pytest.raises(ValidationFailed) as told:
        made(text)
    assert [problem.pointer for problem in told.value.errors] == ["/pattern/0/regex", "/pattern/1/check"]


def test_a_large_program_is_refused() -> None:
    """An expression that RE2 takes and that would cost every text is too large."""
    assert "instructions" in regex_fault(r"[0-9a-f]{1,1000}x[g-z]{1,1000}" * 8)


@pytest.mark.parametrize(
    ("test", "good", "bad"),
    [
        (luhn, "7992-7398-713", "79927398714"),
        (mod97, "GB29 NWBK 6016 1331 9268 19", "79499"),
        (mod11, "86095742719", "86095742718"),
        (verhoeff, "2363", "2364"),
    ],
)
def test_check_digits(test: Callable[[str], bool], good: str, bad: str) -> None:
    """Each check takes its published example and refuses another number; nothing at all is never good."""
    good = good[4:] + good[:4] if test is mod97 and good[0].isalpha() else good
    assert test(good)
    assert not test(bad)
    assert not test("")


@pytest.fixture
def from_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Settings]]:
    """Settings of an environment that names a file with a given text; what the process has read is forgotten."""

    def given(text: str) -> Settings:
        path = tmp_path / "kinds.toml"
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("DUEWORK_REFLEX_KINDS", str(path))
        return settings.load(dotenv=None)

    editions.ours.cache_clear()
    yield given
    editions.ours.cache_clear()


def test_a_process_reads_its_file_once(from_file: Callable[[str], Settings]) -> None:
    """The environment's file counts wherever the gate is asked, until the process ends."""
    given = from_file(BADGE)
    prepare(given)
    assert reflex.mask("EMP-204418") == "[EMPLOYEE_ID]"
    assert "employee_id" in editions.pii_kinds()
    from_file(MEMBER)
    assert reflex.mask("EMP-204418") == "[EMPLOYEE_ID]"


def test_a_bad_file_lets_nothing_begin(from_file: Callable[[str], Settings]) -> None:
    """A process is not made ready, and what is judged without that fails instead of passing."""
    given = from_file(BADGE.replace("EMP-", "(?="))
    with pytest.raises(ValidationFailed, match=r"kinds\.toml: row 1"):
        prepare(given)
    with pytest.raises(ValidationFailed, match=r"kinds\.toml: row 1"):
        reflex.mask("anything")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file."""
    with pytest.raises(ValidationFailed, match=r"none\.toml: the file of patterns cannot be read"):
        editions.read_edition(tmp_path / "none.toml")


def test_settings_cannot_name_another_file() -> None:
    """A file that only the settings of a caller name would not be in effect, and is refused."""
    with pytest.raises(ValidationFailed, match="DUEWORK_REFLEX_KINDS"):
        prepare(Settings(reflex_kinds=Path("kinds.toml")))


def test_the_packages_rows_are_what_is_judged_by_otherwise() -> None:
    """Without a file the edition is the package's rows and nothing else."""
    assert Edition().rows == patterns()


@pytest.mark.parametrize(
    ("regex", "fault"), [("(вы", "not RE2"), ("(?:вы)*", "empty"), (r"(?:\pL\pN){200}", "too large")]
)
def test_rows_for_other_scripts_are_proven_too(regex: str, fault: str) -> None:
    """They are compared with texts as they are; what would stop the matcher is a fault of the file like others."""
    row = "name = 'x.y'\nfamily = 'tool_abuse'\nseverity = 'high'\nwritten = true\nmatch = ['«вы все»']\n"
    assert fault in refused(f"[[pattern]]\nregex = '{regex}'\n{row}")
