"""Where an arithmetic progression meets a clock: how many steps until its digits are all allowed.

A local moment counted in hours, minutes or seconds is a number whose digits are the second (of 60), the
minute (of 60), the hour (of 24) and the weekday (of 7). A rule adds INTERVAL to that number at each step and
its BY parts allow some values of some digits. Walking may take as many steps as a week has seconds; here the
least number of steps is found from the digits' residues instead, or that there is none.
"""

from __future__ import annotations

from itertools import product
from math import gcd

Digit = tuple[int, tuple[int, ...]]
"""How many values a digit has, and which are allowed; no values stand for all."""

_FEW = 168  # hours of a week: looking at each is quicker than reckoning


def steps_to_hit(number: int, interval: int, digits: tuple[Digit, ...]) -> int | None:
    """The least k >= 0 for which every digit of `number` + k * `interval` is allowed, None if there is none.

    `digits` are listed from the lowest; what lies above the highest is not looked at.
    """
    width = 1
    while digits and not digits[0][1]:
        width *= digits[0][0]
        digits = digits[1:]
    if not digits:
        return 0
    modulus = width
    for size, _ in digits:
        modulus *= size
    if modulus <= _FEW:
        return _tried(number, interval, width, digits, modulus)
    if width > 1:
        hits = (_steps_to_run(number, interval, modulus, *run) for run in _runs(width, digits))
        return min((steps for steps in hits if steps is not None), default=None)
    return _by_lowest_digit(number, interval, digits)


def steps_into_range(interval: int, modulus: int, low: int, high: int) -> int | None:
    """The least k >= 0 with `low` <= k * `interval` mod `modulus` <= `high`, for 0 <= low <= high < modulus.

    As in Euclid's algorithm, each call is about a smaller modulus: whether a multiple lies in the range is
    settled within the first turn, and if none does, by the remainders at which turns begin.
    """
    if low == 0:
        return 0
    interval %= modulus
    if interval == 0:
        return None
    if 2 * interval > modulus:
        interval, low, high = modulus - interval, modulus - high, modulus - low
    steps = -(-low // interval)
    if steps * interval <= high:
        return steps
    turns = steps_into_range(modulus % interval, interval, -high % interval, -low % interval)
    return None if turns is None else -(-(low + modulus * turns) // interval)


def _tried(number: int, interval: int, width: int, digits: tuple[Digit, ...], modulus: int) -> int | None:
    for steps in range(modulus // gcd(interval, modulus)):
        rest = (number + steps * interval) // width
        for size, allowed in digits:
            rest, digit = divmod(rest, size)
            if allowed and digit not in allowed:
                break
        else:
            return steps
    return None


def _by_lowest_digit(number: int, interval: int, digits: tuple[Digit, ...]) -> int | None:
    """Each allowed value of the lowest digit comes at every so many steps; at these the rest is a lesser problem."""
    size, allowed = digits[0]
    divisor = gcd(interval, size)
    cycle = size // divisor
    inverse = pow(interval // divisor, -1, cycle)
    best: int | None = None
    for value in allowed:
        lacking = (value - number) % size
        if lacking % divisor:
            continue
        first = lacking // divisor * inverse % cycle
        if best is not None and first >= best:
            continue
        later = steps_to_hit((number + first * interval) // size, interval * cycle // size, digits[1:])
        if later is not None and (best is None or first + cycle * later < best):
            best = first + cycle * later
    return best


def _runs(width: int, digits: tuple[Digit, ...]) -> list[tuple[int, int]]:
    """The allowed numbers as ranges (first, last), when each value of the lowest digit stands for `width` of them."""
    scales = []
    for size, _ in digits:
        scales.append(width)
        width *= size
    values = [allowed or tuple(range(size)) for size, allowed in digits]
    least = scales[0]
    firsts = sorted(sum(map(int.__mul__, scales, chosen)) for chosen in product(*values))
    runs = [(firsts[0], firsts[0] + least - 1)]
    for first in firsts[1:]:
        if first == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], first + least - 1)
        else:
            runs.append((first, first + least - 1))
    return runs


def _steps_to_run(number: int, interval: int, modulus: int, first: int, last: int) -> int | None:
    low, high = (first - number) % modulus, (last - number) % modulus
    return 0 if low > high else steps_into_range(interval, modulus, low, high)
