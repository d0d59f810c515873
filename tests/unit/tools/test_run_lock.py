"""One process at a time, and the others learn which."""

from pathlib import Path

import pytest

from tools.run_lock import AlreadyLocked, lock_note, run_lock


def test_the_second_learns_who_holds_the_lock(tmp_path: Path) -> None:
    """By the note of the first; afterwards the lock is free, and its note is gone."""
    path = tmp_path / "lock"
    assert lock_note(path) is None
    with run_lock(path, "the first"):
        assert lock_note(path) == "the first"
        with pytest.raises(AlreadyLocked) as caught, run_lock(path, "the second"):
            pass
        assert caught.value.note == "the first"
    assert lock_note(path) is None
    with run_lock(path, "the third"):
        assert lock_note(path) == "the third"


def test_a_file_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    """The caller knows which setting to name."""
    with pytest.raises(OSError, match="directory"), run_lock(tmp_path, "note"):
        pass
