"""Only one process has the lock, and others can read its note."""

from pathlib import Path

import pytest

from tools.run_lock import AlreadyLocked, lock_note, run_lock


def test_the_second_process_gets_the_note_of_the_first(tmp_path: Path) -> None:
    """Afterwards the lock is free, and its note is removed."""
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


def test_a_file_that_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    """The caller knows which setting to name."""
    with pytest.raises(OSError, match="directory"), run_lock(tmp_path, "note"):
        pass
