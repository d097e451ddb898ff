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
        re.findall(r"\| (`[^|]+`) \|$", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.MULTILINE)
        for name in ("guide-map.md", "guide-map.zh-CN.md")
    )
    assert english[: len(chinese)] == chinese
