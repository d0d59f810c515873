"""Rules as YAML that people can read: long expressions keep their lines."""

import json

from mimir.source.rules import Group, Rule

HEAD = """\
# Written by python -m mimir.source, from mimir/source; what is changed here by hand is gone the next time.
groups:
"""


def text(groups: list[Group]) -> str:
    """Return the file that holds these groups."""
    return HEAD + "".join(group_text(group) for group in groups)


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
