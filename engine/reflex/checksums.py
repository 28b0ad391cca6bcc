"""Checksums that tell a real identifier from a number that happens to look like one.

Each function takes the identifier without separators and answers whether it is well formed.
"""

from __future__ import annotations

import hashlib

IBAN_LENGTHS = {  # ISO 13616 registry: whole length by country
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
    "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25,
    "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip

_DOUBLED = str.maketrans("0123456789", "0246813579")  # the digit sum of twice a digit
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_VIN_SIGNS = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
_VIN_VALUES = dict(zip(_VIN_SIGNS, map(int, "012345678912345678123457923456789"), strict=True))
_VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812: from the right, every second digit doubled, the sum a multiple of ten."""
    straight, doubled = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, straight)) + sum(map(int, doubled.translate(_DOUBLED)))) % 10 == 0


def card_issuer(digits: str) -> str:
    """The network whose number range and length fit, or "" (issuer numbers of ISO/IEC 7812-1)."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":
        return "visa" if length in (13, 16, 19) else ""
    if two in (34, 37):
        return "amex" if length == 15 else ""
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return "mastercard" if length == 16 else ""
    if two in (36, 38, 39) or 3000 <= four <= 3059 or four == 3095:
        return "diners" if length in (14, 16) else ""
    if 3528 <= four <= 3589:
        return "jcb" if length == 16 else ""
    if four in (1800, 2131):
        return "jcb15" if length == 15 else ""
    return _card_of_six(digits, length, two, four)


def _card_of_six(digits: str, length: int, two: int, four: int) -> str:
    if four == 6011 or two == 65 or 644 <= int(digits[:3]) <= 649:
        return "discover" if length in (16, 19) else ""
    if two == 62:
        return "unionpay" if 16 <= length <= 19 else ""
    if two == 50 or 56 <= two <= 69:
        return "maestro" if 12 <= length <= 19 else ""
    return ""


def iban(compact: str) -> bool:
    """ISO 13616: the country's length, and the number with its first four signs moved back is 1 mod 97."""
    if IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(sign, 36)) for sign in compact[4:] + compact[:4])) % 97 == 1


def routing_number(digits: str) -> bool:
    """ABA: digits weighted 3, 7, 1 sum to a multiple of ten; the first two name a Federal Reserve office."""
    first = int(digits[:2])
    if not (first <= 12 or 21 <= first <= 32 or 61 <= first <= 72 or first == 80) or digits == "0" * 9:
        return False
    return sum(int(digit) * (3, 7, 1)[place % 3] for place, digit in enumerate(digits)) % 10 == 0


def vin(text: str) -> bool:
    """ISO 3779 with the North American check digit (49 CFR 565.15) in the ninth place."""
    rest = sum(_VIN_VALUES[sign] * weight for sign, weight in zip(text, _VIN_WEIGHTS, strict=True)) % 11
    return text[8] == ("X" if rest == 10 else str(rest))


def base58check(text: str) -> bool:
    """A Base58 number of 25 bytes, the last four a double SHA-256 of the others (Bitcoin addresses)."""
    number = 0
    for sign in text:
        number = number * 58 + _BASE58.index(sign)
    if number.bit_length() > 200:
        return False
    raw = number.to_bytes(25, "big")
    leading_ones = len(text) - len(text.lstrip("1"))
    if leading_ones != len(raw) - len(raw.lstrip(b"\0")):
        return False
    return hashlib.sha256(hashlib.sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


def bech32(text: str) -> bool:
    """BIP 173 and BIP 350: the BCH checksum of a segwit address is 1 (bech32) or 0x2bc830a3 (bech32m)."""
    prefix, _, data = text.lower().rpartition("1")
    if not prefix or any(sign not in _BECH32 for sign in data):
        return False
    values = [ord(sign) >> 5 for sign in prefix] + [0] + [ord(sign) & 31 for sign in prefix]
    check = 1
    for value in values + [_BECH32.index(sign) for sign in data]:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate(_BECH32_GENERATOR):
            check ^= generator if top >> bit & 1 else 0
    return check in (1, 0x2BC830A3)
