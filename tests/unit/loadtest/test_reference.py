"""docs/reference/settings.md has what the load reads, with its defaults; its README has every shape and kind."""

import re
from pathlib import Path

from common.core.env import Env
from loadtest.settings import KINDS, load, run_mode
from loadtest.shapes import SHAPES

ROOT = Path(__file__).resolve().parents[3]
SECTION = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8").partition("\n## The load\n")[2]
ROWS = dict(re.findall(r"^\| `(LOAD_\w+)` \| ([^|]+) \|", SECTION, re.MULTILINE))
PATHS = {"LOAD_GATE", "LOAD_RESULTS"}


def asked() -> dict[str, str]:
    """What is read when nothing is set: variable and default."""
    env = Env({})
    load(env)
    run_mode(env)
    return {name: default for name, default in env.variables_read.items() if name.startswith("LOAD_")}


def test_what_the_load_reads_is_what_is_documented() -> None:
    """Neither a variable that nobody knows of, nor one that does nothing."""
    assert {*asked(), *PATHS} == set(ROWS)


def test_the_documented_defaults_are_those_of_the_code() -> None:
    """`none` stands for nothing, and `all of them` for the names of the catalogue."""
    for name, default in asked().items():
        if name != "LOAD_BEASTS":
            assert ROWS[name].strip() == (f"`{default}`" if default else "none"), name


def test_the_page_of_the_load_has_every_shape_and_every_kind() -> None:
    """One that is not there would not be found."""
    page = (ROOT / "loadtest/README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `?(\w+)`? \|", page, re.MULTILINE)
    assert {*SHAPES, *KINDS} <= set(shown)
