"""Pages, configuration comments, dashboards, and Python code use the words of the field, so that readers find them."""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from grafana.source.reading import boards, panels
from tests.seams.tree import ROOT, texts

PAGES = dict(texts(".md"))
NOT_PROSE = (
    re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.DOTALL | re.MULTILINE),  # blocks of code
    re.compile(r"`[^`\n]*`"),  # code within a line
    re.compile(r"\]\([^)]*\)"),  # the targets of links
    re.compile(r"<https?:[^>]*>"),
    re.compile(r"^> .*$", re.MULTILINE),  # quotations
)
FORBIDDEN = {
    r"tell(s|ing)?|told": "emit, send, report, log",
    r"(is|are|was|were) away": "unavailable, down, unreachable",
    r"g(ive|ives|ave|iven|iving) up": "dropped, dead-lettered, timed out",
    r"hand(s|ed|ing)? (on|over)|hand-over": "forward, publish, export",
    r"put(s|ting)? aside": "requeue, dead-letter",
    r"in (hand|its hands)": "in flight, unacknowledged",
    r"mend(s|ed|ing)?": "fix",
    r"come again": "retry",
    r"anew": "again, re-create, restart",
    r"who(m|ever)": "anyone who, the client, the user",
    r"of (one's|its|their|our|his) own|of ours|of theirs": "your own, separate, dedicated",
    r"as at start": "startup value",
    r"strength|planted": "value, injected",
    r"some \d": "about",
    r"beside": "next to, in addition to",
    r"for ever": "forever, indefinitely",
    r"somebody|someone|nobody": "another process, a client, nothing",
    r"by chance": "at random",
    r"held against": "compared with",
    r"of late": "recently",
    r"heed(s|ed)?": "honor",
    r"bears?": "carry, have",
    r"pages for machines": "admin endpoints",
    r"refus(e|es|ed|ing|als?)(?! connection)": "reject",
    r"back ends?": "backend",
    r"(?<!there )(is|are|was|were) no(?! (longer|more|later|need))": "isn't a, there is no",
    r"mischie\w+|peace": "say what happens",
    r"(three )?ways? of (a|the) (request|message|signal|data)": "flow",
    r"run without Docker": "make demo",
}
HEADING = re.compile(r"^#+ (What|Who|When|Where|Which|How|Why|While|To)\b.*$", re.MULTILINE)
# Correct uses of a word: the page, the text, and the reason.
ALLOWED = {
    ("docs/runbooks/AlloyDropping.md", "*Refused and dropped*"): "the title of a panel",
    ("docs/workshop/10-graph.md", "accepted, refused, sent, failed"): "the names of Alloy's metrics",
    ("docs/workshop/self-test.md", "counters of accepted, refused,"): "the names of Alloy's metrics",
    (
        "docs/troubleshooting.md",
        "accepted, refused, sent, and failed",
    ): "the names of the Collector's and Alloy's metrics",
    ("alloy", "Refused"): "the name of Alloy's metric",
}


def prose(text: str) -> str:
    """Return a document without code, targets of links and quotations."""
    for pattern in NOT_PROSE:
        text = pattern.sub(" ", text)
    return text


def findings(name: str, text: str) -> list[str]:
    """Return each forbidden word of a page with its line and with what to write in its place."""
    return [
        f"{match[0]!r} (write: {better}) in: {line.strip()}"
        for line in prose(text).splitlines()
        for pattern, better in FORBIDDEN.items()
        for match in re.finditer(rf"\b({pattern})\b", line, re.IGNORECASE)
        if not any(page == name and allowed in line for page, allowed in ALLOWED)
    ]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_uses_the_words_of_the_field(name: str) -> None:
    """The message of a failure says which word to use instead."""
    assert findings(name, PAGES[name]) == []


@pytest.mark.parametrize("name", PAGES)
def test_headings_are_nouns_or_imperatives(name: str) -> None:
    """A clause as a heading hides its subject from readers who scan a page."""
    assert [match[0] for match in HEADING.finditer(prose(PAGES[name]))] == []


def test_pages_have_no_spelling_mistakes() -> None:
    """That codespell knows of."""
    command = [sys.executable, "-m", "codespell_lib", *PAGES]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert checked.stdout + checked.stderr == ""


def test_each_allowed_use_still_exists() -> None:
    """An exception is removed with the text that it was made for."""
    everything = PAGES | comments() | shown()
    for page, allowed in ALLOWED:
        assert allowed in everything[page], f"{page}: {allowed}"


COMMENT = re.compile(r"^\s*(?:#|//|--) ?(.*)$", re.MULTILINE)
CONFIGURATIONS = (".yml", ".yaml", ".alloy", ".conf", ".sql", ".env", "cloud.json")
# Configuration of other subjects, or not for readers of the suite.
OTHERS = ("docs/", "tests/", ".github/", "mimir/rules/", "alloy/exercise/")


def comments() -> dict[str, str]:
    """Return the comments of each configuration file, by its name."""
    found = {}
    for suffix in CONFIGURATIONS:
        for name, text in texts(suffix):
            if not name.startswith(OTHERS):
                found[name] = "\n".join(COMMENT.findall(text))
    return found


def sentences(value: Any) -> Iterator[str]:
    """Yield the texts for readers in a scenario, an API description, or a dashboard."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and key in {"title", "summary", "description", "complaint", "answer", "sentence"}:
                yield inner
            elif key == "hints":
                yield from inner
            else:
                yield from sentences(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from sentences(inner)


def shown() -> dict[str, str]:
    """Return the texts that programs show to users, by the name of their file."""
    found = {name: list(sentences(tomllib.loads(text))) for name, text in texts(".toml") if "scenarios/" in name}
    found |= {name: list(sentences(yaml.safe_load(text))) for name, text in texts("openapi.yaml")}
    found |= {name: list(sentences(list(panels(board)))) for name, board in boards().items() if name != "runbooks"}
    return {name: "\n".join(parts) for name, parts in found.items()}


@pytest.mark.parametrize(("name", "text"), [*comments().items(), *shown().items()])
def test_comments_and_shown_texts_use_the_words_of_the_field(name: str, text: str) -> None:
    """The same words are forbidden there."""
    assert findings(name, text) == []


# Words for names, comments and docstrings. Others of the list above are right in code, such as a fault's strength.
IN_CODE = re.compile(
    r"(?<![a-z])(told|tells|away|mend(s|ed)?|anew|who(m|ever)|heed(s|ed)?|given[ _]up|hand(s|ed)?[ _]on|in[ _]hand"
    r"|somebody|someone|nobody|beside|for[ _]ever|as at start|bears)(?![a-z])",
    re.IGNORECASE,
)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def code_words(text: str) -> Iterator[str]:
    """Yield the names, comments and docstrings of a Python file, without code that they quote."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and (docstring := ast.get_docstring(node)):
            yield prose(docstring)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.string
        elif token.type == tokenize.COMMENT:
            yield prose(token.string)


def test_python_code_uses_the_words_of_the_field() -> None:
    """Names, comments and docstrings are read by everyone who copies the code."""
    found = {
        f"{name}: {match[0]!r} in: {words}"
        for name, text in texts(".py")
        if not name.endswith("_pb2.py")  # generated
        for words in code_words(text)
        for match in IN_CODE.finditer(words)
    }
    assert sorted(found) == []
