"""Reads the Prometheus text format."""

import re
from collections.abc import Iterator

# A sample: name, labels, value. https://prometheus.io/docs/instrumenting/exposition_formats/
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def samples(page: str, name: str, **wanted: str) -> Iterator[tuple[dict[str, str], float]]:
    """Yield labels and value of a metric's samples with these labels; "*" matches any value of a present label."""
    for sample in SAMPLE.finditer(page):
        if sample[1] == name:
            labels = dict(LABEL.findall(sample[2] or ""))
            if all(key in labels and value in ("*", labels[key]) for key, value in wanted.items()):
                yield labels, float(sample[3])


def total(page: str, name: str, **wanted: str) -> float:
    """Return the sum of the values of these samples."""
    return sum(value for _, value in samples(page, name, **wanted))
