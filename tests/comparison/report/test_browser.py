"""The page in a real browser: nothing is asked for, nothing goes wrong, sorting and toggles work by keyboard."""

import shutil

import pytest

from metricgrad.comparison.report.page import write_report
from tests.comparison.report.studies import NASTY, write

pytest.importorskip("playwright", reason="playwright is not installed: pip install 'metricgrad[test]'")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
QUIET = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = write(tmp_path_factory.mktemp("study"), best=NASTY, classes=("no", NASTY))
    write_report(folder)
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(chromium, address):
    """A function that opens the page; what went wrong or out is looked at in the end."""
    contexts, said, asked = [], [], []

    def open_page(scheme="light", width=1200):
        contexts.append(chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900}))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.wait_for_selector("html[data-drawn=yes]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {address}


@pytest.fixture(scope="module")
def page(opened):
    return opened()


def order(page):
    return page.locator("#losses tbody tr th").all_inner_texts()


def test_a_heading_sorts_by_mouse_and_by_keyboard(page):
    names = [f"{NASTY}", "ala_static (control)", "cross_entropy"]
    button = page.locator("#losses th button", has_text="mean").first
    button.click()
    assert order(page) == [names[1], names[2], names[0]]
    assert page.locator("#losses th[aria-sort=ascending]").inner_text().startswith("mean")
    button.focus()
    page.keyboard.press("Enter")
    assert order(page) == [names[0], names[2], names[1]]
    page.locator("#losses th button", has_text="p").nth(0).press("Space")
    assert page.locator("#losses th[aria-sort]:not([aria-sort=none])").count() == 1


def test_missing_numbers_stay_at_the_end(page):
    column = page.locator("#losses").get_by_role("button", name="p", exact=True)
    for _ in range(2):
        column.click()
        assert order(page)[-1] == "ala_static (control)"


def test_toggles_take_dots_away_and_bring_them_back(page):
    count = "document.querySelectorAll('[data-figure=intervals] .point').length"
    shown = page.evaluate(count)
    page.get_by_label("every seed").focus()
    page.keyboard.press("Space")
    page.wait_for_function(f"n => {count} === n - 18", arg=shown)
    page.keyboard.press("Space")
    page.wait_for_function(f"n => {count} === n", arg=shown)


def test_the_confusion_table_is_read_with_and_without_the_decision(page):
    cells = lambda: page.locator(".confusion:visible td").all_inner_texts()  # noqa: E731
    assert cells() == ["40", "10", "3", "17"]
    page.get_by_label("without", exact=True).nth(1).check()
    assert cells() == ["45", "5", "10", "10"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page, scheme):
    page.emulate_media(color_scheme=scheme)
    ratios = page.evaluate(
        """() => {
        const light = (name) => {
            const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
            const parts = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);
            const [r, g, b] = parts.map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
        const found = {};
        for (const ground of ["--paper", "--surface"])
            for (const ink of ["--ink", "--ink-soft", "--accent", "--good", "--bad", "--blue", "--orange", "--green",
                               "--purple", "--red", "--teal", "--grey"])
                found[`${ink} on ${ground}`] = ratio(ink, ground);
        return found;
    }"""
    )
    text = {name: ratio for name, ratio in ratios.items() if "grey" not in name}
    assert {name: ratio for name, ratio in text.items() if ratio < 4.5} == {}
    assert min(ratios.values()) > 3  # what marks of a picture need


def test_a_phone_scrolls_down_and_not_sideways(opened):
    page = opened(width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_names_of_losses_are_read_in_the_dark_of_a_phone(opened):
    page = opened("dark", width=390)
    ink = "getComputedStyle(document.querySelector('[data-figure=intervals] .%s text')).fill"
    assert page.evaluate(ink % "ytick") == page.evaluate(ink % "xtick") == "rgb(232, 237, 242)"


def test_every_picture_and_every_field_has_a_name(page):
    assert page.locator(".plot").count() == page.locator(".plot[role=img][aria-label]").count() > 5
    assert page.locator("input").count() == page.locator("label input").count() > 3
    assert page.locator("h1").count() == 1
    assert page.evaluate("[...document.querySelectorAll('nav a')].every((a) => document.querySelector(a.hash))")


def test_a_change_of_light_is_followed_and_paper_is_white(page):
    ink = "getComputedStyle(document.querySelector('[data-figure=intervals] .xtick text')).fill"
    for media, scheme, color in (
        ("screen", "dark", "rgb(232, 237, 242)"),
        ("screen", "light", "rgb(23, 32, 42)"),
        ("print", "dark", "rgb(0, 0, 0)"),
    ):
        page.emulate_media(media=media, color_scheme=scheme)
        page.wait_for_function(f"color => {ink} === color", arg=color)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.emulate_media(media="screen", color_scheme="light")


def test_a_name_is_shown_as_it_was_written(page):
    assert "<script>alert('x')</script>" in page.locator("h1").inner_text()
    assert page.locator("[data-figure=intervals] .ytick text").nth(1).text_content().startswith("<script>alert(")
