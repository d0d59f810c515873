"""What the command line of the benchmarks takes."""

import pytest

from bench.__main__ import main


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("--rounds=0", "--rounds: '0' is not a whole number, 1 or more"),
        ("--messages=few", "--messages: 'few' is not a whole number, 1 or more"),
        ("--seconds=0", "--seconds: '0' is not a number of seconds, 1 to 3,600"),
        ("--seconds=nan", "--seconds: 'nan' is not a number of seconds, 1 to 3,600"),
        ("--only=nothing", "invalid choice: 'nothing'"),
        ("--seconds=long", "--seconds: 'long' is not a number of seconds, 1 to 3,600"),
    ],
)
def test_a_figure_that_is_none_is_refused_before_anything_starts(
    word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the word that is wrong and what it may be; else the run would end after minutes, dividing by nothing."""
    with pytest.raises(SystemExit) as ended:
        main([word])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_variable_that_a_library_could_not_use_is_refused_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The services would end, and the run with them after a minute."""
    monkeypatch.setenv("GRPC_POLL_STRATEGY", "nonsense")
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("bench: GRPC_POLL_STRATEGY='nonsense' is not one of epoll1")
