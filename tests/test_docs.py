"""What README.md and docs/ point to exists, and nothing that users should find is left out."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    missing = [t for t in targets if not t.startswith("http") and not (page.parent / t).exists()]
    assert not missing


def test_every_example_has_its_place():
    scripts = {p.name for p in (ROOT / "examples").glob("*.py")} - {"common.py"}
    for page in ("README.md", "docs/course.md"):
        named = set(re.findall(r"`(\w+\.py)", (ROOT / page).read_text()))
        assert not scripts - named, page


def test_every_picture_is_shown():
    shown = set(re.findall(r"pictures/(\w+\.png)", "".join(p.read_text() for p in PAGES)))
    assert {p.name for p in (ROOT / "docs" / "pictures").glob("*.png")} == shown


def test_the_names_of_the_course_page_exist():
    rows = [line.split("|")[2] for line in (ROOT / "docs" / "course.md").read_text().splitlines() if line.count("|") == 4]
    for name in re.findall(r"`((?:pydl|nn|optim|models|vision|viz)\.[\w.]+)", " ".join(rows)):
        value = importlib.import_module("pydl")
        for part in name.removeprefix("pydl.").split("."):
            value = getattr(value, part)
