"""How many examples hypothesis draws: few with each run of the suite, twenty times as many on request.

`--hypothesis-profile=thorough` is for whoever changes what a property test holds; it draws anew each time. The quick
one draws the same examples for the same test, so that a red suite is the doing of the change that it runs on. A
test that needs more or fewer examples than others says how many in the quick profile; the thorough one keeps the
proportion.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

QUICK, THOROUGH = 40, 800


def register() -> None:
    """Make both profiles known; the quick one is in force until the command line names another."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]  # a busy machine, not a fault of the strategy
    settings.register_profile(
        "quick", max_examples=QUICK, deadline=None, derandomize=True, suppress_health_check=slow
    )
    settings.register_profile("thorough", max_examples=THOROUGH, deadline=None, suppress_health_check=slow)
    settings.load_profile("quick")


def examples(quick: int) -> settings:
    """A decorator: `quick` examples in the quick profile, in another as many times more as that profile has."""
    return settings(max_examples=max(1, quick * settings.get_profile(_current()).max_examples // QUICK))


def _current() -> str:
    return settings.get_current_profile_name()
