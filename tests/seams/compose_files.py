"""Read the files of docker compose."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.seams.tree import ROOT

BASE = "docker-compose.yml"
LAYERS = ("beyla", "cloud", "minimal", "otel")
# Stands alone: its services extend those of the base.
SOURCE = "docker-compose-source.yml"
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:?[-?+])([^}]*))?\}")

# A service as the file has it.
Service = dict[str, Any]


@dataclass(frozen=True)
class Tagged:
    """A value with one of compose's own tags, such as !reset or !override."""

    tag: str
    value: Any


class _Loader(yaml.SafeLoader):
    """Parses the tags of compose."""


def _tagged(loader: _Loader, tag: str, node: yaml.Node) -> Tagged:
    if isinstance(node, yaml.MappingNode):
        return Tagged(tag, loader.construct_mapping(node, deep=True))
    return Tagged(tag, loader.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else None)


_Loader.add_multi_constructor("!", _tagged)


def layer_file(layer: str) -> str:
    """Name the file of a layer."""
    return f"docker-compose-{layer}.yml"


def text(name: str) -> str:
    """Return the text of a file at the top of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def loaded(name: str) -> dict[str, Any]:
    """Parse one of the files; anchors and merge keys are resolved, variables are not."""
    content = yaml.load(text(name), Loader=_Loader)  # noqa: S506 - a SafeLoader with the tags of compose
    assert isinstance(content, dict)
    return content


def services(name: str = BASE) -> dict[str, Service]:
    """Return the services that a file describes, without those that it removes."""
    return {key: value for key, value in loaded(name)["services"].items() if not isinstance(value, Tagged)}


def environment(file: str, name: str) -> dict[str, Any]:
    """Return the environment of a service, including what it inherits by `extends`."""
    service = services(file)[name]
    inherited = environment(service["extends"]["file"], name) if "extends" in service else {}
    return {**inherited, **service.get("environment", {})}


def added(layer: str) -> dict[str, Service]:
    """Return the services of a layer that are not in the base."""
    return {name: service for name, service in services(layer_file(layer)).items() if name not in services()}


def everything() -> dict[str, Service]:
    """Return every service of the base and of the layers."""
    return services() | {name: service for layer in LAYERS for name, service in added(layer).items()}


@cache
def dotenv() -> dict[str, str]:
    """Return the variables of .env."""
    lines = [line for line in text(".env").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def filled(value: str) -> str:
    """Replace variables with the values of .env, as compose does."""
    return VARIABLE.sub(lambda found: dotenv().get(found[1], found[3] or ""), value)


def published(service: Service) -> list[tuple[str, str, str]]:
    """Return the published ports of a service as address, host port, and container port."""
    ports: list[tuple[str, str, str]] = []
    for port in service.get("ports", []):
        found = re.match(r"([\d.]+):(.+):(\d+)$", str(port))
        assert found, f"{port} is not address:port:port"
        ports.append((found[1], found[2], found[3]))
    return ports


def mounts(service: Service) -> list[tuple[Path, str]]:
    """Return the files and folders of the repository that a service mounts, each with its path in the container."""
    shared = [str(volume).split(":") for volume in service.get("volumes", [])]
    return [(ROOT / source, target) for source, target, *_ in shared if source.startswith("./")]
