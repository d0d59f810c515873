"""The admin endpoints that list and set the injected faults of a process."""

from http import HTTPStatus

from flask import Flask, Response, jsonify, request

from common.faults import Fault, Faults, InvalidFaultSetting, UnknownFault, finite
from common.web.problems import Problem, problem_response, reject_cross_site

DEFAULT_LEASE_S = 600.0


def add_fault_routes(app: Flask, faults: Faults) -> None:
    """Register `GET /faults`, `PUT /faults/<name>`, `DELETE /faults/<name>` and `DELETE /faults`."""

    @app.get("/faults")
    def _list() -> Response:
        reject_cross_site(request)
        return jsonify(faults=[_described(faults, fault) for fault in faults.supported])

    @app.put("/faults/<name>")
    def _set(name: str) -> Response:
        reject_cross_site(request)
        strength, seconds, blind = _parse_fault()
        faults.set(name, strength, seconds, blind=blind)
        return jsonify(_described(faults, faults.get(name)))

    @app.delete("/faults", defaults={"name": None})
    @app.delete("/faults/<name>")
    def _clear(name: str | None) -> Response:
        reject_cross_site(request)
        faults.clear(name)
        return Response(status=HTTPStatus.NO_CONTENT)

    @app.errorhandler(InvalidFaultSetting)
    def _invalid(error: InvalidFaultSetting) -> Response:
        status = HTTPStatus.NOT_FOUND if isinstance(error, UnknownFault) else HTTPStatus.BAD_REQUEST
        return problem_response(status, f"{str(error)[:1].upper()}{str(error)[1:]}.")


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


def _parse_fault() -> tuple[float, float, bool]:
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
