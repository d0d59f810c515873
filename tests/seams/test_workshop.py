"""The pages of the workshop are complete, refer to things that exist, and are in the index."""

import ast
import re
from pathlib import Path

import pytest

from tests.seams.tree import ROOT, rows, sections, texts, words
from tests.workshop.outputs import matches
from tests.workshop.pages import FLAGS, FOLDER, INDEX, SECTIONS, WAYS, Block, Page, pages
from tests.workshop.shell import shell

PAGES = pages()
IDS = [page.name for page in PAGES]
each_page = pytest.mark.parametrize("page", PAGES, ids=IDS)
# Programs that the tests start themselves, and the command on the page that starts the same.
STARTS = {
    "demo": "make demo",
    "through-alloy": "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:14317 OTEL_LOGS_EXPORTER=otlp make demo",
    "stack": "docker compose up -d",
    "collector": "docker compose -f docker-compose.yml -f docker-compose-otel.yml up -d --remove-orphans",
    "beyla": "docker compose -f docker-compose.yml -f docker-compose-beyla.yml up -d",
}
# Needs root or the network, or another program than the tests of the page start.
BY_HAND = {"make workshop", "apt-get", "systemctl", "endpoints-with-docker.json"}
# Fails in zsh or with the tools of macOS, or is not useful for a learner.
SCAFFOLDING = re.compile(
    r"PIPESTATUS|\btimeout \d|\[\[ |<\(|sed -i|grep -P|date \+\S*%[3N]|readlink -f|od -An|declare |empty end"
    r"|^\s*#|\s#\s|\btest -",
    re.MULTILINE,
)
POINTER = re.compile(r"^- \[`([^`]+)`\]\(([^)]+)\)\s+`([^`]+)`:\s+\S", re.MULTILINE)


@each_page
def test_a_page_has_all_sections_in_their_order(page: Page) -> None:
    """All pages have the same structure."""
    assert page.headings() == SECTIONS
    assert page.title.startswith(f"{int(page.name[:2])}. ")


@each_page
def test_a_page_says_how_long_it_takes(page: Page) -> None:
    """The index has the same estimate."""
    known = {row["step"]: row for row in rows(dict(sections(INDEX.read_text(encoding="utf-8")))["Timetable"])}
    assert 1 <= page.minutes <= 60
    row = known[f"[{page.title}]({page.name})"]
    assert int(row["minutes"]) == page.minutes


@each_page
def test_a_page_has_a_question_with_a_folded_answer(page: Page) -> None:
    """A learner answers before reading on."""
    section = page.section("Question")
    assert re.search(r"\?\s+<details><summary>Answer</summary>\n\n\S", section), page.name
    assert page.text.count("<details>") == page.text.count("</details>")


def test_the_self_test_has_an_answer_to_each_question_and_names_a_step() -> None:
    """Twelve questions, each with the step to repeat."""
    text = (FOLDER / "self-test.md").read_text(encoding="utf-8")
    questions = re.findall(r"^\d+\. .*\?$", text, re.MULTILINE)
    answers = re.findall(r"<details><summary>Answer</summary>(.*?)</details>", text, re.DOTALL)
    assert len(questions) >= 10
    assert len(answers) == len(questions)
    assert all(re.search(r"tep \d+\]\(\d\d-", one) for one in answers)


@each_page
def test_blocks_are_under_the_heading_of_their_track(page: Page) -> None:
    """Both tracks use the same ports: no block may need a program that cannot run next to the other commands."""
    for block in page.blocks():
        starts = block.info[2] if block.info[:2] == ("sh", "start") else ""
        if starts or block.way not in ("", "suite"):
            docker = block.way == "stack" or starts in ("stack", "collector", "beyla")
            assert block.heading.startswith("With Docker") is docker, f"{block.place}: under {block.heading!r}"


@each_page
def test_commands_work_in_the_shells_of_learners(page: Page) -> None:
    """They are bash and zsh, on Linux and macOS; an interactive zsh does not know comments."""
    for block in page.blocks():
        if block.info[:1] == ("sh",) and (found := SCAFFOLDING.search(block.text)):
            pytest.fail(f"{block.place}: {found[0]!r}")


def test_no_page_shows_the_name_of_an_injected_fault_before_its_explanation() -> None:
    """In steps 6 and 7, the learner looks for it."""
    for name, faults in (("06-cause.md", ("lock_contention",)), ("07-unknown-fault.md", ("n_plus_one", "N+1"))):
        task, _, _ = (FOLDER / name).read_text(encoding="utf-8").partition("<details><summary>Solution")
        task, _, _ = task.partition("## Explanation")
        assert not [fault for fault in faults if fault in task], name


@each_page
def test_every_command_is_run_by_the_tests_or_has_a_replacement(page: Page) -> None:
    """A block of sh states which program it needs, or that it needs root or the network."""
    for block in page.blocks():
        if block.info[:1] != ("sh",):
            continue
        if block.info[1] == "start":
            assert block.text.strip() == STARTS[block.info[2]], block.place
        elif block.info == ("sh", "by", "hand"):
            assert any(reason in block.text for reason in BY_HAND), block.place
        else:
            assert block.info[1] == "run", f"{block.place}: state how it is run"
            assert block.way in WAYS, block.place
            assert block.flags <= FLAGS, block.place


def test_commands_of_the_index_are_run_or_marked_as_manual() -> None:
    """Only commands that download or that write gigabytes are manual."""
    for block in Page(INDEX).blocks():
        assert block.way == "demo" or block.info == ("sh", "by", "hand"), block.place


def test_the_tests_start_what_the_pages_start() -> None:
    """`make demo` is what the tests run as local.demo."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^demo:.*\n(?:\t.*\n)*\t@\$\(python\) -m local\.demo$", makefile, re.MULTILINE)


@each_page
def test_source_code_that_a_page_refers_to_exists(page: Page) -> None:
    """The file exists and has the function, class, or block."""
    section = page.section("Source code")
    pointers = POINTER.findall(section)
    assert len(pointers) == section.count("\n- "), f"{page.name}: - [`file`](link) `name`: what it does"
    for shown, link, name in pointers:
        file = (FOLDER / link).resolve()
        assert file == ROOT / shown, f"{page.name}: {shown} links to {link}"
        assert name in names(file), f"{page.name}: {name} is not in {shown}"


def names(file: Path) -> "set[str] | str":
    """Return the functions, classes, and methods of a Python file, or the text of another file."""
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
def test_the_checkpoint_has_what_a_page_asks_to_write(page: Page) -> None:
    """A block to be written to a configuration is in one of the checkpoints that the page names."""
    text = page.text
    saved = [ROOT / "docs/workshop" / name for name in re.findall(r"checkpoints/[\w-]+\.alloy", text)]
    for block in page.blocks():
        if block.info[:2] == ("alloy", "write"):
            assert any(block.text in file.read_text(encoding="utf-8") for file in saved), block.place


def test_listed_old_names_are_those_that_the_dashboards_query() -> None:
    """Step 27 lists every renamed attribute that a dashboard or the span metrics use."""
    page = rows(Page(FOLDER / "27-conventions.md").section("Explanation"))
    queried = "".join(text for name, text in texts() if name.startswith(("grafana/dashboards/", "alloy/", "tempo/")))
    # Except for db.name: where it is read, the new name is read too.
    renamed = (
        "http.method http.target http.status_code http.url http.scheme http.flavor http.user_agent "
        "db.system db.statement db.user net.peer.name net.peer.port net.host.name"
    ).split()
    used = {name for name in renamed if re.search(rf"\b{name.replace('.', '[._]')}(?![\w.])", queried)}
    assert {words(row["Old name"])[0] for row in page} == used


def test_each_page_links_to_the_next() -> None:
    """The last page links to the self-test."""
    for page, after in zip(PAGES, [*IDS[1:], "self-test.md"], strict=True):
        assert f"({after})" in page.section("Next"), page.name


@pytest.mark.parametrize(
    ("output", "expected", "like", "same"),
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
def test_an_output_is_compared_by_the_rules_of_the_index(output: str, expected: str, like: bool, same: bool) -> None:
    """Numbers and IDs may differ where the page says so, and an ellipsis stands for any text."""
    assert matches(output, expected, like=like) is same


def block(text: str, expected: str | None = None, *flags: str) -> Block:
    """Return a block of the demo."""
    return Block("none.md", 1, "", ("sh", "run", "demo", "once", *flags), text, expected, like=False)


def test_a_wrong_output_or_exit_status_fails_the_test(tmp_path: Path) -> None:
    """Otherwise, the tests of the pages would prove nothing. A variable of one block is known in the next."""
    with shell(tmp_path / "checkout", {"4000": 25}) as terminal:
        terminal.run(block("WORD=fine\n"))
        terminal.run(block("echo $WORD 127.0.0.1:4000\n", "fine 127.0.0.1:25\n"))
        terminal.run(block("false\n", None, "fails"))
        for wrong in (block("echo $WORD\n", "bad\n"), block("false\n"), block("true\n", None, "fails")):
            with pytest.raises(pytest.fail.Exception):
                terminal.run(wrong)
