"""The report in a browser: phone and wide screen, dark theme, keyboard, no network."""

import re
from itertools import pairwise

import corner_engine
import pandas as pd
import pytest
from app_scene import keep_run
from chromium import open_browser, open_page
from sample_datasets import LARGE, MEDIUM, SMALL, build_dataset, save

import curate
from curate.run_folder.config import TrainingConfig
from curate.run_folder.folder import RunFolder
from curate.store import Store

CLASSES = ("with_mask", "<b>$x$</b>", "كمامة", "Donaudampfschifffahrtsgesellschaftskapitänsmützenträger" * 3)


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests here."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The address of a report with mistakes of all sizes and kinds, long names, merges, and a comparison."""
    with pytest.MonkeyPatch.context() as patch:
        corner_engine.register(patch)
        boxes = (SMALL, MEDIUM, LARGE, (12, 12, 33, 33), (60, 60, 90, 90))
        images = [[(CLASSES[number % 4], boxes[number % 5])] for number in range(40)]
        splits = pd.array((["train"] + ["val"] * 4) * 8, dtype="str")
        root = tmp_path_factory.mktemp("report") / "faces"
        save(build_dataset(root, images, (*CLASSES, "rare"), split=splits), pictures=True)
        curate.merge_classes(root, ["rare"], "with_mask")
        for run in ("first", "second"):
            dataset = Store(root).load().select("train")
            folder = RunFolder.named(root, run)
            config = TrainingConfig(model="corner:only", steps=3, settings={"a long setting": "x" * 200})
            folder.start(config, dataset, dataset_version=Store(root).head(), dataset_mark=Store(root).mark)
            corner_engine.CornerEngine().train(dataset, folder, config)
            curate.evaluate(root, run=run, min_side=12, report=False)
        return curate.report(root, run="second", against="first").report.resolve().as_uri()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_page(browser, report, width, dark):
    """The page has no message, no other request, no horizontal scroll, and nothing wider than itself."""
    page, noted = open_page(browser, report, width=width, dark=dark)
    assert (noted.console, noted.errors, noted.requests) == ([], [], [report])
    page.eval_on_selector_all("details", "all => all.forEach(one => one.open = true)")
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    outside = """all => all.filter(one => !one.closest('.scroll') && one.getBoundingClientRect().width
                 && one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML.slice(0, 200))"""
    assert page.eval_on_selector_all("main *", outside) == []
    page.close()


def test_structure(browser, report):
    """Headings are in order, regions and pictures have names, and every picture is visible."""
    page, _ = open_page(browser, report)
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => +one.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for one in ("header", "nav[aria-label]", "main", "footer"):
        assert page.locator(one).count() == 1
    assert page.eval_on_selector_all("img", "all => all.filter(one => !one.alt || !one.naturalWidth).length") == 0
    assert page.locator("img").count() > 20
    assert page.eval_on_selector_all(
        "main svg:not([aria-hidden])", "all => all.every(one => one.role && one.ariaLabel)"
    )
    assert page.eval_on_selector_all(
        "table", "all => all.every(one => one.caption && one.querySelector('th[scope=row]'))"
    )
    targets = page.eval_on_selector_all("nav a", "all => all.map(one => !!document.querySelector(one.hash))")
    assert all(targets)
    assert len(targets) == 10
    ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len(set(ids))
    page.close()


def test_keyboard_stops(browser, report):
    """Only tables that scroll are keyboard stops."""
    page, _ = open_page(browser, report)
    scrolls = page.eval_on_selector_all(
        ".scroll",
        "all => all.flatMap((one, place) => one.checkVisibility() && one.scrollWidth > one.clientWidth ? [place] : [])",
    )
    stops = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        stops.add(page.evaluate("[...document.querySelectorAll('.scroll')].indexOf(document.activeElement)"))
    assert stops - {-1} == set(scrolls)
    assert 0 < len(scrolls) < page.locator(".scroll").count() / 2
    page.close()


def luminance(colour):
    """Relative luminance (WCAG 2.2) of a CSS colour."""
    numbers = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
    shares = numbers if colour.startswith("color(") else [number / 255 for number in numbers]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


COLOURS = """all => all.filter(one => one.offsetParent || one.tagName == 'text').map(one => {
  let ground = one;
  while (ground && /rgba\\(0, 0, 0, 0\\)/.test(getComputedStyle(ground).backgroundColor)) ground = ground.parentElement;
  const style = getComputedStyle(one);
  return [one.tagName == 'text' ? style.fill : style.color, getComputedStyle(ground).backgroundColor, one.textContent]
})"""


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(browser, report, dark):
    """Every text has a contrast of at least 4.5 to 1, in the light and the dark theme."""
    page, _ = open_page(browser, report, dark=dark)
    found = page.eval_on_selector_all("h1, h2, h3, h4, p, a, td, th, dt, dd, span, summary, label, code, text", COLOURS)
    weak = []
    for ink, ground, text in found:
        low, high = sorted((luminance(ink), luminance(ground)))
        if (high + 0.05) / (low + 0.05) < 4.5:
            weak.append((ink, ground, text[:40]))
    assert len(found) > 300
    assert weak == []
    assert (luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.1) == dark
    page.close()


def test_keyboard(browser, report):
    """Tab reaches the skip link first and the filters later; arrow keys select a filter."""
    page, _ = open_page(browser, report)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "show":
            break
    assert page.evaluate("document.activeElement.id") == "show-all"
    assert page.evaluate("getComputedStyle(document.activeElement.parentElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    assert page.locator("#show-missed").is_checked()
    assert page.locator(".of-missed").is_visible()
    assert not page.locator(".of-false-positive").is_visible()
    page.close()


def test_filters(browser, report):
    """Filters by size and kind combine; an empty group says so, and folded pictures are shown."""
    page, _ = open_page(browser, report)
    page.locator("#size-small").check()
    assert page.locator(".group:visible").count() == 2
    page.locator("#kind-background").check()
    kinds = page.eval_on_selector_all(
        ".crop", "all => all.filter(one => one.checkVisibility()).map(one => one.className)"
    )
    assert set(kinds) == {"crop kind-background"}
    assert len(kinds) > 12
    assert page.locator(".of-missed .none:visible").count() == 1
    page.close()


def test_print(browser, report):
    """In print the page is light, tables are unfolded, and navigation and filters are hidden."""
    page, _ = open_page(browser, report, width=700, dark=True)
    page.emulate_media(media="print")
    assert luminance(page.evaluate("getComputedStyle(document.body).color")) < 0.1
    assert not page.locator("nav").is_visible()
    assert not page.locator(".filters").is_visible()
    assert page.get_by_text("0.95 – 1.00").is_visible()
    page.close()


def test_print_with_a_choice(browser, report):
    """Filters do not apply in print."""
    page, _ = open_page(browser, report, width=700)
    page.locator("#show-missed").check()
    page.locator("#size-small").check()
    page.locator("#kind-background").check()
    assert page.locator(".of-missed img:visible").count() == 0
    page.emulate_media(media="print")
    count = page.locator("img").count()
    assert page.locator("img:visible").count() == count > 20
    page.close()


def test_choice_without_colours(browser, report):
    """A selected filter differs by more than colour, also with forced colours."""
    page, _ = open_page(browser, report)
    lines = "all => all.map(one => getComputedStyle(one).textDecorationLine)"
    assert page.eval_on_selector_all("fieldset:first-child label", lines) == ["underline", "none", "none"]
    page.emulate_media(forced_colors="active")
    grounds = "all => all.map(one => getComputedStyle(one).backgroundColor)"
    chosen, *others = page.eval_on_selector_all("fieldset:first-child label", grounds)
    assert chosen not in others
    page.close()


def test_unfolded_by_a_kind(browser, report):
    """A filter by kind shows all its pictures, also the folded ones."""
    page, _ = open_page(browser, report)
    assert page.locator(".more > summary:visible").count() > 0
    page.locator("#kind-background").check()
    assert page.locator(".more > summary:visible").count() == 0
    assert page.locator(".more .crop:visible").count() > 0
    page.close()


@pytest.fixture(scope="module")
def wide_report(tmp_path_factory):
    """The address of a report with twenty classes with long names."""
    names = tuple(f"a long name {number}" for number in range(20))
    splits = pd.array(["train", "val"] * 20, dtype="str")
    images = [[(name, SMALL)] for name in names for _ in range(2)]
    root = save(build_dataset(tmp_path_factory.mktemp("wide") / "d", images, names, split=splits), pictures=True)
    keep_run(root, "first", [(2, 1, SMALL, 0.9)])
    return curate.report(root, run="first").report.resolve().as_uri()


def test_wide_matrix_on_paper(browser, wide_report):
    """In print nothing is wider than the page, and a list replaces the matrix of many classes."""
    page, _ = open_page(browser, wide_report, width=680)  # A4 without its margins
    assert (page.locator(".matrix").is_visible(), page.locator(".only-print:visible").count()) == (True, 0)
    page.emulate_media(media="print")
    assert (page.locator(".matrix").is_visible(), page.locator(".only-print:visible").count()) == (False, 2)
    widths = "all => all.filter(one => one.checkVisibility()).map(one => one.getBoundingClientRect().right)"
    assert max(page.eval_on_selector_all("table", widths)) <= 680
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_pictures_can_be_enlarged(browser, report, width):
    """A picture fills the page after a click or the Enter key, and closing it leads back to its place."""
    page, _ = open_page(browser, report, width=width)
    picture = page.locator(".crops img").nth(3)
    picture.click()
    shown = page.locator("figure:target img").bounding_box()
    assert shown["width"] == pytest.approx(width - 32, abs=2)
    assert shown["height"] > 400
    page.locator("figure:target .close").click()
    assert page.locator("figure:target").count() == 0
    assert picture.bounding_box()["width"] < 200
    assert 0 <= picture.bounding_box()["y"] < 900
    page.locator(".crops figure > a").nth(4).focus()
    page.keyboard.press("Enter")
    assert page.locator("figure:target").count() == 1
    page.go_back()
    assert page.locator("figure:target").count() == 0
    page.close()
