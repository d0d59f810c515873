"""What is measured beside the services: database, broker, host, back ends and Alloy, by the word of Mimir."""

from collections.abc import Mapping

from doctor.ask import NoAnswer, asked_of_mimir
from doctor.containers import RUNNING, Container
from doctor.report import BROKEN, Finding

# Each is asked every 5 to 15 s: of one that was not reached in a whole minute, its start is not the reason.
MINUTE = "max_over_time({0}[1m]) == 0 and count_over_time({0}[1m]) >= 3"
UP = MINUTE.format('up{group="infrastructure"}')
LET_IN = MINUTE.format("pg_up")
CONTAINERS = {"postgres": "mythical-database", "rabbitmq": "mythical-queue", "host": "alloy"}  # others have one name


def findings(mimir: str, boxes: Mapping[str, Container]) -> list[Finding]:
    """Report what could not be measured for a minute, though its container runs; nothing if Mimir does not tell."""
    try:
        unreached = {series["metric"]["service"] for series in asked_of_mimir(mimir, UP)}
        locked_out = bool(asked_of_mimir(mimir, LET_IN))
    except (NoAnswer, KeyError, TypeError):
        return []  # the cells of the metrics say why
    found = []
    for name in sorted(unreached):
        container = CONTAINERS.get(name, name)
        if container not in boxes or boxes[container].state == RUNNING:
            look = f"docker compose logs --tail 20 {container}"
            found.append(Finding(f"metrics of {name}", "Alloy has got no answer for a minute", BROKEN, look))
    if locked_out:
        said = "the database does not let Alloy in: its role is missing, or its password is another"
        mend = "docker compose exec mythical-database psql -U postgres -f /docker-entrypoint-initdb.d/monitor.sql"
        found.append(Finding("metrics of postgres", said, BROKEN, mend))
    return found
