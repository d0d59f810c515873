"""The real Alloy sends Postgres's log with level, duration, statement and trace, and without any value."""

from pathlib import Path

from local.postgres_log import LABELS, entries
from local.servers.postgres import Postgres
from tests.integration.conftest import postgres, servers_folder
from tests.integration.postgres_statements import SECRET, TRACE_ID, log_secrets
from tests.integration.running import eventually
from tests.stack.alloy_running import environ, needs_alloy, running
from tests.stack.loki_sink import listening

__all__ = ["postgres", "servers_folder"]

pytestmark = needs_alloy


def test_alloy_and_the_demo_send_the_same_lines(postgres: Postgres, tmp_path: Path) -> None:
    """Each message has the same labels, metadata and text; none contains a secret of a statement."""
    log_secrets(postgres)
    written = postgres.process.log.read_text(encoding="utf-8")
    assert SECRET in written
    expected = [(entry.level, entry.text, entry.metadata) for entry in entries(written)]
    assert any(metadata.get("trace_id") == TRACE_ID for _, _, metadata in expected)
    copy = tmp_path / "postgres.log"
    copy.write_text(written, encoding="utf-8")
    with listening() as loki, running(tmp_path, environ(tmp_path, logs=loki.port, ALLOY_POSTGRES_LOG=str(copy))):
        eventually(lambda: len(loki.of(job="postgres")) >= len(expected), what="all messages")
        lines = loki.of(job="postgres")
    assert not [line for line in lines if SECRET in str(line)]
    sent = [
        (line.labels["level"], line.line, line.metadata) for line in sorted(lines, key=lambda it: it.time_unix_nano)
    ]
    assert sorted(sent, key=str) == sorted(expected, key=str)
    assert all(line.labels == LABELS | {"level": line.labels["level"]} for line in lines)
