"""The command `fault`: list, set, clear."""

from common.faults.state import InvalidFaultSetting, check_strength
from workshop.durations import lease, written
from workshop.errors import WorkshopError
from workshop.switches import State, Switches, fault_named


def list_faults(switches: Switches) -> list[str]:
    """Give the lines of a table of all faults."""
    return [_line(state) for state in switches.states()]


def _line(state: State) -> str:
    left = "" if state.seconds_left is None else f" for {written(state.seconds_left)} more"
    sign = "*" if state.strength != state.fault.default else " "
    amount = f"{state.strength:g} of {state.fault.max_strength:g}{left}"
    return f"{sign} {state.fault.name:18} {state.fault.service:9} {amount:14} {state.fault.sentence}"


def set_fault(switches: Switches, name: str, strength: str, lasts: str) -> list[str]:
    """Set a fault and say so; raises WorkshopError."""
    fault, lasts_s = fault_named(name), lease(lasts)
    try:
        wanted = float(strength)
        check_strength(fault, wanted)
    except ValueError:
        raise WorkshopError(f"strength {strength!r} is not a number; give 0 to {fault.max_strength:g}") from None
    except InvalidFaultSetting as refusal:
        raise WorkshopError(str(refusal)) from refusal
    switches.set(fault, wanted, lasts_s)
    return [f"{fault.name} is {wanted:g} for {written(lasts_s)}: {fault.sentence}"]


def clear_faults(switches: Switches, name: str | None) -> list[str]:
    """Put one fault or all back, and say so."""
    fault = fault_named(name) if name else None
    switches.clear(fault)
    return [f"{fault.name if fault else 'each fault'} is as at start"]
