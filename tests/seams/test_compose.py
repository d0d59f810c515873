"""Every container has limits, versions and ports come from .env, and a layer only patches the base."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.seams.compose_files import (
    BASE,
    LAYERS,
    SOURCE,
    VARIABLE,
    Service,
    Tagged,
    dotenv,
    everything,
    filled,
    layer_file,
    loaded,
    mounts,
    published,
    services,
    text,
)
from tests.seams.tree import ROOT, committed
from tests.stack.test_stack_containers import OTHERS, PAGES

FILES = [BASE, SOURCE, *(layer_file(layer) for layer in LAYERS)]
# There can be several of these, so that they cannot have a fixed name.
MANY = {"load-worker"}
OURS = {"mythical-requester", "mythical-server", "mythical-recorder", "mythical-frontend"}
EVERY = pytest.mark.parametrize("name", everything())


def service(name: str) -> Service:
    """Return a service by its name."""
    return everything()[name]


def test_the_names_of_the_original_are_kept() -> None:
    """Workshops and configurations reach containers by these names."""
    assert set(services()) >= OURS | {
        "mythical-database",
        "mythical-queue",
        "alloy",
        "tempo",
        "loki",
        "mimir",
        "pyroscope",
        "grafana",
    }


@EVERY
def test_a_container_is_named_as_its_service(name: str) -> None:
    """Commands of the workshops such as `docker logs mythical-server` depend on it."""
    assert service(name).get("container_name") == (None if name in MANY else name)


@EVERY
def test_every_container_has_a_health_check(name: str) -> None:
    """The interval is short, so that dependent containers start without delay."""
    check = service(name)["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert re.fullmatch(r"[1-5]s", check["interval"])
    assert check["start_period"]
    assert "start_interval" not in check, "the engine of Debian 12 does not start with it"


@EVERY
def test_no_health_check_needs_a_program_that_the_image_does_not_have(name: str) -> None:
    """Only Grafana's image has curl, and none has wget in a directory of the PATH."""
    test = service(name)["healthcheck"]["test"]
    assert not {"curl", "wget"} & {test[1], *test[1].split()} or name == "grafana"


@EVERY
def test_every_container_has_resource_limits_and_no_privileges(name: str) -> None:
    """A failing container does not affect others, and an attacker in it gains nothing."""
    it = service(name)
    assert re.fullmatch(r"\d+m", it["mem_limit"])
    assert it["read_only"] is True
    assert it["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in it["security_opt"]
    assert 0 < it["pids_limit"] < 1000
    assert it["logging"]["options"]["max-size"]
    assert it["restart"].startswith("on-failure")
    assert not it.get("privileged")


@EVERY
def test_gomemlimit_is_below_the_memory_limit(name: str) -> None:
    """The garbage collector works harder from nine tenths of it; otherwise the kernel would kill the program first."""
    goal = service(name).get("environment", {}).get("GOMEMLIMIT")
    if goal:
        assert int(goal.removesuffix("MiB")) <= 0.9 * int(service(name)["mem_limit"].removesuffix("m"))


def test_only_beyla_has_capabilities_and_the_process_namespace_of_the_host() -> None:
    """It cannot work without them."""
    assert [name for name, it in everything().items() if "cap_add" in it or "pid" in it] == ["beyla"]


@EVERY
def test_every_image_version_is_pinned_in_dotenv(name: str) -> None:
    """The compose file may have the name of the image; its version is in .env."""
    image = service(name)["image"]
    assert VARIABLE.search(image), image
    tag = filled(image).rpartition(":")[2]
    assert re.match(r"v?\d+\.\d+", tag), f"{filled(image)} is not pinned"


def test_built_images_use_pinned_versions() -> None:
    """Each FROM and each COPY --from of another image has a version."""
    recipes = [text("Dockerfile")] + [
        it["build"]["dockerfile_inline"] for it in everything().values() if "dockerfile_inline" in it.get("build", {})
    ]
    for recipe in recipes:
        for image in re.findall(r"(?:^FROM |--from=)(\S+)", filled(recipe), re.MULTILINE):
            assert image in ("packages", "load-packages", "plain", "") or re.search(r":v?\d+\.\d+", image), image


def test_the_stack_is_tested_at_every_published_port() -> None:
    """A new port in .env must be in one of the lists."""
    assert {name for name in dotenv() if name.endswith("_PORT")} == {*PAGES, *OTHERS}


@pytest.mark.parametrize("name", FILES)
def test_every_variable_has_a_value_or_a_default_or_an_error_message(name: str) -> None:
    """A misspelled name would be replaced with nothing."""
    for variable, kind, _ in VARIABLE.findall(text(name)):
        assert variable in dotenv() or kind in ("-", ":-", ":+", ":?"), f"{name}: {variable}"


@pytest.mark.parametrize("variable", dotenv())
def test_every_value_of_dotenv_is_used_and_required(variable: str) -> None:
    """Without the value, compose fails with a message that names the variable."""
    used = [kind for name in FILES for found, kind, _ in VARIABLE.findall(text(name)) if found == variable]
    assert used, f"nothing uses {variable}"
    assert {":?", "?"} & set(used)  # the latter if an empty value has a meaning


def test_no_two_ports_are_equal() -> None:
    """Otherwise, the second container would not start."""
    ports = [value for name, value in dotenv().items() if name.endswith("_PORT")]
    assert len(set(ports)) == len(ports)


@EVERY
def test_ports_are_published_on_loopback_only(name: str) -> None:
    """Most of them have no password."""
    for address, outside, _ in published(service(name)):
        assert address == "127.0.0.1"
        assert VARIABLE.fullmatch(outside), f"{outside} is not from .env"


# Ports that no file of the suite sets: the defaults of the images.
BY_DEFAULT = {
    ("mythical-database", "5432"),
    ("mythical-queue", "5672"),
    ("mythical-queue", "15672"),
    ("pyroscope", "4040"),
    ("grafana", "3000"),
}


@EVERY
def test_every_published_port_has_a_listener(name: str) -> None:
    """The port is set in the service's environment, its command or the configuration that it reads."""
    it = service(name)
    known = set(committed())  # without the __pycache__ in the folder of the rules' source
    files = [file for folder, _ in mounts(it) for file in (folder, *folder.rglob("*")) if file in known]
    assert files or not mounts(it), f"the configuration of {name} does not exist"
    settings = f"{it.get('environment')} {it.get('command')}"
    settings += "".join(file.read_text(encoding="utf-8") for file in files)
    for _, _, inside in published(it):
        assert (name, inside) in BY_DEFAULT or re.search(rf"\b{inside}\b", settings), f"what listens on {inside}?"


@EVERY
def test_mounted_files_are_committed_and_read_only(name: str) -> None:
    """The engine would create a missing folder, empty and owned by root."""
    top = {path.relative_to(ROOT).parts[0] for path in committed()}
    for folder, _ in mounts(service(name)):
        assert folder.relative_to(ROOT).parts[0] in top, f"{folder.name} is not committed"
    for volume in service(name).get("volumes", []):
        source, _, rest = str(volume).partition(":")
        if source.startswith("./"):
            assert rest.endswith(":ro,z"), f"{volume}: SELinux hides files without a label"


def test_persistent_data_is_in_named_volumes() -> None:
    """An anonymous volume is lost with its container, or left behind forever."""
    named = {str(volume).split(":")[0] for it in services().values() for volume in it.get("volumes", [])}
    assert {volume for volume in named if volume[0] not in "./"} == set(loaded(BASE)["volumes"])


def test_containers_wait_for_healthy_dependencies() -> None:
    """The exceptions only order the shutdown: a container stops before those that receive its last data."""
    others = {
        "mythical-requester": {"mythical-server"},
        "mythical-frontend": {"mythical-server"},
        "alloy": {"tempo", "loki", "mimir", "pyroscope"},
        "tempo": {"mimir"},
    }
    for name, it in services().items():
        waits = {other: how["condition"] for other, how in it.get("depends_on", {}).items()}
        assert {other for other, how in waits.items() if how != "service_healthy"} == others.get(name, set())
    for name in OURS:
        assert "alloy" in services()[name]["depends_on"], "the first telemetry would be lost"


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_only_patches(layer: str) -> None:
    """A value that equals the value of the base would be a copy that gets outdated."""
    for name, patch in services(layer_file(layer)).items():
        if name not in services():
            continue
        base = services()[name]
        assert set(patch) <= {"environment", "depends_on", "mem_limit", "entrypoint"}, (
            f"{layer} changes more of {name} than it has to"
        )
        for key, value in patch.items():
            assert value != base.get(key), f"{layer} repeats {key} of {name}"
        repeated = set(patch.get("environment", {}).items()) & set(base.get("environment", {}).items())
        assert not repeated, f"{layer} repeats {repeated}"


def test_placeholders_of_cloud_addresses_stop_alloy_with_one_line() -> None:
    """The committed file has placeholders, which Alloy would accept as addresses."""
    command = [part.replace("$$", "$") for part in services(layer_file("cloud"))["alloy"]["entrypoint"]]
    endpoints = {"ALLOY_ENDPOINTS": str(ROOT / "alloy/endpoints-cloud.json")}
    done = subprocess.run(command, env=os.environ | endpoints, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode == 2
    assert done.stderr.startswith("alloy/endpoints-cloud.json: put the addresses of your stack in place of ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("layer", LAYERS)
def test_a_service_that_a_layer_removes_is_removed_with_its_volume(layer: str) -> None:
    """The service is in the base, and no other service depends on it."""
    content = loaded(layer_file(layer))
    removed = {name for name, it in content["services"].items() if isinstance(it, Tagged)}
    assert removed <= set(services())
    left = {name: it for name, it in services().items() if name not in removed}
    volumes = {str(volume).split(":")[0] for it in left.values() for volume in it.get("volumes", [])}
    volumes |= {str(v).split(":")[0] for it in services(layer_file(layer)).values() for v in it.get("volumes", [])}
    volumes_kept = {
        name for name in loaded(BASE)["volumes"] if not isinstance(content.get("volumes", {}).get(name), Tagged)
    }
    assert volumes_kept == {name for name in volumes if name[0] not in "./"}
    for name, it in left.items():
        waits = it.get("depends_on", {})
        patch = content["services"].get(name, {}).get("depends_on", {})
        if isinstance(patch, Tagged):
            waits, patch = patch.value or {}, {}
        kept = set(waits) - {other for other, how in patch.items() if isinstance(how, Tagged)}
        assert not kept & removed, f"{name} depends on a service that {layer} removes"


def test_the_version_of_the_image_is_that_of_the_project() -> None:
    """With a new version, an image that was built before is not used."""
    assert dotenv()["MYTHICAL_VERSION"] == tomllib.loads(text("pyproject.toml"))["project"]["version"]


def test_the_dockerfile_builds_with_debian_12_and_without_fetching_a_frontend() -> None:
    """A `# syntax=` line fetches a frontend; heredocs and `COPY --link` need a newer builder than Debian 12's."""
    recipe = text("Dockerfile")
    assert not re.search(r"^#\s*syntax\s*=", recipe, re.MULTILINE)
    assert "<<" not in recipe
    assert "--link" not in recipe
    assert f"ARG PYTHON_IMAGE={dotenv()['PYTHON_IMAGE']}\n" in recipe


def test_the_image_has_locked_wheels_and_an_unprivileged_user() -> None:
    """It contains no compiler and no installer; the user is a number, which Kubernetes requires."""
    recipe = text("Dockerfile")
    final = recipe[recipe.index(" AS plain\n") :]
    assert "--require-hashes" in recipe
    assert "--only-binary :all:" in recipe
    assert "pip install" not in final
    assert "uninstall" in final
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", final, re.MULTILINE)
    assert "amd64" not in recipe


def test_the_image_omits_a_drilldown_app_that_cannot_be_downloaded(tmp_path: Path) -> None:
    """The build reports it with a remedy in one line and continues; the versions of all apps are fixed."""
    apps = dotenv()["DRILLDOWN_APPS"]
    assert re.fullmatch(r"(grafana-[a-z]+-app@\d+\.\d+\.\d+ ?){4}", apps)
    recipe = services()["grafana"]["build"]["dockerfile_inline"].replace("$$", "$").replace("\\\n", "")
    steps = re.findall(r"^RUN (.*)$", recipe, re.MULTILINE)
    assert len(steps) == 1
    grafana, folder = tmp_path / "grafana", tmp_path / "apps"
    grafana.write_text('#!/bin/sh\n[ "$6" != grafana-pyroscope-app ] && echo "$@"\n', encoding="utf-8")
    grafana.chmod(0o755)
    settings = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "GF_PATHS_PLUGINS": str(folder), "DRILLDOWN_APPS": apps}
    done = subprocess.run(["/bin/sh", "-c", steps[0]], env=settings, capture_output=True, text=True, check=True)  # noqa: S603
    installed = [f"cli --pluginsDir {folder} plugins install {app.replace('@', ' ')}" for app in apps.split()[:3]]
    missing = f"Grafana will run without {apps.split()[3]}, which wasn't downloaded. To try again: "
    assert done.stdout.splitlines() == [*installed, missing + "docker compose build --no-cache grafana"]
    assert folder.is_dir()


def test_the_image_does_not_depend_on_file_modes_of_the_checkout() -> None:
    """A clone with umask 077 would result in an image whose user cannot read its files."""
    for stage in text("Dockerfile").split("\nFROM ")[1:]:
        last = max(stage.rfind(f"\nCOPY {part}") for part in ("common", "services", "workshop", "tools", "loadtest"))
        assert last < 0 or "RUN chmod -R a+rX /app && " in stage[last:], stage
        assert "\nCOPY LICENSE" not in stage


HAS_COMPOSE = bool(shutil.which("docker")) and os.system("docker compose version >/dev/null 2>&1") == 0  # noqa: S605, S607
COMBINATIONS = [
    (),
    *((layer,) for layer in LAYERS),
    *((one, last) for one in ("beyla", "minimal") for last in ("cloud", "otel")),
]
CREDENTIALS = [variable for variable, kind, _ in VARIABLE.findall(text("docker-compose-cloud.yml")) if kind == ":?"]


def config(layers: tuple[str, ...], base: str = BASE, **environ: str) -> subprocess.CompletedProcess[str]:
    """Return the merged configuration of compose."""
    if not HAS_COMPOSE:
        pytest.skip("docker compose is not installed")
    files = [part for name in (base, *map(layer_file, layers)) for part in ("-f", name)]
    return subprocess.run(  # noqa: S603
        ["docker", "compose", *files, "config", "--format", "json"],  # noqa: S607
        cwd=ROOT,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("layers", [*COMBINATIONS, ("minimal", "beyla")], ids="+".join)
def test_compose_accepts_each_combination_of_files(layers: tuple[str, ...]) -> None:
    """It prints no error and no warning."""
    done = config(layers, **dict.fromkeys(CREDENTIALS, "1"))
    assert (done.returncode, done.stderr) == (0, "")


STACK = {"alloy", "tempo", "loki", "mimir", "pyroscope", "grafana"}


def test_the_source_has_every_service_but_the_stack() -> None:
    """Each service extends that of the base and changes only what a sender needs."""
    assert set(services(SOURCE)) == set(services()) - STACK
    for name, it in services(SOURCE).items():
        assert it["extends"] == {"file": BASE, "service": name}
        assert set(it) <= {"extends", "environment", "depends_on", "extra_hosts", "volumes"}
    assert set(loaded(SOURCE)["volumes"]) == {"database", "database-log", "queue"}


def test_the_source_does_not_refer_to_the_stack() -> None:
    """No address and no dependency of a removed container is left after compose merges the files."""
    done = config((), SOURCE, OTEL_EXPORTER_OTLP_ENDPOINT="https://collector.example:4318")
    assert (done.returncode, done.stderr) == (0, "")
    for name, it in json.loads(done.stdout)["services"].items():
        assert not STACK & set(it.get("depends_on", {})), name
        if name not in {"mythical-database", "mythical-queue"}:  # their users are named after containers of the stack
            values = [str(value) for key, value in it["environment"].items() if key.lower() != "no_proxy"]
            assert not STACK & {word for value in values for word in re.split(r"[/:@]", value)}, name


def test_the_source_requires_its_endpoint_and_mounts_tls_files() -> None:
    """A missing endpoint is one line; a certificate of this machine has the same path in each container."""
    missing = config((), SOURCE)
    assert missing.returncode != 0
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is missing a value: has to be the URL to send to" in missing.stderr
    done = config((), SOURCE, OTEL_EXPORTER_OTLP_ENDPOINT="https://c:4318", OTEL_EXPORTER_OTLP_CERTIFICATE="my/ca.pem")
    for name in (*OURS, "load", "load-worker"):
        it = json.loads(done.stdout)["services"][name]
        sources = {volume["target"]: volume["source"] for volume in it["volumes"]}
        assert sources[it["environment"]["OTEL_EXPORTER_OTLP_CERTIFICATE"]] == str(ROOT / "my/ca.pem")
        assert not it["environment"]["OTEL_EXPORTER_OTLP_CLIENT_KEY"]


@pytest.mark.parametrize("variable", ["SERVER_PORT", "TEMPO_IMAGE", "MYTHICAL_DATABASE_PASSWORD"])
def test_a_missing_value_is_named(variable: str) -> None:
    """Compose fails with one line before anything starts."""
    done = config((), **{variable: ""})
    assert done.returncode != 0
    assert re.search(rf"required variable {variable} is missing a value: is missing from \.env", done.stderr)


@pytest.mark.parametrize("variable", CREDENTIALS)
def test_a_missing_credential_is_named(variable: str) -> None:
    """Alloy would send an empty credential, and every push would be rejected."""
    done = config(("cloud",), **(dict.fromkeys(CREDENTIALS, "1") | {variable: ""}))
    assert done.returncode != 0
    assert variable in done.stderr
    assert "docs/compose.md" in done.stderr


def test_anonymous_users_of_grafana_are_viewers_by_default() -> None:
    """Viewers can use Explore; a workshop sets another role with GRAFANA_ROLE."""
    environ = services()["grafana"]["environment"]
    assert environ["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "${GRAFANA_ROLE:-Viewer}"
    assert environ["GF_USERS_VIEWERS_CAN_EDIT"] == "true"
    assert "GRAFANA_ROLE" not in dotenv()
