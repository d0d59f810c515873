"""Generate the rules of every scale: `python -m mimir.source`; `--check` only reports files that are out of date."""

import argparse
import json
import sys
from pathlib import Path

from mimir.source.rules import Group, Rule, groups
from mimir.source.scales import SCALES

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


def stale(folder: Path) -> list[str]:
    """Return the paths of files that are missing, differ from their source, or have none."""
    existing = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml")
    }
    files = generated()
    return sorted(path for path in files | existing if files.get(path) != existing.get(path))


def write(folder: Path) -> None:
    """Write every file, and remove those that have no source."""
    for path in stale(folder):
        (folder / path).unlink(missing_ok=True)
    for path, content in generated().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


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


def main() -> int:
    """Run the command; return 1 if `--check` finds a file that is out of date."""
    parser = argparse.ArgumentParser(prog="python -m mimir.source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, report what is out of date")
    if not parser.parse_args().check:
        write(FOLDER)
        return 0
    found = stale(FOLDER)
    if found:
        sys.stderr.write(f"out of date: {', '.join(found)}; run python -m mimir.source\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
