"""The READMEs: links lead somewhere, the first page stays one page, and what they tell to run exists."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("jobs", "models", "pipeline", "tests")
PAGES = [ROOT / "README.md", *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
FIRST = ROOT / "README.md"
NARROW = [FIRST, ROOT / "jobs" / "README.md", ROOT / "pipeline" / "README.md"]
"""Pages whose lines have at most 120 characters."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page):
    """The text without blocks of code and code within lines, where brackets are no links."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(    |\t).*$", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda code: "x" * len(code[0]), text)


def links(page):
    """Targets of links and pictures that are not addresses elsewhere."""
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", prose(page))
    return [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def anchors(page):
    """Names of a page's headings, as GitHub makes them."""
    found = []
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)? *$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        same = sum(re.fullmatch(re.escape(name) + r"(-\d+)?", other) is not None for other in found)
        found.append(f"{name}-{same}" if same else name)
    return found


@each_page
def test_relative_links_lead_to_files_of_the_repository_and_to_headings(page):
    for target in links(page):
        place, _, anchor = unquote(target).partition("#")
        file = (page.parent / place).resolve() if place else page
        assert file.is_relative_to(ROOT.resolve()), f"{target} leaves the repository"
        assert file.exists(), f"{target} does not exist"
        if anchor:
            assert file.suffix == ".md", f"{target} is no page with headings"
            assert anchor in anchors(file), f"{target}: the page has no such heading"


def test_the_first_page_is_one_page():
    assert len(FIRST.read_text("utf-8").splitlines()) <= 110


@pytest.mark.parametrize("page", NARROW, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_lines_have_at_most_120_characters(page):
    ci = (ROOT / ".ci" / "run").read_text("utf-8")  # runs a command of the first page, character for character
    long = [line for line in page.read_text("utf-8").splitlines() if len(line) > 120 and line not in ci]
    assert long == []


def test_the_images_of_the_first_page_exist_and_are_small():
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)\s]+)\)", FIRST.read_text("utf-8"))
    assert len(pictures) >= 2
    for _, target in pictures:
        assert 0 < (ROOT / target).stat().st_size < 700_000


@each_page
def test_jobs_that_a_page_names_exist(page):
    text = page.read_text("utf-8")
    modules = set(re.findall(r"python -m (jobs(?:\.[a-z_]+)+)", text))
    modules |= {
        f"jobs.{name}" for name in re.findall(r"(?:^    |`)floatcast ((?:research\.)?[a-z_]+)", text, re.MULTILINE)
    }
    for module in modules:
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), f"there is no {module}"


def test_every_room_of_the_pipeline_stands_in_its_readme():
    told = re.findall(r"^\| \[(\w+)\]\(\1\) \|", (ROOT / "pipeline" / "README.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(told) == sorted(file.parent.name for file in (ROOT / "pipeline").glob("*/__init__.py"))
