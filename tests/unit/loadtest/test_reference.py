"""docs/reference/settings.md has the variables and defaults of the load; its README has every shape and kind."""

import re
from pathlib import Path

from common.core.env import Env
from loadtest.settings import KINDS, load, run_mode
from loadtest.shapes import SHAPES

ROOT = Path(__file__).resolve().parents[3]
SECTION = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8").partition("\n## The load\n")[2]
ROWS = dict(re.findall(r"^\| `(LOAD_\w+)` \| ([^|]+) \|", SECTION, re.MULTILINE))
PATHS = {"LOAD_GATE", "LOAD_RESULTS"}


def variables_read() -> dict[str, str]:
    """Return the variables that the load reads when none is set, with their defaults."""
    env = Env({})
    load(env)
    run_mode(env)
    return {name: default for name, default in env.variables_read.items() if name.startswith("LOAD_")}


def test_the_load_reads_the_documented_variables() -> None:
    """No variable is undocumented, and none has no effect."""
    assert {*variables_read(), *PATHS} == set(ROWS)


def test_the_documented_defaults_are_those_of_the_code() -> None:
    """`none` stands for an empty value, and `all of them` for the names of the catalogue."""
    for name, default in variables_read().items():
        if name != "LOAD_BEASTS":
            assert ROWS[name].strip() == (f"`{default}`" if default else "none"), name


def test_the_page_of_the_load_has_every_shape_and_every_kind() -> None:
    """Users could not find one that is missing."""
    page = (ROOT / "loadtest/README.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| `?(\w+)`? \|", page, re.MULTILINE)
    assert {*SHAPES, *KINDS} <= set(shown)
