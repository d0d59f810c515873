"""The pages of the workshop as data: sections, and blocks of code with their info strings.

A block that is run has an info string of `sh run WAY [FLAG…]`; the `text` block right after it is its output.

- WAY is what must be running: `demo` (make demo), `alloy` (make demo, and an Alloy), `stack` (docker compose),
  `cluster` (Kubernetes), or `suite` (make demo or docker compose: the tests run it with both).
- FLAG `once`: it changes data, so it is not repeated; `background`: it keeps running;
  `fails`: its exit status is not 0; `first`: all later steps of this WAY start with it.
- `text` is the exact output, `text like` the output except for numbers and ids; in both, `…` stands for any text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.seams.tree import ROOT, sections

FOLDER = ROOT / "docs" / "workshop"
INDEX = FOLDER / "README.md"
WAYS = ("suite", "demo", "alloy", "stack", "cluster")
FLAGS = {"once", "background", "fails", "first"}
SECTIONS = ["Objective", "Do", "Explanation", "Source code", "Break it", "Question", "Next"]
FENCE = re.compile(
    r"^( *)```([^\n]*)\n(.*?)^\1```$(\n\s*\n?\1```text([^\n]*)\n(.*?)^\1```$)?", re.DOTALL | re.MULTILINE
)
MINUTES = re.compile(r"^\*\*Estimate:\*\* (\d+) minutes\. \*\*Needs:\*\* (\S.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block of code: position, the heading above it, info string, text, and expected output."""

    page: str
    line: int
    heading: str
    info: tuple[str, ...]
    text: str
    expected: str | None
    like: bool

    @property
    def way(self) -> str:
        """What must be running for this block; empty if the block is not run."""
        return self.info[2] if self.info[:2] == ("sh", "run") else ""

    @property
    def flags(self) -> frozenset[str]:
        """The flags in the info string."""
        return frozenset(self.info[3:])

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"docs/workshop/{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """One step of the workshop."""

    path: Path

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    @property
    def text(self) -> str:
        """The text of the page."""
        return self.path.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        """The heading of the page."""
        return self.text.partition("\n")[0].removeprefix("# ")

    @property
    def minutes(self) -> int:
        """The estimate in minutes. Raise ValueError if there is none."""
        found = MINUTES.search(self.text)
        if not found:
            raise ValueError(f"{self.name} has no line '**Estimate:** N minutes. **Needs:** …'")
        return int(found[1])

    @property
    def needs(self) -> str:
        """The sentence after the estimate: what must be running."""
        found = MINUTES.search(self.text)
        return found[2] if found else ""

    def section(self, heading: str) -> str:
        """Return the text under a heading."""
        return dict(sections(without_code(self.text)))[heading]

    def headings(self) -> list[str]:
        """Return the headings of the second level in order."""
        return re.findall(r"^## (.+)$", without_code(self.text), re.MULTILINE)

    def blocks(self) -> Iterator[Block]:
        """Yield all blocks of code except for the outputs, which belong to the block before them."""
        text = self.text
        for found in FENCE.finditer(text):
            margin, info, body, follows, kind, expected = found.groups()
            yield Block(
                self.name,
                text.count("\n", 0, found.start()) + 1,
                (re.findall(r"^#+ (.+)$", without_code(text[: found.start()]), re.MULTILINE) or [""])[-1],
                tuple(info.split()),
                unindented(body, margin),
                unindented(expected, margin) if follows else None,
                bool(follows) and kind.strip() == "like",
            )

    def of(self, way: str) -> list[Block]:
        """Return the blocks for this WAY in order."""
        ways = {way, "suite"} if way in ("demo", "stack") else {way}
        return [block for block in self.blocks() if block.way in ways]


def pages() -> list[Page]:
    """Return the steps of the workshop in order."""
    return [Page(path) for path in sorted(FOLDER.glob("[0-9][0-9]-*.md"))]


def typed(page: Page, way: str) -> list[Block]:
    """Return the commands of a step: the blocks of earlier steps with the flag `first`, and then its own blocks."""
    before = [block for one in pages() if one.name < page.name for block in one.of(way) if "first" in block.flags]
    return before + page.of(way)


def without_code(text: str) -> str:
    """Return a text without its blocks of code, in which a # isn't a heading."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def unindented(text: str, margin: str) -> str:
    """Return a block in a list without the list's margin."""
    return re.sub(rf"^{margin}", "", text, flags=re.MULTILINE) if margin else text
