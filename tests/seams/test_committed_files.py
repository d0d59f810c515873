"""Committed files have no names of the machine or registry they were made with and do not depend on Git settings."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.seams.tree import ROOT, committed, not_ignored, texts

# Concatenated, so that this file does not contain what it searches for.
REGISTRIES = ["pypi" + ".org", "python" + "hosted.org", "registry." + "npmjs", "npm" + "mirror.", "artifact" + "ory"]
FOLDERS = ["/wo" + "rk/", "/ro" + "ot/.", ".py" + "env/", "../sha" + "red"]
OTHERS = ["BEGIN" + " PRIVATE KEY", "BEGIN RSA" + " PRIVATE KEY", "<" * 7 + " ", ">" * 7 + " "]


@pytest.mark.parametrize("pattern", REGISTRIES + FOLDERS + OTHERS)
def test_no_file_contains_a_registry_a_local_folder_a_key_or_a_conflict_marker(pattern: str) -> None:
    """The registry and the folder of the checkout differ from machine to machine."""
    assert [name for name, text in texts() if pattern in text] == []


def test_no_file_contains_the_path_of_the_checkout() -> None:
    """A path of this machine does not work on others."""
    here = f"{ROOT}/"
    if len(ROOT.parts) > 2:
        assert [name for name, text in texts() if here in text] == []


def test_text_files_end_with_one_newline_and_have_no_invisible_characters() -> None:
    """A byte order mark in a query or trailing whitespace is hard to find."""
    for name, text in texts():
        if name.endswith((".py", ".md", ".toml", ".yaml", ".yml", ".sql", ".txt", ".js", ".css", ".html", "Makefile")):
            assert "\ufeff" not in text, name
            assert "\r" not in text, name
            assert not text or (text.endswith("\n") and not text.endswith("\n\n")), name
            assert not re.search(r"[ \t]+$", text, re.MULTILINE), name


def test_a_clone_with_converted_line_ends_has_the_committed_bytes(tmp_path: Path) -> None:
    """core.autocrlf=true is the default on Windows and would break scripts with `env: 'bash\\r'`."""
    origin = tmp_path / "origin"
    for path in committed():
        copy = origin / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())

    # Without the environment variables of the shell that runs the tests.
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, env=environ, check=True, capture_output=True)  # noqa: S603, S607

    git("init", "origin")
    git("-C", "origin", "-c", "core.autocrlf=false", "add", "--all", "--force")
    git("-C", "origin", "commit", "--message", "all files")
    git("-c", "core.autocrlf=true", "clone", "origin", "clone")
    changed = [
        path.relative_to(ROOT).as_posix()
        for path in committed()
        if (tmp_path / "clone" / path.relative_to(ROOT)).read_bytes() != path.read_bytes()
    ]
    assert changed == []


def test_the_same_files_are_found_without_git() -> None:
    """The tests also run in a downloaded archive, and in the clone of another user, in which Git lists nothing."""
    found = set(not_ignored(ROOT))
    assert set(committed()) <= found
    assert [path for path in found if {".git", ".venv", "node_modules", "__pycache__"} & set(path.parts)] == []
