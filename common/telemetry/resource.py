"""The resource: the attributes that identify this process in all four signals."""

import os
import platform
import socket
import sys

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.util.types import AttributeValue

VERSION = "0.1.0"


def resource(service: str, namespace: str) -> Resource:
    """Return the resource of this process.

    OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence. The command line is left out: it may hold secrets.
    Source: OpenTelemetry semantic conventions, resource attributes for service, deployment, host, os and process.
    """
    known: dict[str, AttributeValue] = {
        "service.name": service,
        "service.namespace": namespace,
        "service.version": VERSION,
        "deployment.environment.name": namespace,
        "deployment.environment": namespace,  # the old name, which existing dashboards query
        "host.name": socket.gethostname(),
        "host.arch": _architecture(),
        "os.type": sys.platform,
        "process.pid": os.getpid(),
        "process.executable.name": os.path.basename(sys.executable),
        "process.runtime.name": sys.implementation.name,
        "process.runtime.version": platform.python_version(),
    }
    return Resource.create(known).merge(OTELResourceDetector().detect())


def _architecture() -> str:
    machine = platform.machine().lower()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
