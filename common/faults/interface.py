"""What a service shows of its faults: the HTTP API at /faults, a gauge, and a log line for each change."""

import logging
from collections.abc import Iterable
from http import HTTPStatus

from flask import Flask, Response, jsonify, request
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from common.faults import Change, Fault, Faults, InvalidFaultSetting, UnknownFault, finite
from common.web.problems import Problem, reject_cross_site

log = logging.getLogger(__name__)

DEFAULT_LEASE_S = 600.0

PATH = "/faults"


def add_fault_routes(app: Flask, faults: Faults) -> None:
    """Register `GET /faults`, `PUT /faults/<name>`, `DELETE /faults/<name>` and `DELETE /faults`."""

    @app.get(PATH)
    def _list() -> Response:
        reject_cross_site(request)
        return jsonify(faults=[_described(faults, fault) for fault in faults.supported])

    @app.put(f"{PATH}/<name>")
    def _set(name: str) -> Response:
        reject_cross_site(request)
        strength, seconds, blind = _parse()
        try:
            faults.set(name, strength, seconds, blind=blind)
        except InvalidFaultSetting as error:
            raise _problem(error) from error
        return jsonify(_described(faults, faults.get(name)))

    @app.delete(PATH, defaults={"name": None})
    @app.delete(f"{PATH}/<name>")
    def _clear(name: str | None) -> Response:
        reject_cross_site(request)
        try:
            faults.clear(name)
        except InvalidFaultSetting as error:
            raise _problem(error) from error
        return Response(status=HTTPStatus.NO_CONTENT)


def _described(faults: Faults, fault: Fault) -> dict[str, object]:
    """Return the JSON form of a fault; one that is set blind looks as if it were not set."""
    lease = faults.lease(fault)
    open_lease = lease if lease and not lease.blind else None
    return {
        "name": fault.name,
        "sentence": fault.sentence,
        "strength": open_lease.strength if open_lease else faults.configured_strength(fault),
        "at_start": faults.configured_strength(fault),
        "default": fault.default,
        "most": fault.max_strength,
        "seconds_left": round(faults.seconds_left(open_lease), 1) if open_lease else None,
    }


def _parse() -> tuple[float, float, bool]:
    """Return strength, seconds and blind from the body; raise Problem."""
    if not request.is_json:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, 'Send {"strength": 1}, with Content-Type: application/json.')
    body = request.get_json(silent=True)
    if not isinstance(body, dict) or set(body) - {"strength", "seconds", "blind"}:
        raise Problem(HTTPStatus.BAD_REQUEST, 'Send {"strength": 1, "seconds": 600}, without any other field.')
    blind = body.get("blind", False)
    if not isinstance(blind, bool):
        raise Problem(HTTPStatus.BAD_REQUEST, "blind must be true or false.")
    return _number(body, "strength", None), _number(body, "seconds", DEFAULT_LEASE_S), blind


def _number(body: dict[str, object], name: str, default: float | None) -> float:
    number = finite(body.get(name, default))
    if number is None:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} must be a number.")
    return number


def _problem(error: InvalidFaultSetting) -> Problem:
    status = HTTPStatus.NOT_FOUND if isinstance(error, UnknownFault) else HTTPStatus.BAD_REQUEST
    return Problem(status, f"{str(error)[:1].upper()}{str(error)[1:]}.")


def register_fault_telemetry(faults: Faults, meter: Meter) -> None:
    """Register the gauge `mythical_fault_strength`, and log each change.

    It has a series for each fault whose strength is not its default; the six that are on by default would otherwise
    fill every dashboard with annotations. A fault that is set blind appears as `unnamed`.
    """

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        for fault in faults.supported:
            strength = faults.strength(fault)
            if strength != fault.default:
                yield Observation(strength, {"fault": faults.public_name(fault)})

    meter.create_observable_gauge(
        "mythical_fault_strength", [observe], description="Strength of an injected fault that is not at its default."
    )
    faults.on_change(_log)


def _log(change: Change) -> None:
    log.warning("injected fault set", extra={"fields": {"fault": change.public_name, "strength": change.strength}})
