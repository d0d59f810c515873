"""Generate the rules of every scale: `python -m mimir.source`; `--check` only reports files that are out of date."""

import json
import sys
from pathlib import Path

from mimir.source.rules import Group, Rule, groups
from mimir.source.scales import SCALES
from tools.generated import run

FOLDER = Path(__file__).resolve().parents[1] / "rules"
# Mimir's name for the only tenant while multitenancy is off; it reads local rules from the folder of that name.
TENANT = "anonymous"
HEADER = """\
# Generated from mimir/source by python -m mimir.source; the next run overwrites manual changes.
groups:
"""


def generated() -> dict[str, str]:
    """Return the generated files, by their paths in the folder of rules."""
    return {f"{scale.name}/{TENANT}/slo.yaml": text(groups(scale)) for scale in SCALES}


def text(groups: list[Group]) -> str:
    """Return the YAML file with these groups."""
    return HEADER + "".join(group_text(group) for group in groups)


def group_text(group: Group) -> str:
    """Return one group."""
    head = f"  - name: {group.name}\n    interval: {group.interval}\n    rules:\n"
    return head + "".join(rule_text(rule) for rule in group.rules)


def rule_text(rule: Rule) -> str:
    """Return one rule."""
    lines = [f"record: {rule.record}"] if rule.record else [f"alert: {rule.alert}"]
    lines += expression(rule.expression)
    if rule.hold and rule.hold != "0s":
        lines.append(f"for: {rule.hold}")
    for name, values in (("labels", rule.labels), ("annotations", rule.annotations)):
        lines += [f"{name}:", *(f"  {key}: {json.dumps(value)}" for key, value in values.items())] if values else []
    return "      - " + "\n        ".join(lines) + "\n"


def expression(promql: str) -> list[str]:
    """Return the lines of an expression, as a block where there are several."""
    if "\n" in promql:
        return ["expr: |-", *("  " + line for line in promql.splitlines())]
    return [f"expr: '{promql}'" if '"' in promql else f"expr: {promql}"]


if __name__ == "__main__":
    sys.exit(run("python -m mimir.source", __doc__, FOLDER, generated()))
