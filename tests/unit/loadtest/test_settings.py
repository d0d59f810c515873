"""Invalid settings of the load are rejected with one line that names the variable and the valid values."""

import pytest

from common.core.env import Env, SettingsError
from loadtest.settings import load, run_mode


def test_the_default_load_is_small() -> None:
    """It has ten users of three kinds and all beasts of the suite on this machine; persons need a frontend."""
    settings = load(Env({}))
    assert (settings.host, settings.users, settings.shape) == ("http://127.0.0.1:4000", 10, "steady")
    assert settings.beasts == ("unicorn", "manticore", "illithid", "owlbear", "beholder")
    assert settings.weights == {"keeper": 6, "browser": 3, "breeder": 1, "person": 0}
    assert settings.shape_time_s == 120
    assert load(Env({"LOAD_FRONTEND": "http://127.0.0.1:4005"})).weights["person"] == 3


def test_boring_endpoints_replace_the_beasts() -> None:
    """A beast is then unknown."""
    assert load(Env({"ENDPOINT_TYPE": "BORING", "LOAD_BEASTS": "cart"})).beasts == ("cart",)
    with pytest.raises(SettingsError, match="unicorn is not one of login"):
        load(Env({"ENDPOINT_TYPE": "BORING", "LOAD_BEASTS": "cart,unicorn"}))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("LOAD_SHAPE", "wave", "not one of steady, steps, spike, soak, day, break"),
        ("LOAD_BEASTS", "phoenix", "phoenix is not one of unicorn"),
        ("LOAD_BEASTS", ",", "nothing is not one of unicorn"),
        ("LOAD_HOST", "127.0.0.1:4000", "must start with http:// or https://"),
        ("LOAD_HOST", "http://", "must include a host"),
        ("LOAD_HOST", "http://a:x", "must include a host"),
        ("LOAD_USERS", "0", "from 1 to"),
        ("LOAD_USERS", "many", "no whole number|not a whole number"),
        ("LOAD_RATE", "0", "from 0.01"),
        ("LOAD_TIME", "-1", "from 0 to 86400"),
        ("LOAD_KINDS", "poacher=1", "kinds are keeper, browser, breeder, person"),
        ("LOAD_KINDS", "keeper", "kind=weight"),
        ("LOAD_KINDS", "keeper=0", "leaves no user"),
        ("LOAD_KINDS", "person=1", "needs LOAD_FRONTEND"),
        ("LOAD_INJECTED_FAULTS", "hide", "not one of fail, tolerate"),
        ("OTEL_PROPAGATORS", "b3", "isn't installed"),
        ("OTEL_TRACES_EXPORTER", "zipkin", "not one of otlp, none"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10", "smaller than a batch"),
        ("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "", "unset it"),
    ],
)
def test_an_invalid_value_is_rejected_in_one_line(variable: str, value: str, message: str) -> None:
    """The line names the variable and the valid values."""
    with pytest.raises(SettingsError, match=variable) as rejection:
        load(Env({variable: value}))
    assert rejection.match(message)
    assert "\n" not in str(rejection.value)


def test_a_kind_without_a_weight_has_no_users() -> None:
    """A run can have users of one kind only."""
    assert load(Env({"LOAD_KINDS": "browser=1"})).weights == {"keeper": 0, "browser": 1, "breeder": 0, "person": 0}


def test_telemetry_uses_http_even_if_the_standard_variable_is_for_grpc() -> None:
    """A gRPC exporter would block all users while its collector hangs."""
    standard = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://alloy:4318"}
    assert load(Env(standard)).collector == "http://alloy:4318"
    grpc = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://alloy:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert load(Env({**grpc, "LOAD_COLLECTOR": "http://alloy:4318/"})).collector == "http://alloy:4318"
    assert load(Env({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://alloy:4317"})).collector == "https://alloy:4318"
    assert load(Env({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://vendor"})).collector == "http://127.0.0.1:4318"


def test_the_page_has_the_default_port_of_locust() -> None:
    """Another port can be set, and a headless run has no page."""
    assert (run_mode(Env({})).port, run_mode(Env({})).headless) == (8089, False)
    assert run_mode(Env({"LOAD_PORT": "9000", "LOAD_HEADLESS": "true"})).headless
