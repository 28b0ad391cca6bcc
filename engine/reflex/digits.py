"""Check digits of numbers that an organisation gives out itself: tests that rows of a custom pattern file may name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from engine.reflex import checksums

Span = tuple[int, int]
Test = Callable[[str], bool]


def luhn(value: str) -> bool:
    """ISO/IEC 7812-1 Annex B over the digits of `value`."""
    digits = _digits(value)
    return bool(digits) and checksums.luhn(digits)


def mod97(value: str) -> bool:
    """ISO 7064 MOD 97-10: the number is 1 modulo 97, letters counting from A = 10, signs between them left out."""
    signs = [sign for sign in value.upper() if sign.isascii() and sign.isalnum()]
    return bool(signs) and int("".join(str(int(sign, 36)) for sign in signs)) % 97 == 1


def mod11(value: str) -> bool:
    """ISO 7064 MOD 11,10 over the digits of `value`: the last is the check digit."""
    product = 10
    digits = _digits(value)
    for sign in digits[:-1]:
        product = ((int(sign) + product) % 10 or 10) * 2 % 11
    return bool(digits) and (product + int(digits[-1])) % 10 == 1


def verhoeff(value: str) -> bool:
    """Verhoeff's dihedral check over the digits of `value`: the last is the check digit."""
    state = 0
    digits = _digits(value)
    for place, sign in enumerate(reversed(digits)):
        state = _product(state, _permuted(int(sign), place % 8))
    return bool(digits) and state == 0


def _product(left: int, right: int) -> int:
    """In the dihedral group of the pentagon: turns are 0 to 4, reflections 5 to 9."""
    turned = left + right if left < 5 else left - right
    return turned % 5 + 5 * ((left < 5) != (right < 5))


def _permuted(digit: int, times: int) -> int:
    for _ in range(times):
        digit = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)[digit]
    return digit


def _digits(value: str) -> str:
    return "".join(sign for sign in value if sign.isascii() and sign.isdigit())


def _spanned(test: Test) -> Callable[[str, int, int], Span | None]:
    """`test` in the form of `engine.reflex.checks`."""

    def check(text: str, start: int, end: int) -> Span | None:
        return (start, end) if test(text[start:end]) else None

    return check


DIGIT_CHECKS: Mapping[str, Callable[[str, int, int], Span | None]] = MappingProxyType(
    {test.__name__: _spanned(test) for test in (luhn, mod97, mod11, verhoeff)}
)
"""These tests by the names that rows call them."""
