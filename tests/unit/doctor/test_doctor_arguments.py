"""The doctor rejects unknown arguments."""

import pytest

from doctor.__main__ import parse_arguments


@pytest.mark.parametrize("arguments", [["--wait", "soon"], ["--wait", "-1"], ["--nonsense"], ["everything"]])
def test_an_unknown_argument_results_in_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """This includes `WAIT=soon make doctor`, because make passes the value on unchanged."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments(arguments)
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("\n")) == (2, 1)
    assert arguments[-1] in message
