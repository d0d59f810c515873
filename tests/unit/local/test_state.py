"""Where data lies: apart by checkout, and never in somebody else's folder."""

import errno
import os
from pathlib import Path

import pytest

from local.errors import LocalError, explain
from local.state import state_folder


def test_the_state_folder_can_be_named(tmp_path: Path) -> None:
    """MYTHICAL_STATE wins, and is made if need be."""
    folder = state_folder({"MYTHICAL_STATE": str(tmp_path / "state")})
    assert folder == tmp_path / "state"
    assert folder.is_dir()


def test_the_state_folder_lets_the_servers_users_through(tmp_path: Path) -> None:
    """Whatever the umask: as root, Postgres runs as another user below it. A folder that was there stays as it is."""
    before = os.umask(0o077)
    try:
        made = state_folder({"MYTHICAL_STATE": str(tmp_path / "state")})
        (tmp_path / "there").mkdir()
        there = state_folder({"MYTHICAL_STATE": str(tmp_path / "there")})
    finally:
        os.umask(before)
    assert [folder.stat().st_mode & 0o777 for folder in (made, there)] == [0o711, 0o700]


def test_two_checkouts_do_not_share_their_state(tmp_path: Path) -> None:
    """Each runs its own servers on its own data."""
    one, other = (state_folder({}, tmp_path / name) for name in ("one", "other"))
    assert one != other
    assert one.parent == other.parent == Path(f"/var/tmp/mythical-beasts-{os.getuid()}")  # noqa: S108
    one.rmdir()
    other.rmdir()


def test_a_folder_behind_a_link_is_refused(tmp_path: Path) -> None:
    """The default's parent is open to all: a link laid there could lead our data anywhere."""
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(LocalError, match="MYTHICAL_STATE"):
        state_folder({"MYTHICAL_STATE": str(tmp_path / "link")})


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EAGAIN])
def test_an_error_of_the_system_has_a_remedy(number: int) -> None:
    """In one line, with the file if it is about one."""
    told = str(explain(OSError(number, os.strerror(number), "/folder")))
    assert told.startswith(f"/folder: {os.strerror(number)}; ")
    assert ("MYTHICAL_STATE" in told) == (number == errno.EACCES)
    assert "\n" not in told
