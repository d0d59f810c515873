"""What the reader chooses at the top of a dashboard."""

from dataclasses import dataclass

from grafana.source.queries import MIMIR, Json

# What "All" stands for in a query. A plain list of all values would miss those that come later, and series without
# the label.
EVERYTHING = ".*"


@dataclass(frozen=True)
class Choice:
    """One or several values of a label, as Mimir knows them; at the start all, or the one that is `first`."""

    name: str
    label: str
    metric: str
    of: str
    many: bool = True
    first: str = ""

    def as_json(self) -> Json:
        """Return the variable as a dashboard holds it."""
        expression = f"label_values({self.metric}, {self.of})"
        chosen: Json = {"current": {"text": ["All"], "value": ["$__all"]}, "allValue": EVERYTHING} if self.many else {}
        if self.first:
            chosen = {"current": {"text": self.first, "value": self.first}}
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": MIMIR.as_json(),
            "query": {"qryType": 1, "query": expression, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            # At each change of the time that is shown: a beast may have come since.
            "refresh": 2,
            "sort": 1,
            "includeAll": self.many,
            "multi": self.many,
            **chosen,
        }


@dataclass(frozen=True)
class Typed:
    """A text that the reader types, or that a link brings along."""

    name: str
    label: str

    def as_json(self) -> Json:
        """Return the variable as a dashboard holds it."""
        return {"type": "textbox", "name": self.name, "label": self.label, "query": ""}


@dataclass(frozen=True)
class OneOf:
    """One of some values that are known beforehand; the first is chosen."""

    name: str
    label: str
    values: tuple[tuple[str, str], ...]

    def as_json(self) -> Json:
        """Return the variable as a dashboard holds it; `values` are names and what each stands for."""
        options = [{"text": text, "value": value, "selected": not at} for at, (text, value) in enumerate(self.values)]
        return {
            "type": "custom",
            "name": self.name,
            "label": self.label,
            "query": ", ".join(f"{text} : {value}" for text, value in self.values),
            "options": options,
            "current": options[0],
            "includeAll": False,
            "multi": False,
        }


Variable = Choice | Typed | OneOf
