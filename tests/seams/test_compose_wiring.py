"""Compose, Alloy, and the services use the same names, ports, and variables."""

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
# Read by HTTP libraries and Go programs, which differ in the case.
DIRECT = {"NO_PROXY", "no_proxy"}


def readable(service: str) -> set[str]:
    """Return the variables that a service reads according to the reference."""
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
    """Return the variables that a container gets from the shell or .env."""
    return {
        variable
        for variable, value in environment(file, name).items()
        if value is None or f"${{{variable}" in str(value)
    }


@pytest.mark.parametrize("file", [BASE, SOURCE])
def test_every_setting_is_forwarded_or_listed_as_an_exception(file: str) -> None:
    """Compose would silently ignore a variable that it does not forward."""
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
def test_a_service_gets_only_variables_that_it_reads(name: str, service: str) -> None:
    """Any other variable would have no effect."""
    environ = services(name).get(f"mythical-{service}", {}).get("environment", {})
    assert set(environ) <= readable(service) | DIRECT


def test_every_fault_can_be_set_from_the_shell() -> None:
    """The workshops run commands such as `FAULT_NULL_NAME=0 docker compose up`."""
    for service in OURS:
        faults = {name for name in readable(service) if name.startswith("FAULT_")}
        assert faults <= set(services()[f"mythical-{service}"]["environment"])


@pytest.mark.parametrize("name", FILES)
def test_alloy_gets_only_variables_that_it_reads(name: str) -> None:
    """The Go runtime reads GOMEMLIMIT."""
    environ = set(services(name).get("alloy", {}).get("environment", {})) - {"GOMEMLIMIT"}
    assert environ <= READ_BY_ALLOY | DIRECT


def test_every_switch_of_alloy_can_be_set_from_the_shell() -> None:
    """Compose forwards those of settings.alloy without defaults."""
    choices = set(re.findall(r'sys\.env\("(ALLOY_\w+)"\)', ALLOY["settings.alloy"])) - {"ALLOY_ENDPOINTS"}
    environ = services()["alloy"]["environment"]
    assert choices <= set(environ)
    assert all(environ[choice] is None for choice in choices)


def in_mebibytes(size: str) -> int:
    """Return the number of a size such as 400MiB, 640m as compose writes it, or ${NAME:-400MiB}."""
    return int(re.fullmatch(r"(?:\$\{\w+:-)?(\d+)(?:MiB|m)\}?", size)[1])  # type: ignore[index]  # anything else fails the test


@pytest.mark.parametrize("name", [BASE, "docker-compose-minimal.yml", "docker-compose-otel.yml"])
def test_a_collector_rejects_data_before_the_kernel_kills_it(name: str) -> None:
    """Its limit is below GOMEMLIMIT, which is below the container's limit; senders retry."""
    one = services(name).get("alloy") or services(name)["otel-collector"]
    environ = one["environment"]
    [default] = re.findall(r'"ALLOY_MEMORY_LIMIT"\), "(\w+)"', ALLOY["otlp.alloy"])
    own = in_mebibytes(environ.get("ALLOY_MEMORY_LIMIT") or default)
    if name == "docker-compose-otel.yml":
        own = yaml.safe_load(text("otel/otel.yml"))["processors"]["memory_limiter"]["limit_mib"]
    assert own < in_mebibytes(environ["GOMEMLIMIT"]) < in_mebibytes(one["mem_limit"])


def test_the_spike_limit_grows_with_the_memory_limit() -> None:
    """By default it is a fifth of the limit; a fixed 80 MiB would be more than half of the minimal layer's 150."""
    assert not re.search(r"^\s*spike_limit\b", ALLOY["otlp.alloy"], re.MULTILINE)
    assert "spike_limit_mib" not in text("otel/otel.yml")


def test_tempo_gets_the_switches_that_it_shares_with_alloy() -> None:
    """If only one of them got a switch, metrics would be generated twice or not at all."""
    shared = set(re.findall(r"\$\{(ALLOY_\w+)", text("tempo/tempo.yaml")))
    assert shared
    assert shared <= set(services()["tempo"]["environment"])


def addresses() -> list[tuple[str, str]]:
    """Return every host and port that Alloy and Tempo connect to by default."""
    content = "\n".join([*ALLOY.values(), text("alloy/endpoints.json"), text("tempo/tempo.yaml")])
    content = re.sub(r"^\s*(//|#).*$", "", content, flags=re.MULTILINE)
    found = re.findall(r"""["/@-]([a-z][a-z-]+):(\d{4,5})\b""", content)
    return sorted({(host, port) for host, port in found if host != "localhost"})


@pytest.mark.parametrize("host", sorted({host for host, _ in addresses()}))
def test_each_host_that_alloy_and_tempo_connect_to_is_a_container(host: str) -> None:
    """A target without a container is `up == 0` forever."""
    assert host in services(), f"{host} is in no compose file"


@pytest.mark.parametrize("address", addresses(), ids=":".join)
def test_the_container_listens_on_that_port(address: tuple[str, str]) -> None:
    """Only published ports are checked; a test of the running stack covers the others."""
    host, port = address
    inside = {str(each).rpartition(":")[2] for each in services().get(host, {}).get("ports", [])}
    assert port in inside or (host, port) in {("tempo", "4317"), ("mythical-queue", "15692")}


def test_every_backend_is_scraped() -> None:
    """Each container that is not a service or a page has a target or an exporter."""
    measured = {target["__address__"].partition(":")[0] for target in ENDPOINTS["backends"]}
    measured |= {"alloy", "mythical-database", "mythical-queue", "load", "load-worker"}  # the last two push
    ours = {f"mythical-{name}" for name in (*OURS, "workshop")}
    assert set(services()) - ours == measured & set(services())


@pytest.mark.parametrize("name", LOADING)
def test_the_load_gets_only_variables_that_it_reads(name: str) -> None:
    """The table of its settings lists them, in addition to two that it shares with the services."""
    environ = services()[name]["environment"]
    assert set(environ) <= OF_THE_LOAD | DIRECT | {"ENDPOINT_TYPE", "OTEL_RESOURCE_ATTRIBUTES"}
    assert environ["LOAD_COLLECTOR"] == "http://alloy:4318"
    assert environ["LOAD_HOST"] == f"http://mythical-server:{services()['mythical-server']['environment']['HTTP_PORT']}"


def test_a_load_master_and_its_workers_differ_only_in_their_roles() -> None:
    """A worker with another shape or other beasts would send another load than the page describes."""
    master, worker = (services()[name]["environment"] for name in LOADING)
    different = {name for name in {*master, *worker} if master.get(name, "-") != worker.get(name, "-")}
    assert different == {"LOAD_ROLE", "LOAD_PORT", "LOAD_WORKERS", "LOAD_PROCESSES"}
    assert worker["LOAD_MASTER"] == "load"


def test_senders_and_alloy_use_the_same_ports() -> None:
    """The ports of OTLP, log lines, and profiles."""
    for service in OURS:
        environ = services()[f"mythical-{service}"]["environment"]
        assert environ["TRACING_COLLECTOR_HOST"] == "alloy"
        assert "TRACING_COLLECTOR_PORT" not in environ
        assert all(f'"0.0.0.0:{port}"' in ALLOY["otlp.alloy"] for port in STANDARD_PORTS.values())
        assert environ["LOGS_TARGET"] == "http://alloy:3100/loki/api/v1/push"
        assert '"ALLOY_LOKI_PORT"), "3100"' in ALLOY["logs.alloy"]
        assert f'"ALLOY_PYROSCOPE_PORT"), "{environ["PROFILE_COLLECTOR_PORT"]}"' in ALLOY["profiles.alloy"]


def containers_with(password: str) -> set[str]:
    """Return the containers that have a password in any environment variable."""
    return {name for name, it in everything().items() if f"${{{password}" in str(it.get("environment"))}


@pytest.mark.parametrize(("role", "script"), [("GRAFANA", "reader.sql"), ("ALLOY", "monitor.sql")])
def test_the_database_has_a_role_for_each_client(role: str, script: str) -> None:
    """A script creates the role with a password from the environment, and the role is not a superuser."""
    made = text(f"postgres/{script}")
    password = f"{role}_DATABASE_PASSWORD"
    assert f"\\getenv password {password}" in made
    assert "NOSUPERUSER" in made
    assert dotenv()[password] != dotenv()["MYTHICAL_DATABASE_PASSWORD"]
    assert containers_with(password) == {"mythical-database", role.lower()}


def test_only_the_server_and_the_database_have_the_password_of_the_services() -> None:
    """Monitoring and dashboards use separate roles."""
    assert containers_with("MYTHICAL_DATABASE_PASSWORD") == {"mythical-database", "mythical-server"}


@pytest.mark.parametrize("name", sorted(set(everything()) - {"mythical-database", "mythical-queue"}))
def test_internal_names_are_reached_without_a_proxy(name: str) -> None:
    """Docker gives each container the proxies of its configuration, which cannot resolve names of the suite."""
    environ = everything()[name]["environment"]
    direct = environ["NO_PROXY"].split(",")
    named = set(
        re.findall(r"(?:https?://|^)([a-z][a-z-]+)(?::\d+|$)", "\n".join(map(str, environ.values())), re.MULTILINE)
    )
    assert environ["no_proxy"] == environ["NO_PROXY"]
    assert direct[-1] == "${NO_PROXY:-}"
    assert {"localhost", "127.0.0.1", *(named & set(everything()))} <= set(direct)
    if name in services():
        assert {*everything(), "host.docker.internal"} - {"load-worker"} == set(direct[3:-1])


def test_health_checks_do_not_use_a_proxy() -> None:
    """BusyBox's wget uses http_proxy for 127.0.0.1 too and ignores no_proxy, except with -Y off."""
    for name, service in everything().items():
        test = [str(word) for word in service.get("healthcheck", {}).get("test", [])]
        if "wget" in test:
            assert test[test.index("-Y") + 1] == "off", name
