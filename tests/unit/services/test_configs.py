"""The settings of the four services have the names and defaults of the interface."""

import pytest

from common.core.endpoints import BORING, MYTHICAL
from common.core.env import Env, SettingsError
from common.telemetry.settings import RUNGS
from services.frontend import config as frontend
from services.recorder import config as recorder
from services.requester import config as requester
from services.server import config as server


def test_the_services_have_their_names_and_ports() -> None:
    """Dashboards query the names; compose files and bookmarks use the ports."""
    loads = (server.load, requester.load, recorder.load, frontend.load)
    ports = {config.telemetry.service: config.address.port for config in (load(Env({})) for load in loads)}
    assert ports == {
        "mythical-server": 4000,
        "mythical-requester": 4001,
        "mythical-recorder": 4002,
        "mythical-frontend": 4005,
    }


def test_default_addresses_are_the_names_of_the_interface() -> None:
    """Hosts, ports, and users are the defaults."""
    database = server.load(Env({})).database
    assert (database.host, database.port, database.user, database.password, database.name) == (
        "mythical-database",
        5432,
        "postgres",
        "mythical",
        "postgres",
    )
    assert requester.load(Env({})).server == frontend.load(Env({})).server == ("mythical-server", 4000)
    for broker in (requester.load(Env({})).broker, recorder.load(Env({})).broker, frontend.load(Env({})).broker):
        assert (broker.host, broker.port, broker.user) == ("mythical-queue", 5672, "guest")


def test_the_rung_of_a_service_takes_precedence_over_that_of_all() -> None:
    """TELEMETRY_LAYER is the former name; the suite's code emits telemetry on two rungs, if the SDK is enabled."""
    assert server.load(Env({})).telemetry.instrumentation == "fast"
    assert server.load(Env({"TELEMETRY_LAYER": "stock"})).telemetry.instrumentation == "stock"
    shell = Env({"TELEMETRY_LAYER": "stock", "INSTRUMENTATION": "off", "SERVER_INSTRUMENTATION": "zero-code"})
    assert (server.load(shell).telemetry.instrumentation, recorder.load(shell).telemetry.instrumentation) == (
        "zero-code",
        "off",
    )
    for rung in RUNGS:
        with_comments = server.load(Env({"INSTRUMENTATION": rung, "MYTHICAL_SQL_COMMENTS": "true"}))
        assert with_comments.database.comments == (rung in ("stock", "fast"))
        assert server.load(Env({"INSTRUMENTATION": rung})).telemetry.enabled == (rung in ("stock", "fast"))
    assert not server.load(Env({"OTEL_SDK_DISABLED": "true"})).telemetry.enabled


def test_the_default_namespace_is_production() -> None:
    """NAMESPACE sets another one."""
    assert server.load(Env({})).telemetry.namespace == "production"
    assert server.load(Env({"NAMESPACE": "test"})).telemetry.namespace == "test"


@pytest.mark.parametrize("load", [server.load, requester.load, recorder.load, frontend.load])
def test_the_endpoint_type_chooses_the_endpoints(load: object) -> None:
    """All four services read the same variable."""
    assert callable(load)
    assert load(Env({})).endpoints is MYTHICAL
    assert load(Env({"ENDPOINT_TYPE": "BORING"})).endpoints is BORING


def test_the_password_is_not_in_the_text_of_the_settings() -> None:
    """A config may be logged or shown in a traceback."""
    config = server.load(Env({"MYTHICAL_DATABASE_PASSWORD": "sesame"}))
    assert "sesame" not in repr(config)
    assert "sesame" not in repr(requester.load(Env({"MYTHICAL_QUEUE_PASSWORD": "sesame"})))


def test_a_tenth_of_the_posts_fail_unless_always_succeed_is_set() -> None:
    """ALWAYS_SUCCEED, the original's switch for this fault, takes precedence over FAULT_NULL_NAME."""
    assert server.load(Env({})).faults["null_name"] == 0.1
    assert server.load(Env({"ALWAYS_SUCCEED": "true"})).faults["null_name"] == 0
    assert server.load(Env({"ALWAYS_SUCCEED": "true", "FAULT_NULL_NAME": "1"})).faults["null_name"] == 0
    assert server.load(Env({"ALWAYS_SUCCEED": "false", "FAULT_NULL_NAME": "1"})).faults["null_name"] == 1


TEARDOWN = "MYTHICAL_SERVER_DATABASE_TEARDOWN_TIMEOUT"


def test_the_tables_are_recreated_once_a_day_by_default() -> None:
    """The setting is in milliseconds, above 1 and at most a day."""
    assert server.load(Env({})).teardown_timeout_ms == 86_400_000
    assert server.load(Env({TEARDOWN: "1.5"})).teardown_timeout_ms == 1.5
    assert server.load(Env({TEARDOWN: "86400000"})).teardown_timeout_ms == 86_400_000
    for wrong in ("1", "0", "86400001", "-5", "day"):
        with pytest.raises(SettingsError, match="86400000"):
            server.load(Env({TEARDOWN: wrong}))


@pytest.mark.parametrize(
    ("value", "minutes"), [("", 0), ("false", 0), ("0", 0), ("No", 0), ("off", 0), ("true", 40), ("1", 40), ("yes", 40)]
)
def test_the_timeshift_is_forty_minutes(value: str, minutes: int) -> None:
    """TIMESHIFT is on with any value but a word for "no"."""
    assert requester.load(Env({"TIMESHIFT": value})).timeshift_min == minutes


def test_a_seed_is_set_or_random() -> None:
    """Without a seed, each start has a new one; a word is rejected."""
    assert requester.load(Env({"REQUESTER_SEED": "-7"})).seed == -7
    assert requester.load(Env({})).seed != requester.load(Env({})).seed
    with pytest.raises(SettingsError, match="REQUESTER_SEED"):
        requester.load(Env({"REQUESTER_SEED": "seven"}))


def test_the_requester_starts_four_loops_five_seconds_after_boot() -> None:
    """By default, it has the rate of the original and no malformed requests."""
    config = requester.load(Env({}))
    assert (config.loops, config.start_s, config.rate, config.error_odds) == (4, 5, 1, 0)


@pytest.mark.parametrize("load", [server.load, requester.load, recorder.load])
def test_debug_pages_are_enabled_on_loopback_only_by_default(load: object) -> None:
    """DEBUG_ENDPOINTS takes precedence."""
    assert callable(load)
    assert load(Env({})).debug is True
    assert load(Env({"HTTP_HOST": "0.0.0.0"})).debug is False
    assert load(Env({"HTTP_HOST": "0.0.0.0", "DEBUG_ENDPOINTS": "true"})).debug is True
    assert load(Env({"DEBUG_ENDPOINTS": "false"})).debug is False
