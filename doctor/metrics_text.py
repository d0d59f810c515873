"""Reads the Prometheus text format."""

import re

# A sample: name, labels, value. https://prometheus.io/docs/instrumenting/exposition_formats/
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def total(page: str, name: str, **wanted: str) -> float:
    """Return the sum of a metric's samples with these labels; "*" matches any value of a label that is present."""
    found = 0.0
    for sample in SAMPLE.finditer(page):
        if sample[1] == name:
            labels = dict(LABEL.findall(sample[2] or ""))
            if all(key in labels and value in ("*", labels[key]) for key, value in wanted.items()):
                found += float(sample[3])
    return found
