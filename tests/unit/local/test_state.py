"""State folders differ by checkout and are never another user's folder."""

import errno
import os
from pathlib import Path

import pytest

from local.errors import LocalError, explain
from local.state import state_folder


def test_the_state_folder_can_be_set(tmp_path: Path) -> None:
    """MYTHICAL_STATE takes precedence, and the folder is created if it does not exist."""
    folder = state_folder({"MYTHICAL_STATE": str(tmp_path / "state")})
    assert folder == tmp_path / "state"
    assert folder.is_dir()


def test_the_state_folder_is_accessible_to_users_of_servers(tmp_path: Path) -> None:
    """As root, Postgres runs as another user, so the umask must not apply. An existing folder is not changed."""
    before = os.umask(0o077)
    try:
        made = state_folder({"MYTHICAL_STATE": str(tmp_path / "state")})
        (tmp_path / "existing").mkdir()
        existing = state_folder({"MYTHICAL_STATE": str(tmp_path / "existing")})
    finally:
        os.umask(before)
    assert [folder.stat().st_mode & 0o777 for folder in (made, existing)] == [0o711, 0o700]


def test_two_checkouts_do_not_share_their_state(tmp_path: Path) -> None:
    """Each runs separate servers on separate data."""
    one, other = (state_folder({}, tmp_path / name) for name in ("one", "other"))
    assert one != other
    assert one.parent == other.parent == Path(f"/var/tmp/mythical-beasts-{os.getuid()}")  # noqa: S108
    one.rmdir()
    other.rmdir()


def test_a_symlink_as_the_state_folder_is_rejected(tmp_path: Path) -> None:
    """The default's parent is writable for all users, so a symlink there could redirect the data."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(LocalError, match="MYTHICAL_STATE"):
        state_folder({"MYTHICAL_STATE": str(tmp_path / "link")})


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EAGAIN])
def test_an_error_of_the_system_has_a_remedy(number: int) -> None:
    """The message is one line, which names the file if there is one."""
    message = str(explain(OSError(number, os.strerror(number), "/folder")))
    assert message.startswith(f"/folder: {os.strerror(number)}; ")
    assert ("MYTHICAL_STATE" in message) == (number == errno.EACCES)
    assert "\n" not in message
