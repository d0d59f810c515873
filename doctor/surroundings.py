"""What the shell and the system around the suite do to it: variables, limits, file modes, SELinux, older data."""

import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path

from common.core.env import LIBPQ_SECURITY
from doctor.containers import run
from doctor.env_files import ROOT
from doctor.report import BROKEN, NOTE, Finding
from local.state import ENOUGH_FILES, LEAST_FILES

# Prefixes of variables that are meant for other programs and that the suite removes or does not read.
IGNORED = ("PG", "LOCUST_", "FLASK_", "GRANIAN_", "AMQP", "RABBITMQ_", "ERL_")
# Variables that Compose reads by itself.
COMPOSE = ("COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_ENV_FILES", "COMPOSE_DISABLE_ENV_FILE")
CERTIFICATES = (
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
)
BOUND = re.compile(r"^ +- (\./[^:\s]+):", re.MULTILINE)
MODES = 0o444, 0o555  # what all users need: to read a file, to read and search a folder
SELINUX = Path("/sys/fs/selinux/enforce")
DATABASE = "mythical-database"
TAR_HEADER = 512  # bytes, before the content of the first file


def check_shell(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Report variables of the shell that have an effect, or none although a user might expect one, and low limits."""
    yield from _proxies(environ)
    ignored = [name for name in sorted(environ) if name.startswith(IGNORED) and not name.startswith(LIBPQ_SECURITY)]
    if ignored:
        names = ", ".join(ignored[:5]) + (f" and {len(ignored) - 5} more" if ignored[5:] else "")
        yield Finding(
            "shell", f"{names}: the suite ignores them", NOTE, "docs/reference/settings.md lists its settings"
        )
    if chosen := [name for name in COMPOSE if environ.get(name)]:
        said = f"{', '.join(chosen)}: Compose reads other files, or keeps the data under another name, than documented"
        yield Finding("shell", said, NOTE, f"unset {' '.join(chosen)} unless that is intended")
    for name in CERTIFICATES:
        if (path := environ.get(name)) and not os.access(path, os.R_OK):
            said = f"{name}={path} cannot be read: connections by TLS fail"
            yield Finding("shell", said, NOTE, f"correct {name}, or unset it")
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= limit < LEAST_FILES:
        said = f"a process may open {limit} ({LEAST_FILES} needed)"
        yield Finding("open files", said, BROKEN, f"ulimit -n {ENOUGH_FILES}")


def _proxies(environ: Mapping[str, str]) -> Iterator[Finding]:
    names = [name for name in environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy") and environ[name]]
    if names:
        said = f"{', '.join(sorted(names))}: addresses outside this machine are reached through a proxy"
        yield Finding("shell", f"{said}, those of the suite directly", NOTE, "NO_PROXY lists further exceptions")


def check_files(root: Path = ROOT) -> list[Finding]:
    """Report files that containers cannot read, because they run as other users than the owner of the checkout."""
    sources = {
        source
        for file in root.glob("docker-compose*.yml")
        for source in BOUND.findall(file.read_text(encoding="utf-8"))
    }
    tops = sorted(root / source for source in sources if (root / source).exists())
    unreadable = [
        path
        for top in tops
        for path in (top, *top.rglob("*"))
        if (needed := MODES[path.is_dir()]) and path.stat().st_mode & needed != needed
    ]
    if not unreadable:
        return []
    names = " ".join(dict.fromkeys(path.relative_to(root).parts[0] for path in unreadable))
    more = f" and {len(unreadable) - 1} more" if unreadable[1:] else ""
    said = f"{unreadable[0].relative_to(root)}{more} cannot be read by the users of the containers, as with umask 077"
    return [Finding("files", said, BROKEN, f"chmod -R a+rX {names}")]


def check_selinux(enforce: Path = SELINUX) -> list[Finding]:
    """Report that SELinux is enforcing: it hides what is not labeled for containers."""
    try:
        enforcing = enforce.read_text(encoding="ascii").strip() == "1"
    except OSError:
        return []
    if not enforcing:
        return []
    said = "is enforcing: Compose labels the suite's folders (:z), but Alloy cannot read this host's metrics"
    return [Finding("SELinux", said, NOTE, "see SELinux in docs/troubleshooting.md")]


def check_database(variables: Mapping[str, str]) -> list[Finding]:
    """Report a volume whose data another major version of Postgres wrote: the container would not start."""
    wanted = re.match(r"[^@]*:(\d+)(?=[.@-]|$)", variables.get("POSTGRES_IMAGE", ""))
    found = re.match(r"\d+", _data_version())
    if not wanted or not found or wanted[1] == found[0]:
        return []
    said = f"the data are of Postgres {found[0]}, but POSTGRES_IMAGE={variables['POSTGRES_IMAGE']} cannot read them"
    return [Finding(DATABASE, said, BROKEN, "see Postgres upgrade in docs/troubleshooting.md for the two ways")]


def _data_version() -> str:
    """Return the major version of the data in the database's volume; empty if there is none, or it cannot be read."""
    # With a container, running or not, Docker copies from its volumes; without one, only root can read them.
    if tar := run("cp", f"{DATABASE}:/var/lib/postgresql/data/PG_VERSION", "-"):
        return tar[TAR_HEADER:]
    volume = (run("volume", "inspect", "--format", "{{.Mountpoint}}", "mythical-beasts_database") or "").strip()
    try:
        return (Path(volume) / "PG_VERSION").read_text(encoding="ascii") if volume else ""
    except OSError:
        return ""
