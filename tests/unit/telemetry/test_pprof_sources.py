"""Names of functions are found by the indentation of a source file."""

from pathlib import Path

import pytest

from common.telemetry.pprof.heap import Sources

SOURCE = '''\
import os

@cache
class Store:
    """A docstring.

Text at the margin is not code.
    """

    SIZE = 10

    def page(
        self,
    ):
        rows = self.query("""
SELECT 1
""")
        return [
            row
            for row in rows
        ]

    async def wipe(self):
        def each(name):
            return name
        with self.connection:
            each("unicorn")

def last():
    return 1

if os.name:
    value = 2
'''


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a file with the content of SOURCE."""
    file = tmp_path / "store.py"
    file.write_text(SOURCE, encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("import os", "<module>"),
        ("    SIZE = 10", "Store"),
        ("        rows = self.query", "Store.page"),
        ("            row", "Store.page"),
        ("            return name", "Store.wipe.each"),
        ('            each("unicorn")', "Store.wipe"),
        ("    return 1", "last"),
        ("    value = 2", "<module>"),
    ],
)
def test_a_line_belongs_to_the_functions_and_classes_around_it(path: str, text: str, function: str) -> None:
    """Text at the margin and blocks without a name are handled correctly."""
    line = next(n for n, each in enumerate(SOURCE.splitlines(), start=1) if each.startswith(text))
    assert Sources().frame(path, line).function == function


def test_a_function_starts_at_its_def_line(path: str) -> None:
    """Readers distinguish functions with the same name by their start line."""
    lines = SOURCE.splitlines()
    frame = Sources().frame(path, lines.index("            return name") + 1)
    assert frame.start_line == lines.index("        def each(name):") + 1


@pytest.mark.parametrize("filename", ["<string>", "<frozen importlib._bootstrap>", "/nowhere/missing.py"])
def test_code_without_a_source_file_belongs_to_the_module(filename: str) -> None:
    """Code compiled from text, frozen, or deleted still has its file and line in the profile."""
    frame = Sources().frame(filename, 12)
    assert (frame.function, frame.filename, frame.line, frame.start_line) == ("<module>", filename, 12, 0)


def test_a_line_beyond_the_end_of_the_file_belongs_to_the_module(path: str) -> None:
    """A file may have been edited since it was loaded."""
    assert Sources().frame(path, 10_000).function == "<module>"
