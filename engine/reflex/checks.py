"""The exact tests behind the patterns: what a regular expression cannot say.

A check gets the (folded) text and the span of a hit and answers the span of the value, perhaps narrower, or
None; an empty span says that no value begins before it. Checks look at a bounded stretch around the hit only, so
that scanning stays linear.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from engine.reflex import checksums
from engine.reflex.credentials import assigned, private_key, secret, url_credentials
from engine.reflex.digits import DIGIT_CHECKS

Span = tuple[int, int]
Check = Callable[[str, int, int], Span | None]

# What follows "@" in file names (`logo@2x.png`) and in hosts of a network (`deploy@web1.internal`).
_FILE_SUFFIXES = frozenset({
    "png", "jpg", "jpeg", "gif", "svg", "webp", "ico", "js", "mjs", "cjs", "ts", "tsx", "jsx", "css", "scss",
    "html", "json", "yaml", "yml", "toml", "py", "rb", "go", "rs", "java", "sh", "txt", "md", "log", "tar", "gz",
    "zip", "whl", "lock",
})  # fmt: skip
_INTERNAL_SUFFIXES = frozenset({
    "local", "localhost", "localdomain", "internal", "intranet", "lan", "svc", "cluster", "invalid",
})  # fmt: skip
_SERVICE_ACCOUNTS = frozenset({"git", "hg", "svn", "vcs"})

_VERSION = re.compile(
    r"(?:\bversion(?: to| from)?|\bver\.?|\brelease|\bbuild|\bv|==|~=|>=|<=|\brev(?:ision)?|\bfirmware)[\s:=\"']{0,3}$",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d?-\d\d?|\d\d?[/.-]\d\d?[/.-](?:19|20)\d\d\b", re.ASCII)
_PAIRS = re.compile("(?:[0-9A-Fa-f]{2}:)+[0-9A-Fa-f]{2}", re.ASCII)  # of a fingerprint or serial number
_PAIR_BEFORE = re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{2}[:-]\Z|[0-9A-Fa-f]{4}\.\Z", re.ASCII)
_PAIR_AFTER = re.compile(r"[:-][0-9A-Fa-f]{2}(?![0-9A-Za-z])|\.[0-9A-Fa-f]{4}", re.ASCII)
_ADDRESS = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}", re.ASCII)
_EXTENSION = re.compile(r" ?[ex#]", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_NO_DIGITS = re.compile(r"\D+", re.ASCII)
_LONGEST_IPV6 = 45
_LONGEST_MAC = 17
_CALLED_CARD = re.compile(r"card.{0,2}(?:number|no\b|num|nr|#)|credit.?card", re.ASCII | re.IGNORECASE)
_FOURS = re.compile(r"\d{4}(?:[ -]\d{4}){3}", re.ASCII)
_CALL_REACH = 28
_URL_REACH = 100


def unchecked(text: str, start: int, end: int) -> Span | None:  # noqa: ARG001 - a Check like the others
    """Whatever the expression finds."""
    return start, end


def email(text: str, start: int, end: int) -> Span | None:
    """A mailbox: neither a file name, nor a host inside a network, nor an SSH remote (`git@host:path`)."""
    local, _, domain = text[start:end].lower().rpartition("@")
    suffix = domain.rpartition(".")[2]
    if (
        suffix in _FILE_SUFFIXES
        or suffix in _INTERNAL_SUFFIXES
        or local in _SERVICE_ACCOUNTS
        or ".." in local
    ):
        return None
    if text[end : end + 1] == ":" and text[end + 1 : end + 2] in ("/", "~"):
        return None
    return (start, end) if not _userinfo(text, start) else None


def _userinfo(text: str, start: int) -> bool:
    """Whether `start` lies before the `@` of a URL's authority: `https://user:pass@host` is no mailbox."""
    word = re.split(r"[\s\"'<>,;]", text[max(0, start - _URL_REACH) : start])[-1]
    _, scheme, authority = word.rpartition("://")
    return bool(scheme) and "/" not in authority


def ssn(text: str, start: int, end: int) -> Span | None:
    """SSA ranges: area 001-665 or 667-899, group and serial not zero."""
    digits = _digits(text[start:end])
    if digits[:3] in ("000", "666") or digits[0] == "9" or digits[3:5] == "00" or digits[5:] == "0000":
        return None
    if not _stands_alone(text, start, end):
        return None
    return start, end


def itin(text: str, start: int, end: int) -> Span | None:
    """IRS ranges of the fourth and fifth digit: 50-65, 70-88, 90-92, 94-99."""
    group = int(_digits(text[start:end])[3:5])
    if not (50 <= group <= 65 or 70 <= group <= 88 or 90 <= group <= 92 or 94 <= group <= 99):
        return None
    return (start, end) if _stands_alone(text, start, end) else None


def credit_card(text: str, start: int, end: int) -> Span | None:
    """Luhn and the range and length of an issuer whose numbers are told from others without further words."""
    digits = _digits(text[start:end])
    issuer = checksums.card_issuer(digits)
    if issuer in ("", "maestro", "jcb15") or not 14 <= len(digits) <= 16:
        return None
    return credit_card_any(text, start, end)


def credit_card_any(text: str, start: int, end: int) -> Span | None:
    """Luhn and any issuer's range and length; Luhn alone in groups of four or for what is called a card's number."""
    digits = _digits(text[start:end])
    if not checksums.luhn(digits) or len(set(digits)) == 1:
        return None
    known = checksums.card_issuer(digits) or _FOURS.fullmatch(text, start, end)
    if not known and not _CALLED_CARD.search(text, max(0, start - _CALL_REACH), start):
        return None
    return (start, end) if _stands_alone(text, start, end) else None


def iban(text: str, start: int, end: int) -> Span | None:
    """The country's length is cut out of the hit, wherever it ends; then mod 97."""
    wanted = checksums.IBAN_LENGTHS.get(text[start : start + 2].upper(), 0)
    compact = ""
    for place in range(start, min(end, len(text))):
        if text[place].isalnum():
            compact += text[place].upper()
            if len(compact) == wanted:
                whole = not text[place + 1 : place + 2].isalnum()
                return (start, place + 1) if whole and checksums.iban(compact) else None
    return None


def ipv4(text: str, start: int, end: int) -> Span | None:
    """A host's address: no version number, no loopback, unspecified, broadcast or netmask address."""
    octets = [int(part) for part in text[start:end].split(".")]
    if len(octets) != 4 or max(octets) > 255 or octets[0] in (0, 127, 255):
        return None
    if not _stands_alone(text, start, end) or _VERSION.search(text[max(0, start - 16) : start].lower()):
        return None
    return start, end


def ipv4_public(text: str, start: int, end: int) -> Span | None:
    """An address that names a host on the Internet."""
    span = ipv4(text, start, end)
    return span if span and not _internal(text[start:end]) else None


def ipv4_private(text: str, start: int, end: int) -> Span | None:
    """An address of a private or link-local network."""
    span = ipv4(text, start, end)
    return span if span and _internal(text[start:end]) else None


def _internal(address: str) -> bool:
    first, second = (int(part) for part in address.split(".")[:2])
    return (first == 10 or (first == 172 and 16 <= second <= 31) or (first == 192 and second == 168)
            or (first == 169 and second == 254))  # fmt: skip


def ipv6(text: str, start: int, end: int) -> Span | None:
    """RFC 4291 text that `ipaddress` accepts, is no loopback, and cannot be a `scope::name` of a program.

    The hit is a whole run of groups: a word before it or a colon after it may be joined on and is cut off.
    """
    if _joined_before(text, start) or (text[start] == ":" and text[start + 1 : start + 2] != ":"):
        start = text.index(":", start) + 1
    if text[end - 1] == ":" and text[end - 2] != ":":
        end -= 1
    value = text[start:end]
    if len(value) > _LONGEST_IPV6 or not any(map(str.isdigit, value)) or _PAIRS.fullmatch(value):
        return None
    if (
        _joined(text, start, end)
        or text[start - 1 : start + 1] == "::"
        or _continues(text, end)
        or _names_folder(text, end)
    ):
        return None
    return (start, end) if _is_address(value) else None


def _names_folder(text: str, end: int) -> bool:
    """Whether a path goes on after `end`, as after the empty field of a line in /etc/passwd."""
    return text[end - 1] == ":" and text[end : end + 1] == "/" and not text[end + 1 : end + 2].isdigit()


def _is_address(value: str) -> bool:
    if "." not in value and value.count(":") < 3 and value[:1] not in ("2", "3", "f", "F"):
        return False  # a scope
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def mac_address(text: str, start: int, end: int) -> Span | None:
    """Neither all zeros nor broadcast, and not a piece of a longer string of pairs."""
    value = set(text[start:end].lower()) - set(":-.")
    if end - start > _LONGEST_MAC or value in ({"0"}, {"f"}) or _joined(text, start, end):
        return None
    longer = _PAIR_BEFORE.search(text, max(0, start - 5), start) or _PAIR_AFTER.match(text, end)
    return None if longer else (start, end)


def bitcoin(text: str, start: int, end: int) -> Span | None:
    """Base58Check for addresses that begin with 1 or 3, Bech32 for those that begin with bc1."""
    value = text[start:end]
    good = checksums.bech32(value) if value[:2].lower() == "bc" else checksums.base58check(value)
    return (start, end) if good else None


def vin(text: str, start: int, end: int) -> Span | None:
    """Letters and digits with the right check digit."""
    return (start, end) if checksums.vin(text[start:end]) and vin_any(text, start, end) else None


def vin_any(text: str, start: int, end: int) -> Span | None:
    """Letters and digits; outside North America the check digit is not obligatory."""
    value = text[start:end]
    mixed = any(sign.isdigit() for sign in value) and any(sign.isalpha() for sign in value)
    return (start, end) if mixed else None


def routing_number(text: str, start: int, end: int) -> Span | None:
    """The checksum, and not a piece of a longer number."""
    good = checksums.routing_number(_digits(text[start:end])) and _stands_alone(text, start, end)
    return (start, end) if good else None


def phone(text: str, start: int, end: int) -> Span | None:
    """7 to 15 digits (ITU-T E.164 allows 15) that are not part of a longer number or a part number."""
    digits = _digits(_EXTENSION.split(text[start:end])[0])
    if text[end - 2] == "." or text.count("(", start, end) != text.count(")", start, end):
        return None  # a decimal; a version and its build
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 3 or not _stands_alone(text, start, end):
        return None
    return start, end


def phone_near_word(text: str, start: int, end: int) -> Span | None:
    """Beside a word of telephony; dates, decimals and addresses stand there as well and are not meant."""
    value = text[start:end]
    if (
        _DATE.match(value)
        or (value.count(".") == 1 and not value.startswith("("))
        or _ADDRESS.fullmatch(value)
    ):
        return None
    return phone(text, start, end)


def phone_near_weak_word(text: str, start: int, end: int) -> Span | None:
    """Beside a word that has other uses: only a number that is grouped or begins like a national one."""
    grouped = any(sign in " -./()" for sign in text[start:end])
    return phone_near_word(text, start, end) if grouped or text[start] in "0+" else None


def phone_national(text: str, start: int, end: int) -> Span | None:
    """9 to 11 digits after one trunk prefix; neither a date nor a time of day stands before it."""
    value = text[start:end]
    if not 9 <= len(_digits(value)) <= 11 or value.startswith(("00", "(00")) or _DATE.match(value):
        return None
    before = text[max(0, start - 2) : start]
    if before[-1:] in (":", "/", "+", "#", "=") or (before[-1:] == " " and before[:1].isdigit()):
        return None
    after = text[end : end + 2]
    return phone(text, start, end) if not (after[:1] in (" ", ":", "/") and after[1:].isdigit()) else None


def phone_of_line(text: str, start: int, end: int) -> Span | None:
    """All that its line holds, in groups or with a trunk prefix; no date."""
    line = text[text.rfind("\n", max(0, start - 16), start) + 1 if start else 0 : start]
    rest = text[end : end + 4].partition("\n")[0]
    grouped = any(sign in " -./()" for sign in text[start:end]) or text[start] == "0"
    alone = not any(map(str.isdigit, line)) and not rest.strip(" \r\t,;)\0")  # NUL: the end of a JSON string
    return phone_near_word(text, start, end) if grouped and alone else None


def passport_number(text: str, start: int, end: int) -> Span | None:
    """Signs of which two or more are digits: the machine-readable zone mixes them."""
    return (start, end) if sum(map(str.isdigit, text[start:end])) >= 2 else None


def document_number(text: str, start: int, end: int) -> Span | None:
    """Five signs or more, digits among them."""
    value = text[start:end]
    return (start, end) if end - start >= 5 and sum(map(str.isdigit, value)) >= 3 else None


def date_of_birth(text: str, start: int, end: int) -> Span | None:
    """A date that some calendar has: day and month in either order, the year at one end, perhaps of two digits."""
    parts = _DIGITS.findall(text, start, end)
    if len(parts) == 1:
        parts = [parts[0][:4], parts[0][4:6], parts[0][6:]]
    year = next((part for part in parts if len(part) == 4 or int(part) > 31), parts[-1])
    parts.remove(year)
    rest = [int(part) for part in parts]
    good = len(year) != 3 and all(1 <= part <= 31 for part in rest) and (len(rest) < 2 or min(rest) <= 12)
    return (start, end) if good else None


def _digits(value: str) -> str:
    return _NO_DIGITS.sub("", value)


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Not a piece of a word, of a decimal, or of a longer group of digits; a word may follow a hyphen."""
    if _joined(text, start, end):
        return False
    before = text[max(0, start - 2) : start]
    if before[-1:] in (".", "-") and before[:1].isalnum():
        return False
    following = text[end + 1 : end + 4]
    return not _continues(text, end) or (text[end] == "-" and len(following) == 3 and following.isalpha())


def _continues(text: str, end: int) -> bool:
    """Whether a dot or hyphen and another sign go on after `end`."""
    return text[end : end + 1] in (".", "-") and text[end + 1 : end + 2].isalnum()


def _joined(text: str, start: int, end: int) -> bool:
    after = text[end : end + 1]
    return _joined_before(text, start) or after.isalnum() or after == "_"


def _joined_before(text: str, start: int) -> bool:
    before = text[start - 1 : start] if start else ""
    return before.isalnum() or before == "_"


CHECKS: Mapping[str, Check] = MappingProxyType(
    {"": unchecked} | {
        function.__name__: function
         for function in (
            email, ssn, itin, credit_card, credit_card_any, iban,
            ipv4_public, ipv4_private, ipv6, mac_address, bitcoin,
            vin, vin_any, routing_number, url_credentials, phone, phone_near_word, phone_near_weak_word,
            phone_national, phone_of_line, passport_number,
            document_number, date_of_birth, private_key, secret, assigned,
        )
    } | dict(DIGIT_CHECKS)
)  # fmt: skip
"""The checks that pattern rows name."""
