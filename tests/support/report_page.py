"""Reading of a report's page in tests."""

from pathlib import Path

from lxml import html as lxml_html

import curate


def page_of(root, run="first", **options):
    """Write a report and parse its page."""
    return lxml_html.fromstring(Path(curate.report(root, run=run, **options).report).read_bytes().decode())


def words(element):
    """The text of an element, with single spaces."""
    return " ".join(element.text_content().split())


def table(page, caption):
    """The rows of the table with a caption, each a list of cells."""
    (found,) = [one for one in page.iter("table") if words(one.find("caption")) == caption]
    return [[words(cell) for cell in row.iter("th", "td")] for row in found.iter("tr")]


def tiles(page):
    """Name → large number."""
    return {words(one.find("dt")): words(one.find("dd")) for one in page.find_class("tiles")[0]}


def section(page, name):
    """The text of a section."""
    return words(page.get_element_by_id(name))
