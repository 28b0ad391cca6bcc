"""When to try again, and after how long: a pure function of the policy, the error's class and the attempt.

The class decides, never the words of a message. Jitter spreads the retries of many runs without a random
number: it is drawn from a hash of the key and the attempt, so the same run always waits the same time and a
test can say which. The caller stores the instant; nothing here sleeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Literal

Backoff = Literal["fixed", "linear", "exponential", "exponential_jitter"]

_MAX_DOUBLINGS = 62  # beyond it every delay is past any max_delay, and timedelta would overflow


LONGEST_ASKED = timedelta(days=1)
"""The longest wait that the other side may ask for: what asks for more is taken at this."""


def asked_for(seconds: Any) -> timedelta | None:
    """The wait that the other side asks for, from nothing to LONGEST_ASKED; None for what is no number of seconds."""
    if not isinstance(seconds, int | float) or seconds != seconds:
        return None
    return timedelta(seconds=max(0, min(seconds, LONGEST_ASKED.total_seconds())))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how soon a failed step or run is tried again.

    `max_attempts` counts the first try. `on` lists error codes; empty means that the error class's own
    `retryable` decides. `delay` is the wait after the first attempt, `max_delay` the longest wait.
    """

    max_attempts: int = 1
    backoff: Backoff = "exponential_jitter"
    delay: timedelta = timedelta(seconds=5)
    max_delay: timedelta = timedelta(minutes=5)
    on: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """The public form; lengths in seconds."""
        return {
            "max_attempts": self.max_attempts,
            "backoff": self.backoff,
            "delay": self.delay.total_seconds(),
            "max_delay": self.max_delay.total_seconds(),
            "on": sorted(self.on),
        }


def may_retry(policy: RetryPolicy, error_code: str, retryable: bool, attempt: int) -> bool:
    """Whether another attempt may follow attempt `attempt` (from 1), which failed with `error_code`."""
    if attempt >= policy.max_attempts:
        return False
    return error_code in policy.on if policy.on else retryable


def delay_after(
    policy: RetryPolicy, attempt: int, key: str, retry_after: timedelta | None = None
) -> timedelta:
    """How long to wait after attempt number `attempt` (from 1) before the next one.

    `exponential_jitter` waits between half and the whole of the exponential delay. `key` names what is tried
    (a run, a step of a run). A `retry_after` that the other side asked for is a floor, even above
    `max_delay`, up to LONGEST_ASKED: coming sooner than asked is known to fail.
    """
    wait = min(_grown(policy, max(attempt, 1)), policy.max_delay)
    if policy.backoff == "exponential_jitter":
        wait *= 0.5 + _fraction(key, attempt) / 2
    return wait if retry_after is None else max(wait, min(retry_after, LONGEST_ASKED))


def _grown(policy: RetryPolicy, attempt: int) -> timedelta:
    if policy.backoff == "fixed":
        return policy.delay
    factor = attempt if policy.backoff == "linear" else 2 ** min(attempt - 1, _MAX_DOUBLINGS)
    # Compared by division first: delay * factor may be more than a timedelta can hold.
    if factor and policy.delay > policy.max_delay / factor:
        return policy.max_delay
    return policy.delay * factor


def _fraction(key: str, attempt: int) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = blake2b(f"{attempt}:{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64
