"""What the gate does about what it finds: one policy per step, the strictest of several layers.

Layers are the `reflex:` mappings of the operator, the task, the tool and the step. Each member is settled by
itself. A member that no layer gives takes its default, so a task may say `pii: redact` although the default
is block; how far a layer may go is the operator's floor, which `below_floor` compares with.

A catalog entry may also let kinds pass at a place of the tool's input or output: `allow: {/to: [email]}`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from engine.errors import Problem, ValidationFailed
from engine.reflex.edition import pii_kinds
from engine.reflex.findings import SEVERITIES

PiiAction = Literal["allow", "flag", "redact", "block"]
InjectionAction = Literal["allow", "flag", "block"]
Severity = Literal["low", "medium", "high", "critical"]

ACTIONS = ("allow", "flag", "redact", "block")
"""What may be done about a finding, the stricter the later."""

DIRECTIONS = frozenset({"input", "output"})


@dataclass(frozen=True, slots=True)
class Policy:
    """The effective policy of one step.

    `threshold` is the least severity of an injection that is acted on, `allow` the PII kinds let through
    whatever `pii` says, `on` the directions in which the gate stands. `at` are kinds let through at a JSON pointer
    and below it.
    """

    pii: PiiAction = "block"
    injection: InjectionAction = "block"
    threshold: Severity = "high"
    allow: frozenset[str] = frozenset()
    on: frozenset[str] = DIRECTIONS
    at: tuple[tuple[str, frozenset[str]], ...] = ()

    def below(self, pointer: str) -> Policy:
        """The same policy for a value in which the one it was made for stands at `pointer`."""
        return replace(self, at=tuple((pointer + place, kinds) for place, kinds in self.at))


DEFAULT_POLICY = Policy()

_CHOICES = {
    "pii": get_args(PiiAction),
    "injection": get_args(InjectionAction),
    "threshold": get_args(Severity),
}
_MEMBERS = ("pii", "injection", "threshold", "allow", "on")


def parse_policy(mapping: Mapping[str, Any], pointer: str = "") -> dict[str, Any]:
    """The members that a `reflex:` mapping gives, checked; `allow` and `on` as frozen sets, `allow` by pointer as a
    mapping to such.

    `pointer` is the JSON pointer of the mapping in its document. Raises ValidationFailed with every problem.
    """
    if not isinstance(mapping, Mapping):
        raise ValidationFailed(
            "reflex is not a mapping", [Problem("type", "write reflex as {pii: …, injection: …}", pointer)]
        )
    problems = [problem for name, value in mapping.items() if (problem := _problem(name, value, pointer))]
    if problems:
        raise ValidationFailed("the reflex policy is not valid", problems)
    return {name: _frozen(value) if name in ("allow", "on") else value for name, value in mapping.items()}


def written(layer: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON form of a layer: the inverse of `parse_policy`."""
    return {name: _listed(value) for name, value in layer.items()}


def strictest(*layers: Mapping[str, Any]) -> Policy:
    """One policy of `layers` as `parse_policy` returns them.

    The stricter action wins (allow < flag < redact < block), the lower threshold, and the union of `on`.
    `allow` is the intersection of the layers that have that member; a layer without it has no opinion, so a
    step's `allow: [email]` works under a task that says only `pii: redact`, and `allow: []` anywhere lets
    nothing through. An `allow` by pointer adds its kinds at its places and says nothing about any other.
    """
    members: dict[str, Any] = {}
    for name in _MEMBERS:
        given = [layer[name] for layer in layers if name in layer]
        if name == "allow":
            members["at"] = _places(given)
            given = [kinds for kinds in given if not isinstance(kinds, Mapping)]
        if given:
            members[name] = _strictest_of(name, given)
    return Policy(**members)


def policy_of(document: Mapping[str, Any]) -> Policy:
    """What a stored definition says of the values that come to it from outside: its own layer over the default."""
    return strictest(parse_policy(document.get("reflex", {})))


def below_floor(policy: Policy, floor: Policy) -> list[str]:
    """The members of `policy` looser than `floor`; who defines such needs the scope reflex:loosen."""
    looser = {
        "pii": _rank("pii", policy.pii) < _rank("pii", floor.pii),
        "injection": _rank("injection", policy.injection) < _rank("injection", floor.injection),
        "threshold": _rank("threshold", policy.threshold) < _rank("threshold", floor.threshold),
        "allow": not policy.allow.union(*(kinds for _, kinds in policy.at)) <= floor.allow,
        "on": not policy.on >= floor.on,
    }
    return [name for name, below in looser.items() if below]


def _places(given: list[Any]) -> tuple[tuple[str, frozenset[str]], ...]:
    """The kinds that all layers with pointers allow at each of them; none where a layer allows nothing at all."""
    grants = [kinds for kinds in given if isinstance(kinds, Mapping)]
    if not grants or frozenset() in given:
        return ()
    shared = set.intersection(*(set(one) for one in grants))
    return tuple((place, frozenset.intersection(*(one[place] for one in grants))) for place in sorted(shared))


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {place: frozenset(kinds) for place, kinds in value.items()}
    return frozenset(value)


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {place: sorted(kinds) for place, kinds in value.items()}
    return sorted(value) if isinstance(value, frozenset) else value


def _strictest_of(name: str, given: list[Any]) -> Any:
    if name == "allow":
        return frozenset.intersection(*given)
    if name == "on":
        return frozenset.union(*given)
    return max(given, key=lambda value: _rank(name, value))


def _rank(name: str, value: str) -> int:
    """How strict a value is; a low threshold is stricter than a high one."""
    return -SEVERITIES.index(value) if name == "threshold" else ACTIONS.index(value)


def _problem(name: Any, value: Any, pointer: str) -> Problem | None:
    place = f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"
    if name not in _MEMBERS:
        return Problem("unknown_key", f'"{name}" is no member of reflex{_meant(name, _MEMBERS)}', place)
    if name in _CHOICES:
        return _choice_problem(name, value, place)
    if name == "on":
        return _set_problem(name, value, place, DIRECTIONS)
    if isinstance(value, Mapping):
        return next(filter(None, (_place_problem(at, kinds, place) for at, kinds in value.items())), None)
    return _set_problem(name, value, place, pii_kinds())


def _place_problem(at: Any, kinds: Any, place: str) -> Problem | None:
    if not isinstance(at, str) or not at.startswith("/"):
        return Problem("type", f"allow is by JSON pointers like /to, which {at!r} is not", place)
    return _set_problem("allow", kinds, f"{place}/{at.replace('~', '~0').replace('/', '~1')}", pii_kinds())


def _choice_problem(name: str, value: Any, place: str) -> Problem | None:
    choices = _CHOICES[name]
    if isinstance(value, str) and value in choices:
        return None
    return Problem("enum", f"{name} is one of {', '.join(choices)}{_meant(value, choices)}", place)


def _set_problem(name: str, value: Any, place: str, known: Collection[str]) -> Problem | None:
    if isinstance(value, str) or not isinstance(value, Collection) or isinstance(value, Mapping):
        return Problem("type", f"{name} is a list of {', '.join(sorted(known))}", place)
    for index, entry in enumerate(value):
        if not isinstance(entry, str) or entry not in known:
            hint = _meant(entry, known) or f"; known are {', '.join(sorted(known))}"
            return Problem("enum", f'"{entry}" is unknown in {name}{hint}', f"{place}/{index}")
    return None


def _meant(word: Any, known: Collection[str]) -> str:
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f'; did you mean "{near[0]}"?' if near else ""
