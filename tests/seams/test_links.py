"""Every link in the documents has a target, every page is linked, and the README lists each folder."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.seams.tree import ROOT, committed, rows, sections, texts, words

DOCUMENTS = dict(texts(".md"))
LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
CODE_BLOCK = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


def prose(text: str) -> str:
    """Return a document without its code blocks."""
    return CODE_BLOCK.sub("", text)


def anchors(text: str) -> set[str]:
    """Return the anchors of its headings, as GitHub makes them."""
    made: set[str] = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", prose(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = sum(1 for one in made if re.fullmatch(re.escape(anchor) + r"(-\d+)?", one))
        made.add(f"{anchor}-{number}" if number else anchor)
    return made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_within_the_repository_has_a_target(name: str) -> None:
    """The target is a committed file, its folder, or an existing heading."""
    files = {path.relative_to(ROOT).as_posix() for path in committed()}
    folders = {parent.as_posix() for file in files for parent in Path(file).parents}
    for target in LINK.findall(prose(DOCUMENTS[name])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        aim = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        assert aim.is_relative_to(ROOT), f"{name}: {target} is outside the repository"
        inside = aim.relative_to(ROOT).as_posix()
        assert inside in files | folders, f"{name}: {target} does not exist"
        if anchor and inside in DOCUMENTS:
            assert anchor in anchors(DOCUMENTS[inside]), f"{name}: no heading has the anchor #{anchor}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_in_a_page_exists(name: str) -> None:
    """The old name of a moved file misleads readers. An example and an installation create the files excepted here."""
    files = {path.relative_to(ROOT) for path in committed()}
    existing = {path.as_posix() for path in files} | {parent.as_posix() for path in files for parent in path.parents}
    folders = {path.parts[0] for path in files if len(path.parts) > 1}
    named = {path for path in words(prose(DOCUMENTS[name])) if re.fullmatch(r"[\w.-]+(/[\w.-]+)+/?", path)}
    ours = {path.rstrip("/") for path in named if path.split("/")[0] in folders}
    assert {path for path in ours if not path.startswith(("services/greeter", "local/aspire/node"))} <= existing


@pytest.mark.parametrize("name", DOCUMENTS)
def test_external_links_are_encrypted_or_local(name: str) -> None:
    """http:// is only for this machine and for containers of the stack."""
    for target in LINK.findall(prose(DOCUMENTS[name])):
        if target.startswith("http://"):
            assert re.match(r"http://(localhost|127\.0\.0\.1|[a-z-]+:\d+)", target), f"{name}: {target}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    """Readers find pages by links."""
    reached, waiting = {"README.md"}, ["README.md"]
    while waiting:
        name = waiting.pop()
        for target in LINK.findall(prose(DOCUMENTS[name])):
            aim = (ROOT / name).parent.joinpath(unquote(target).partition("#")[0]).resolve()
            page = aim.relative_to(ROOT).as_posix() if aim.is_relative_to(ROOT) else ""
            if page in DOCUMENTS and page not in reached:
                reached.add(page)
                waiting.append(page)
    assert set(DOCUMENTS) - reached == set()


def test_the_readme_lists_each_folder() -> None:
    """The table has every top-level folder, and each folder that it lists exists."""
    table = rows(dict(sections(DOCUMENTS["README.md"]))["Repository layout"])
    named = {name.rstrip("/") for row in table for name in words(row["folder"]) if name.endswith("/")}
    folders = {path.relative_to(ROOT).parts[0] for path in committed() if len(path.relative_to(ROOT).parts) > 1}
    assert named == {folder for folder in folders if not folder.startswith(".")}


def test_pictures_are_small_and_used() -> None:
    """Each is on a page, and none makes a page slow to load; `make screenshots` has the same limits."""
    pictures = [path for path in committed() if path.parent == ROOT / "docs/images"]
    linked = {
        (ROOT / name).parent.joinpath(unquote(target)).resolve()
        for name, text in DOCUMENTS.items()
        for target in LINK.findall(text)
        if target.endswith(".png")
    }
    assert set(pictures) <= linked
    assert [path.name for path in pictures if path.stat().st_size > 200_000] == []
    assert sum(path.stat().st_size for path in pictures) < 1_500_000
