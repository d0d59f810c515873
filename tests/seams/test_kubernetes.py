"""loadtest/kubernetes.yaml fits the image, the settings and compose, and asks for no more than it needs."""

from functools import cache
from typing import Any

import pytest
import yaml

from tests.seams.compose_files import dotenv, services
from tests.seams.tree import ROOT, rows, sections, words

SETTINGS = dict(sections((ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")))
KNOWN = {words(row["Variable"])[0] for row in rows(SETTINGS["The load"])}
DEPLOYMENTS = ("load-master", "load-worker")


@cache
def documents() -> dict[tuple[str, str], dict[str, Any]]:
    """Return what is applied, by kind and name."""
    found = yaml.safe_load_all((ROOT / "loadtest/kubernetes.yaml").read_text(encoding="utf-8"))
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def pod(name: str) -> dict[str, Any]:
    """Return the pod of a deployment."""
    spec: dict[str, Any] = documents()["Deployment", name]["spec"]["template"]["spec"]
    return spec


def container(name: str) -> dict[str, Any]:
    """Return the one container of a deployment."""
    (one,) = pod(name)["containers"]
    return dict(one)


def told(name: str) -> dict[str, str]:
    """Return what a deployment is told, from what is shared and of its own."""
    shared: dict[str, str] = documents()["ConfigMap", "load"]["data"]
    return shared | {one["name"]: one["value"] for one in container(name)["env"]}


def test_there_is_what_a_master_and_workers_need() -> None:
    """And nothing else, such as an account with rights."""
    assert set(documents()) == {("ConfigMap", "load"), ("Service", "load"), *(("Deployment", it) for it in DEPLOYMENTS)}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_deployment_finds_its_pods(name: str) -> None:
    """By labels that the pods have and the other deployment's have not."""
    spec = documents()["Deployment", name]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert labels["app.kubernetes.io/component"] == name.removeprefix("load-")


def test_the_service_leads_to_the_master_on_ports_that_it_has() -> None:
    """The page, and the port that workers are told."""
    spec = documents()["Service", "load"]["spec"]
    labels = documents()["Deployment", "load-master"]["spec"]["template"]["metadata"]["labels"]
    assert spec["selector"].items() <= labels.items()
    ports = {port["name"]: port["containerPort"] for port in container("load-master")["ports"]}
    assert {port["targetPort"]: port["port"] for port in spec["ports"]} == ports
    master = told("load-master")
    assert ports == {"page": int(master["LOAD_PORT"]), "workers": int(master["LOAD_MASTER_PORT"])}
    assert told("load-worker")["LOAD_MASTER"] == "load"


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_each_is_told_only_what_the_load_reads(name: str) -> None:
    """By the names of the settings; a number without quotes would be refused by the cluster."""
    assert set(told(name)) <= KNOWN
    assert all(isinstance(value, str) for value in told(name).values())
    assert told(name)["LOAD_ROLE"] == name.removeprefix("load-")
    assert pod(name)["enableServiceLinks"] is False, "the cluster itself would set LOAD_PORT"


def test_the_master_waits_for_as_many_workers_as_there_are() -> None:
    """With more it would wait for ever."""
    assert int(told("load-master")["LOAD_WORKERS"]) <= documents()["Deployment", "load-worker"]["spec"]["replicas"]
    assert documents()["Deployment", "load-master"]["spec"]["replicas"] == 1


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_it_is_the_image_of_compose_with_its_health_check_and_its_limit(name: str) -> None:
    """What was tried there holds here."""
    it, there = container(name), services()["load"]
    assert it["image"] == f"mythical-load:{dotenv()['MYTHICAL_VERSION']}"
    assert it["args"] == there["command"]
    for probe in ("startupProbe", "livenessProbe"):
        assert it[probe]["exec"]["command"] == there["healthcheck"]["test"][1:]
    assert it["resources"]["limits"]["memory"] == there["mem_limit"].replace("m", "Mi")
    assert it["resources"]["requests"].keys() == {"cpu", "memory"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_is_contained(name: str) -> None:
    """As the profile "restricted" of the pod security standards asks, and with a root that is read-only."""
    assert pod(name)["automountServiceAccountToken"] is False
    assert pod(name)["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [mount["mountPath"] for mount in container(name)["volumeMounts"]] == ["/tmp"]  # noqa: S108 - of the container
