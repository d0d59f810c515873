"""The pages of the workshop are complete, name what is there, and the index knows them."""

import ast
import re
from pathlib import Path

import pytest

from tests.seams.tree import ROOT, rows, sections
from tests.workshop.outputs import matches
from tests.workshop.pages import FLAGS, FOLDER, INDEX, SECTIONS, WAYS, Block, Page, pages
from tests.workshop.shell import shell

PAGES = pages()
IDS = [page.name for page in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)
# What the tests start by themselves; each is a promise that the run which they start is the same.
COLLECTOR = "docker compose -f docker-compose.yml -f docker-compose-otel.yml up -d --remove-orphans"
STARTS = {"demo": "make demo", "stack": "docker compose up -d", "collector": COLLECTOR}
POINTER = re.compile(r"^- \[`([^`]+)`\]\(([^)]+)\)\s+`([^`]+)`:\s+\S", re.MULTILINE)


@each_page
def test_a_page_has_all_sections_in_their_order(page: Page) -> None:
    """Whoever knows one page knows them all."""
    assert page.headings() == SECTIONS
    assert page.title.startswith(f"{int(page.name[:2])}. ")


@each_page
def test_a_page_says_how_long_it_takes_and_what_it_needs(page: Page) -> None:
    """In its first line, and the index says the same."""
    known = {row["step"]: row for row in rows(dict(sections(INDEX.read_text(encoding="utf-8")))["Timetable"])}
    assert 1 <= page.minutes <= 60
    row = known[f"[{page.title}]({page.name})"]
    assert int(row["minutes"]) == page.minutes


@each_page
def test_a_page_shows_something(page: Page) -> None:
    """Under See there is a command that is run, and what it says."""
    see = page.text.partition("\n## See\n")[2].partition("\n## Why\n")[0]
    assert [block for block in page.blocks() if block.text in see and block.way and block.expected]


@each_page
def test_every_command_is_run_or_is_one_that_the_tests_stand_for(page: Page) -> None:
    """A block of sh says in which run it works; there is no other kind."""
    for block in page.blocks():
        if block.info[:1] != ("sh",):
            continue
        if block.info[1] == "start":
            assert block.text.strip() == STARTS[block.info[2]], block.place
        else:
            assert block.info[1] == "run", f"{block.place}: say how it is run"
            assert block.way in WAYS, block.place
            assert block.flags <= FLAGS, block.place


def test_what_the_index_tells_is_run_or_left_to_hands() -> None:
    """Only what fetches from the net, or writes gigabytes, is typed by nobody but people."""
    for block in Page(INDEX).blocks():
        assert block.way == "demo" or block.info == ("sh", "by", "hand"), block.place


def test_the_tests_start_what_the_pages_start() -> None:
    """`make demo` is what the tests run as local.demo."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo:.*\n(?:\t.*\n)*\t@\$\(python\) -m local\.demo$", makefile, re.MULTILINE)


@each_page
def test_what_a_page_says_of_the_code_is_there(page: Page) -> None:
    """The file exists, and so does the function, class or block in it."""
    section = page.section("Where in the code")
    pointers = POINTER.findall(section)
    assert len(pointers) == section.count("\n- "), f"{page.name}: - [`file`](link) `name`: what it does"
    for shown, link, name in pointers:
        file = (FOLDER / link).resolve()
        assert file == ROOT / shown, f"{page.name}: {shown} links to {link}"
        assert name in names(file), f"{page.name}: there is no {name} in {shown}"


def names(file: Path) -> "set[str] | str":
    """What a file defines: of Python each function and class, with the class before a method; else its text."""
    text = file.read_text(encoding="utf-8")
    if file.suffix != ".py":
        return text
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}" for one in node.body if isinstance(one, ast.FunctionDef)}
        if isinstance(node, ast.Name):
            found.add(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


@each_page
def test_what_is_to_be_written_is_in_the_checkpoint(page: Page) -> None:
    """A block that a page has typed into a configuration stands so in one of the checkpoints that it names."""
    text = page.text
    saved = [ROOT / "docs/workshop" / name for name in re.findall(r"checkpoints/[\w-]+\.alloy", text)]
    for block in page.blocks():
        if block.info[:2] == ("alloy", "write"):
            assert any(block.text in file.read_text(encoding="utf-8") for file in saved), block.place


def test_each_page_leads_to_the_next() -> None:
    """And the last one back to the index."""
    for page, after in zip(PAGES, [*IDS[1:], "README.md"], strict=True):
        assert f"({after})" in page.section("Next"), page.name


@pytest.mark.parametrize(
    ("said", "expected", "like", "same"),
    [
        ("beholder  1031 ms\n", "beholder  7 ms\n", True, True),
        ("beholder  1031 ms\n", "beholder  7 ms\n", False, False),
        ("beholder  soon\n", "beholder  7 ms\n", True, False),
        ("a\nb\nc\n", "a\n…\n", False, True),
        ("a\nb\nc\n", "a\nc\n", False, False),
        ("INSERT owlbear now\n", "INSERT … now\n", False, True),
        ("4bf92f3577b34da6a3ce929d0e0e4736\n", "00000000000000000000000000000001\n", True, True),
        ("4bf92f3577b34da6\n", "00000000000000000000000000000001\n", True, False),
        ("", "a\n", True, False),
    ],
)
def test_an_output_is_compared_as_the_index_says(said: str, expected: str, like: bool, same: bool) -> None:
    """Figures and ids are free where the page says so, anything is where there is an ellipsis, and nothing else."""
    assert matches(said, expected, like=like) is same


def block(text: str, expected: str | None = None, *flags: str) -> Block:
    """A block that is tried once."""
    return Block("none.md", 1, ("sh", "run", "demo", "once", *flags), text, expected, like=False)


def test_a_block_that_says_something_else_or_ends_otherwise_fails_the_test(tmp_path: Path) -> None:
    """Else the pages would be run, and nothing proven; what one block names, the next one knows."""
    with shell(tmp_path / "checkout", {"4000": 25}) as terminal:
        terminal.run(block("WORD=fine\n"))
        terminal.run(block("echo $WORD 127.0.0.1:4000\n", "fine 127.0.0.1:25\n"))
        terminal.run(block("false\n", None, "fails"))
        for wrong in (block("echo $WORD\n", "bad\n"), block("false\n"), block("true\n", None, "fails")):
            with pytest.raises(pytest.fail.Exception):
                terminal.run(wrong)
