"""Compose, Alloy and the services call each other by the same names."""

import json
import re

import pytest
import yaml

from common.telemetry.settings import STANDARD_PORTS
from tests.seams.compose_files import BASE, LAYERS, SOURCE, dotenv, environment, everything, layer_file, services, text
from tests.seams.tree import ROOT, rows, sections, words

OURS = ("requester", "server", "recorder", "frontend")
FILES = [BASE, SOURCE, *(layer_file(layer) for layer in LAYERS)]
ALLOY = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "alloy").glob("*.alloy"))}
READ_BY_ALLOY = {name for content in ALLOY.values() for name in re.findall(r'sys\.env\("(\w+)"\)', content)}
ENDPOINTS = json.loads(text("alloy/endpoints.json"))
# Read by the HTTP libraries and Go programs, in either case.
DIRECT = {"NO_PROXY", "no_proxy"}


def readable(service: str) -> set[str]:
    """What the reference says that a service reads."""
    names: set[str] = set()
    for title, section in sections(text("docs/reference/settings.md")):
        readers = re.search(r"^Read by: (.+)$", section, re.MULTILINE)
        standard = title.startswith("Standard variables")
        if standard or (readers and service in readers[1].split(", ")):
            names |= {name for row in rows(section) for name in words(row["Variable"])}
    return names


SETTINGS = dict(sections(text("docs/reference/settings.md")))
OF_THE_LOAD = {words(row["Variable"])[0] for row in rows(SETTINGS["The load"])}
LOADING = ("load", "load-worker")


def forwarded(file: str, name: str) -> set[str]:
    """Return the variables that reach a container from the shell or .env."""
    return {
        variable
        for variable, value in environment(file, name).items()
        if value is None or f"${{{variable}" in str(value)
    }


@pytest.mark.parametrize("file", [BASE, SOURCE])
def test_every_setting_is_forwarded_or_listed_as_an_exception(file: str) -> None:
    """A variable that does not reach its container would be set and do nothing, without a word."""
    listed = {
        name
        for row in rows(SETTINGS["With Docker Compose"])
        if file == BASE or f"`{SOURCE}`" not in row["With Compose"]
        for name in words(row["Variable"])
    }
    missed = set[str]().union(
        *(readable(service) - forwarded(file, f"mythical-{service}") for service in OURS),
        OF_THE_LOAD.difference(*(forwarded(file, name) for name in LOADING)),
    )
    assert missed == listed


@pytest.mark.parametrize("service", OURS)
@pytest.mark.parametrize("name", FILES)
def test_a_service_is_told_only_what_it_reads(name: str, service: str) -> None:
    """Anything else would be set and do nothing."""
    told = services(name).get(f"mythical-{service}", {}).get("environment", {})
    assert set(told) <= readable(service) | DIRECT


def test_every_fault_can_be_switched_from_outside() -> None:
    """`FAULT_NULL_NAME=0 docker compose up`, as the workshops do."""
    for service in OURS:
        faults = {name for name in readable(service) if name.startswith("FAULT_")}
        assert faults <= set(services()[f"mythical-{service}"]["environment"])


@pytest.mark.parametrize("name", FILES)
def test_alloy_is_told_only_what_it_reads(name: str) -> None:
    """GOMEMLIMIT is read by the language it is written in."""
    told = set(services(name).get("alloy", {}).get("environment", {})) - {"GOMEMLIMIT"}
    assert told <= READ_BY_ALLOY | DIRECT


def test_every_choice_of_alloy_can_be_made_from_outside() -> None:
    """Those of settings.alloy, and nowhere else a default."""
    choices = set(re.findall(r'sys\.env\("(ALLOY_\w+)"\)', ALLOY["settings.alloy"])) - {"ALLOY_ENDPOINTS"}
    told = services()["alloy"]["environment"]
    assert choices <= set(told)
    assert all(told[choice] is None for choice in choices)


def in_mebibytes(size: str) -> int:
    """The number of a size such as 400MiB, 640m as compose writes it, or ${NAME:-400MiB}."""
    return int(re.fullmatch(r"(?:\$\{\w+:-)?(\d+)(?:MiB|m)\}?", size)[1])  # type: ignore[index]  # anything else fails the test


@pytest.mark.parametrize("name", [BASE, "docker-compose-minimal.yml", "docker-compose-otel.yml"])
def test_a_collector_refuses_before_the_kernel_ends_it(name: str) -> None:
    """Its own limit is below that of the language, and this one below the container's; senders try again."""
    one = services(name).get("alloy") or services(name)["otel-collector"]
    told = one["environment"]
    [default] = re.findall(r'"ALLOY_MEMORY_LIMIT"\), "(\w+)"', ALLOY["otlp.alloy"])
    own = in_mebibytes(told.get("ALLOY_MEMORY_LIMIT") or default)
    if name == "docker-compose-otel.yml":
        own = yaml.safe_load(text("otel/otel.yml"))["processors"]["memory_limiter"]["limit_mib"]
    assert own < in_mebibytes(told["GOMEMLIMIT"]) < in_mebibytes(one["mem_limit"])


def test_the_part_that_is_kept_free_grows_with_the_limit() -> None:
    """A fifth of it by default; 80 MiB of the minimal layer's 150 were more than half."""
    assert not re.search(r"^\s*spike_limit\b", ALLOY["otlp.alloy"], re.MULTILINE)
    assert "spike_limit_mib" not in text("otel/otel.yml")


def test_tempo_hears_of_the_choices_that_it_shares_with_alloy() -> None:
    """Were only one of the two told, the metrics would be made twice, or not at all."""
    shared = set(re.findall(r"\$\{(ALLOY_\w+)", text("tempo/tempo.yaml")))
    assert shared
    assert shared <= set(services()["tempo"]["environment"])


def addresses() -> list[tuple[str, str]]:
    """Every host and port that Alloy and Tempo send to or fetch from, as they are without further settings."""
    content = "\n".join([*ALLOY.values(), text("alloy/endpoints.json"), text("tempo/tempo.yaml")])
    content = re.sub(r"^\s*(//|#).*$", "", content, flags=re.MULTILINE)
    found = re.findall(r"""["/@-]([a-z][a-z-]+):(\d{4,5})\b""", content)
    return sorted({(host, port) for host, port in found if host != "localhost"})


@pytest.mark.parametrize("host", sorted({host for host, _ in addresses()}))
def test_whoever_alloy_and_tempo_speak_with_is_a_container(host: str) -> None:
    """A target that nobody answers for is `up == 0` for ever."""
    assert host in services(), f"{host} is in no compose file"


@pytest.mark.parametrize("address", addresses(), ids=":".join)
def test_and_listens_on_that_port(address: tuple[str, str]) -> None:
    """As far as the port is published; the others are only seen by a test of the running stack."""
    host, port = address
    inside = {str(each).rpartition(":")[2] for each in services().get(host, {}).get("ports", [])}
    assert port in inside or (host, port) in {("tempo", "4317"), ("mythical-queue", "15692")}


def test_every_back_end_is_measured() -> None:
    """Each container that is not one of the services, or a page for people, has a target or an exporter."""
    measured = {target["__address__"].partition(":")[0] for target in ENDPOINTS["backends"]}
    measured |= {"alloy", "mythical-database", "mythical-queue", "load", "load-worker"}  # the last two push
    ours = {f"mythical-{name}" for name in (*OURS, "workshop")}
    assert set(services()) - ours == measured & set(services())


@pytest.mark.parametrize("name", LOADING)
def test_the_load_is_told_only_what_it_reads(name: str) -> None:
    """By the table of its settings, and the two that it shares with the services."""
    told = services()[name]["environment"]
    assert set(told) <= OF_THE_LOAD | DIRECT | {"ENDPOINT_TYPE", "OTEL_RESOURCE_ATTRIBUTES"}
    assert told["LOAD_COLLECTOR"] == "http://alloy:4318"
    assert told["LOAD_HOST"] == f"http://mythical-server:{services()['mythical-server']['environment']['HTTP_PORT']}"


def test_a_master_and_its_workers_are_told_the_same_but_for_what_they_are() -> None:
    """A worker with another shape or other beasts would make another load than the page says."""
    master, worker = (services()[name]["environment"] for name in LOADING)
    own = {name for name in {*master, *worker} if master.get(name, "-") != worker.get(name, "-")}
    assert own == {"LOAD_ROLE", "LOAD_PORT", "LOAD_WORKERS", "LOAD_PROCESSES"}
    assert worker["LOAD_MASTER"] == "load"


def test_senders_and_alloy_mean_the_same_ports() -> None:
    """OTLP, log lines and profiles."""
    for service in OURS:
        told = services()[f"mythical-{service}"]["environment"]
        assert told["TRACING_COLLECTOR_HOST"] == "alloy"
        assert "TRACING_COLLECTOR_PORT" not in told
        assert all(f'"0.0.0.0:{port}"' in ALLOY["otlp.alloy"] for port in STANDARD_PORTS.values())
        assert told["LOGS_TARGET"] == "http://alloy:3100/loki/api/v1/push"
        assert '"ALLOY_LOKI_PORT"), "3100"' in ALLOY["logs.alloy"]
        assert f'"ALLOY_PYROSCOPE_PORT"), "{told["PROFILE_COLLECTOR_PORT"]}"' in ALLOY["profiles.alloy"]


def told(password: str) -> set[str]:
    """The containers whose environment has a password, under whatever name."""
    return {name for name, it in everything().items() if f"${{{password}" in str(it.get("environment"))}


@pytest.mark.parametrize(("role", "script"), [("GRAFANA", "reader.sql"), ("ALLOY", "monitor.sql")])
def test_the_database_tells_the_services_and_the_roles_of_others_apart(role: str, script: str) -> None:
    """A role is made by a script that knows its password from the environment, and is no superuser."""
    made = text(f"postgres/{script}")
    password = f"{role}_DATABASE_PASSWORD"
    assert f"\\getenv password {password}" in made
    assert "NOSUPERUSER" in made
    assert dotenv()[password] != dotenv()["MYTHICAL_DATABASE_PASSWORD"]
    assert told(password) == {"mythical-database", role.lower()}


def test_the_password_of_the_services_is_given_to_nobody_else() -> None:
    """Who measures and who shows have roles of their own."""
    assert told("MYTHICAL_DATABASE_PASSWORD") == {"mythical-database", "mythical-server"}


@pytest.mark.parametrize("name", sorted(set(everything()) - {"mythical-database", "mythical-queue"}))
def test_inner_names_are_reached_without_a_proxy(name: str) -> None:
    """Docker gives each container the proxies of its configuration, which know no name of the suite."""
    told = everything()[name]["environment"]
    direct = told["NO_PROXY"].split(",")
    named = set(
        re.findall(r"(?:https?://|^)([a-z][a-z-]+)(?::\d+|$)", "\n".join(map(str, told.values())), re.MULTILINE)
    )
    assert told["no_proxy"] == told["NO_PROXY"]
    assert direct[-1] == "${NO_PROXY:-}"
    assert {"localhost", "127.0.0.1", *(named & set(everything()))} <= set(direct)
    if name in services():
        assert {*everything(), "host.docker.internal"} - {"load-worker"} == set(direct[3:-1])


def test_health_is_asked_for_without_a_proxy() -> None:
    """BusyBox takes http_proxy for 127.0.0.1 too, and does not know no_proxy: -Y off."""
    for name, service in everything().items():
        test = [str(word) for word in service.get("healthcheck", {}).get("test", [])]
        if "wget" in test:
            assert test[test.index("-Y") + 1] == "off", name
