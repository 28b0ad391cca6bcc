"""The deployment files, parsed: their commands, settings and lock file are those of this version."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from engine.durations import parse_duration
from engine.settings import load
from ops.cli import tree
from tests.source import PRODUCT, ROOT, report

LOCKS = ("requirements.lock", "ops/docker/requirements.lock")


@dataclass(frozen=True, slots=True)
class Container:
    """What one process is started with, in compose or in Kubernetes."""

    name: str
    image: str
    args: list[str]
    env: dict[str, str]
    grace: str | None


def documents(path: str) -> list[Any]:
    """The YAML documents of a file."""
    return list(YAML(typ="safe").load_all((ROOT / path).read_text(encoding="utf-8")))


def compose() -> Iterator[Container]:
    """Compose's services, but for PostgreSQL."""
    for name, service in documents("ops/docker/compose.yaml")[0]["services"].items():
        if name != "postgres":
            grace = service.get("stop_grace_period")
            yield Container(name, service["image"], service["command"], service["environment"], grace)


def kubernetes() -> Iterator[Container]:
    """The containers of every pod."""
    for resource in documents("ops/kubernetes/kustomization.yaml")[0]["resources"]:
        for document in documents(f"ops/kubernetes/{resource}"):
            if document["kind"] == "Service":
                continue
            pod = document["spec"]["template"]["spec"]
            grace = pod.get("terminationGracePeriodSeconds")
            for c in pod["containers"]:
                env = {pair["name"]: pair.get("value", "postgresql://from/a-secret") for pair in c["env"]}
                yield Container(c["name"], c["image"], c["args"], env, f"{grace}s" if grace else None)


CONTAINERS = [
    pytest.param(c, id=f"{kind.__name__}-{c.name}") for kind in (compose, kubernetes) for c in kind()
]


def locked(path: str) -> dict[str, str]:
    """Name → the whole entry: version, marker and hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / path).read_text(encoding="utf-8").strip())
    return {entry.split("==")[0]: entry for entry in entries}


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_both_deployments_run_every_part() -> None:
    """Compose and Kubernetes migrate, and run an API, a scheduler and workers, from one image."""
    for kind in (compose, kubernetes):
        containers = list(kind())
        assert {c.name for c in containers} == {"migrate", "api", "scheduler", "worker"}
        assert {c.image for c in containers} == {"duework"}


@pytest.mark.parametrize("container", CONTAINERS)
def test_its_command_exists_and_takes_its_options(container: Container) -> None:
    """What the container runs is a command of this version, with options that it knows."""
    words = {words: place for words, place in tree.walk() if tuple(container.args[: len(words)]) == words}
    assert len(words) == 1, f"duework {' '.join(container.args)}"
    ((name, place),) = words.items()
    tree.command(name[-1], place).make_context(name[-1], container.args[len(name) :])


@pytest.mark.parametrize("container", CONTAINERS)
def test_its_settings_exist_and_are_sound(container: Container) -> None:
    """Every variable is a setting with a value that it accepts; a worker may drain before it is killed."""
    settings = load(container.env, dotenv=None)
    assert settings.database_url != "embedded"
    assert settings.loopback == (container.name != "api")
    if container.name == "worker":
        assert container.grace
        assert parse_duration(container.grace) > settings.drain_timeout


def test_the_deployed_version_is_this_one() -> None:
    """The image's tag is the project's version."""
    (image,) = documents("ops/kubernetes/kustomization.yaml")[0]["images"]
    assert image == {"name": "duework", "newTag": project()["project"]["version"]}


def test_the_image_gets_what_the_wheel_is_built_from() -> None:
    """Docker's build context lets every package through, and neither tests nor local files."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {
        *PRODUCT,
        *("pyproject.toml", "README.md", "LICENSE"),
    }


def test_the_image_runs_without_root() -> None:
    """The last stage ends as an unprivileged user with the command as its first process."""
    text = (ROOT / "ops/docker/Dockerfile").read_text(encoding="utf-8")
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER [1-9]\d+$", final, re.MULTILINE)
    assert 'ENTRYPOINT ["duework"]' in final


@pytest.mark.parametrize("path", LOCKS)
def test_a_lock_file_holds_hashes_and_no_address(path: str) -> None:
    """Every entry pins a version and its files' hashes, and any index may serve it."""
    assert "://" not in (ROOT / path).read_text(encoding="utf-8")
    report((name for name, entry in locked(path).items() if "--hash=sha256:" not in entry), "no hash")


def test_the_lock_files_agree() -> None:
    """The image runs exactly the versions that were tested."""
    tested, deployed = locked(LOCKS[0]), locked(LOCKS[1])
    assert deployed.items() <= tested.items()


def test_the_locks_satisfy_the_project() -> None:
    """Each dependency is locked at a version that pyproject.toml allows; `make lock` mends it."""
    wanted = project()
    runtime = wanted["project"]["dependencies"]
    rest = [*wanted["project"]["optional-dependencies"]["embedded"], *wanted["dependency-groups"]["dev"]]
    for path, texts in ((LOCKS[0], [*runtime, *rest]), (LOCKS[1], runtime)):
        entries = locked(path)
        for requirement in map(Requirement, texts):
            entry = entries[canonicalize_name(requirement.name)]
            version = entry.split("==")[1].split()[0]
            assert requirement.specifier.contains(version), f"{path}: {requirement} is not met by {version}"
