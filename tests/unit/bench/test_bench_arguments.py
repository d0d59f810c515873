"""The command line of the benchmarks rejects invalid numbers."""

import pytest

from bench.__main__ import main


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--rounds=0", "--rounds: '0' is not a whole number, 1 or more"),
        ("--messages=few", "--messages: 'few' is not a whole number, 1 or more"),
        ("--seconds=0", "--seconds: '0' is not a number of seconds, 1 to 3,600"),
        ("--seconds=nan", "--seconds: 'nan' is not a number of seconds, 1 to 3,600"),
        ("--only=nothing", "invalid choice: 'nothing'"),
        ("--seconds=long", "--seconds: 'long' is not a number of seconds, 1 to 3,600"),
    ],
)
def test_an_invalid_number_is_rejected_before_anything_starts(
    argument: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has the argument and its range. Otherwise the run would fail after minutes, at a division by zero."""
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_variable_that_a_library_cannot_use_is_rejected_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise the services would end, and the run after a minute."""
    monkeypatch.setenv("GRPC_POLL_STRATEGY", "nonsense")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("bench: GRPC_POLL_STRATEGY='nonsense' is not one of epoll1")
