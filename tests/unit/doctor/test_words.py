"""What the doctor says to words that it does not know."""

import pytest

from doctor.__main__ import parse_arguments


@pytest.mark.parametrize("words", [["--wait", "soon"], ["--wait", "-1"], ["--nonsense"], ["everything"]])
def test_a_word_that_it_does_not_know_is_one_line_and_status_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`WAIT=soon make doctor` as well: make hands it on as it is."""
    with pytest.raises(SystemExit) as ended:
        parse_arguments(words)
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n")) == (2, 1)
    assert words[-1] in said
