"""The names in the doctor's queries are those of the suite."""

import re

import pytest
import yaml

from doctor.alloy import LOAD_BALANCER
from doctor.containers import known
from doctor.service import DROP_COUNTERS, SWITCHED_OFF
from doctor.signal_paths import PATHS
from doctor.suite_kubernetes import ACCOUNT, CLUSTER_PATHS, PERMISSIONS, REPLICAS
from tests.seams.compose_files import dotenv, everything, text
from tests.seams.tree import ROOT
from tools import suite

ALLOY = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "alloy").glob("*.alloy")))
SETTINGS = text("docs/reference/settings.md")


@pytest.mark.parametrize("signal", PATHS)
def test_every_hop_of_a_signal_exists(signal: str) -> None:
    """A hop is a receiver or exporter of Alloy, the backend, its port, or the setting of the service."""
    path = PATHS[signal]
    for component in (path.receiver, path.exporter):
        kind, _, label = component.rpartition(".")
        assert f'\n{kind} "{label}" {{' in ALLOY
    assert path.backend in everything()
    assert path.port_variable in dotenv()
    assert f"`{path.target_variable}`" in SETTINGS


@pytest.mark.parametrize("component", [*(path.receiver for path in CLUSTER_PATHS.values()), LOAD_BALANCER])
def test_every_component_in_a_cluster_exists(component: str) -> None:
    """It is in kubernetes.alloy or in the configuration of compose, as is the name of the replicas' Service."""
    kind, _, label = component.rpartition(".")
    cluster = text("kubernetes/base/alloy/kubernetes.alloy")
    assert f'\n{kind} "{label}" {{' in ALLOY + cluster
    assert f'hostname = "{REPLICAS}"' in cluster


def test_the_doctor_asks_for_every_permission_of_alloy() -> None:
    """It asks for one verb of each resource in the ClusterRole, as the account to which the role is bound."""
    documents = list(yaml.safe_load_all(text("kubernetes/base/alloy/alloy.yaml")))
    (role,) = (each for each in documents if each["kind"] == "ClusterRole")
    granted = {
        (verb, f"{resource}.{rule['apiGroups'][0]}".rstrip("."))
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert set(PERMISSIONS) <= granted
    assert {resource for _, resource in PERMISSIONS} == {resource for _, resource in granted}
    (binding,) = (each for each in documents if each["kind"] == "ClusterRoleBinding")
    (subject,) = binding["subjects"]
    assert f"system:serviceaccount:{subject['namespace']}:{subject['name']}" == ACCOUNT


def test_the_services_are_those_of_the_suite() -> None:
    """Each has a port variable, and the signals are those of `make demo`."""
    assert {service.port_variable for service in suite.SERVICES} <= set(dotenv())
    assert set(PATHS) == set(suite.SIGNALS)


def test_the_doctor_knows_every_container() -> None:
    """By the container name in any layer. Load workers have no fixed name, because there can be several."""
    assert known() == {it["container_name"] for it in everything().values() if "container_name" in it}


@pytest.mark.parametrize("signal", SWITCHED_OFF)
def test_every_setting_that_stops_a_signal_is_documented(signal: str) -> None:
    """The documentation has it under the same name."""
    assert all(f"`{name}`" in SETTINGS for name, _ in SWITCHED_OFF[signal])


@pytest.mark.parametrize("signal", DROP_COUNTERS)
def test_every_counter_of_dropped_data_is_documented(signal: str) -> None:
    """The documentation has OpenTelemetry's names: with dots and without _total."""
    documented = {re.sub(r"\W", "_", name) for name in re.findall(r"`([\w.]+)`", text("docs/reference/telemetry.md"))}
    assert {name.removesuffix("_total") for name, _ in DROP_COUNTERS[signal]} <= documented
