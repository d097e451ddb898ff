"""The pages in a real browser, in both languages."""

import shutil

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.browser
@pytest.mark.parametrize(
    ("path", "language", "title"),
    [
        ("/", "en", "Headgate is running"),
        ("/", "zh", "Headgate 正在运行"),
        ("/status", "en", "How the providers do"),
        ("/status", "zh", "服务商状态"),
    ],
)
def test_a_page_shows_itself_without_a_complaint(simulated, path, language, title, tmp_path):
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda fault: complaints.append(str(fault)))
        page.goto(simulated.base.removesuffix("/v1") + f"{path}?lang={language}")
        assert title in page.inner_text("h1")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        page.click("nav a[href*=lang]")
        assert page.inner_text("h1") != ""
        assert title not in page.inner_text("h1")
        browser.close()
    assert complaints == []
