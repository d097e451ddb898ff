import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def test_the_reference_pages_are_what_the_code_says():
    done = subprocess.run(
        [sys.executable, "tools/make_docs.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_both_guide_maps_have_the_same_rows():
    english, chinese = (
        re.findall(r"`[^`]+`", "".join(rows(ROOT / "docs" / name, at=-2)))
        for name in ("guide-map.md", "guide-map.zh-CN.md")
    )
    assert english == chinese
    assert len(english) > 35


def test_every_header_of_ours_is_explained():
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py"))
    ours = set(re.findall(r"x-headgate-[a-z-]+", sources))
    assert len(ours) > 10
    assert ours <= set(re.findall(r"`(x-headgate-[a-z-]+)`", (ROOT / "docs/headers.md").read_text("utf-8")))


def test_every_setting_has_a_meaning_and_a_type_of_toml():
    for line in rows(ROOT / "docs" / "settings.md", at=None):
        assert "|  |\n" not in line, line
        assert not re.search(r"\b(?:tuple|Mapping|Optional|str|msgspec)\b", line), line


def rows(page, at):
    """Return the lines of a page's tables, or one column of them."""
    lines = [line + "\n" for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return lines if at is None else [re.split(r"(?<!\\)\|", line)[at] for line in lines]
