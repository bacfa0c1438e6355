"""The app in a headless Chromium: links, counts, colours, clicks, access."""

import http.client
import io
import json
import re
import time
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from app_scene import needs_mongod, open_view, save_scene
from chromium import open_browser, open_page, page_on_another_port
from extras import needs_fiftyone
from PIL import Image

from curate.errors import UsageError
from curate.fiftyone_app.mongo import FOLDER_VARIABLE

pytestmark = [needs_fiftyone, needs_mongod]
READY_MS = 30_000
COUNTS = '[data-cy="entry-counts"]'
TILES = '[data-cy="looker"]'
RED, ORANGE, GREEN = "#e02b35", "#f28500", "#1fa34a"


@pytest.fixture(scope="module")
def browser():
    """A browser for all tests here, each with a profile of its own."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def app(browser, app_database, tmp_path_factory):
    """The app on the dataset of `app_scene`: what `view` printed as JSON, and the dataset's folder."""
    root = save_scene(tmp_path_factory.mktemp("app") / "faces")
    with open_view(root, "--run", "first", database=app_database) as (document, process):
        yield document, root
    assert process.returncode == 0


@dataclass
class Visit:
    """A page, its record, and (status, address) of each response."""

    address: str
    count: str
    histograms: dict
    noted: object
    answers: list


@pytest.fixture(scope="module")
def visit(browser, app):
    """The app opened by its link; closed before the next page opens, since FiftyOne synchronises open pages."""
    page, noted = open_page(browser, "about:blank", width=1400)
    answers = []
    page.on("response", lambda response: answers.append((response.status, response.url)))
    page.goto(app[0]["link"])
    page.wait_for_selector(TILES, timeout=READY_MS)
    fields = ("run_first_missed_sizes", "run_first_false_positive_sizes")
    histograms = {field: has_histogram(page, field) for field in fields}
    page.wait_for_timeout(1000)  # what it does later counts too
    shown = Visit(page.url, page.locator(COUNTS).inner_text().strip(), histograms, noted, answers)
    page.context.close()
    return shown


def has_histogram(page, field):
    """Wait for the histogram of a field; only one that has bars has this name."""
    page.wait_for_selector(f'[id="histogram-{field}"] svg', state="attached", timeout=READY_MS)
    return "TypeError" not in page.inner_text("body")


def views_of(app):
    return {view["name"]: view for view in app[0]["views"]}


def open_view_page(browser, link):
    """The app's page at a link, when it shows how many images there are."""
    page, noted = open_page(browser, link, width=1400)
    page.wait_for_selector(COUNTS, timeout=READY_MS)
    return page, noted


def expected_count(view):
    number, what = (view["objects"], "patch") if view["name"].endswith("patches") else (view["images"], "sample")
    plural = {"patch": "patches", "sample": "samples"}[what]
    return f"{number} {what if number == 1 else plural}"


def wait_for_count(page, text):
    page.wait_for_function(
        "([cy, text]) => document.querySelector(cy)?.innerText.trim() === text", arg=[COUNTS, text], timeout=READY_MS
    )


def share_of(page, colour):
    """Number of pixels of about this colour in the pictures."""
    pixels = [
        np.asarray(Image.open(io.BytesIO(tile.screenshot())).convert("RGB"), dtype=np.int64)
        for tile in page.locator(TILES).all()
    ]
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return sum(int((np.abs(picture - wanted).max(axis=2) < 40).sum()) for picture in pixels)


def wait_for_colour(page, colour, what):
    """Wait for the boxes, which are drawn after the pictures."""
    until_s = time.monotonic() + READY_MS / 1000
    while share_of(page, colour) <= 50:
        assert time.monotonic() < until_s, what
        page.wait_for_timeout(200)


def test_the_link(visit):
    """The link shows all images, and the token disappears from the address."""
    assert visit.count == "11 samples"
    assert "token" not in visit.address


def test_views_open_by_their_links(browser, app):
    """A saved view opens by its link in a new browser, with the images or objects that were told, or none.

    What each of the others holds is a test of `view`, without a browser.
    """
    views = views_of(app)
    open_views(
        browser, [views[name] for name in ("missed medium", "missed small patches", "confused classes and poor boxes")]
    )


@pytest.mark.long
def test_every_view_opens_by_its_link(browser, app):
    """Each saved view opens by its link in a new browser, with its number of images or objects."""
    open_views(browser, app[0]["views"])


def open_views(browser, views):
    """Follow the links of views and compare the numbers."""
    page, _ = open_page(browser, "about:blank", width=1400)
    for view in views:
        page.goto(view["link"])
        slug = re.search(r"view=([^&]+)", view["link"]).group(1)
        if view["images"] == 0:
            page.wait_for_selector("text=/no samples|0 samples|0 patches/i", timeout=READY_MS)
        else:
            wait_for_count(page, expected_count(view))
        assert f"view={slug}" in page.url
        assert "token" not in page.url
    page.context.close()


def test_counts_are_those_of_evaluate(app):
    """The views have the counts of `evaluate`."""
    import curate

    errors = curate.evaluate(app[1], run="first", report=False).errors
    views = views_of(app)
    for size in ("small", "medium", "large"):
        assert views[f"missed {size} patches"]["objects"] == errors.missed[size]
        assert views[f"false positives {size}"]["objects"] == errors.false_positives[size]


@pytest.mark.parametrize(
    ("name", "drawn", "absent"),
    [
        ("missed small patches", RED, ORANGE),
        ("nothing there patches", ORANGE, RED),
        pytest.param("missed medium", RED, None, marks=pytest.mark.long),
        pytest.param("duplicates", GREEN, None, marks=pytest.mark.long),
    ],
)
def test_colours(browser, app, name, drawn, absent):
    """Missed objects are drawn red, false positives orange, found objects green."""
    page, _ = open_view_page(browser, views_of(app)[name]["link"])
    page.wait_for_selector(TILES, timeout=READY_MS)
    wait_for_colour(page, drawn, name)
    assert absent is None or share_of(page, absent) == 0
    page.context.close()


def test_a_click_switches_views(browser, app):
    """One click in the list opens another view."""
    views = views_of(app)
    page, _ = open_view_page(browser, views["missed small"]["link"])
    wait_for_count(page, expected_count(views["missed small"]))
    page.get_by_text("Dismiss", exact=True).click()  # FiftyOne's own advertisement lies over the page, once
    page.locator('[data-cy="saved-views-selection"]').click()
    page.get_by_text("missed large patches", exact=True).click()
    wait_for_count(page, "1 patch")
    assert "view=missed-large-patches" in page.url
    page.context.close()


def test_histograms_are_beside(visit):
    """The workspace of the links shows sizes of misses and false positives as histograms."""
    assert visit.histograms == {"run_first_missed_sizes": True, "run_first_false_positive_sizes": True}


def test_histograms_are_beside_patches(browser, app):
    """Patches of false positives have their own sizes in the histogram."""
    page, _ = open_view_page(browser, views_of(app)["false positives large patches"]["link"])
    assert has_histogram(page, "run_first_false_positive_sizes")
    page.context.close()


def test_nothing_leaves_the_machine(visit, app):
    """The page makes no request to other hosts, though FiftyOne's own page does."""
    origin = app[0]["link"].partition("/datasets")[0] + "/"
    assert [url for _, url in visit.answers if not url.startswith((origin, "data:", "blob:"))] == []


def test_no_errors_of_its_own(visit):
    """No script of the page fails, and none of its requests is refused."""
    assert visit.noted.errors == []
    assert [answer for answer in visit.answers if answer[0] >= 400] == []


def test_without_the_token(browser, app):
    """Without the token the page only says how to get it."""
    link = app[0]["link"].partition("?")[0]
    page, _ = open_page(browser, link)
    assert "Open the link that `curate view` printed" in page.inner_text("body")
    page.context.close()


def ask(app, path, *, method="GET", body=None, **headers):
    """Status and body of a request with the cookie; headers may be others than the right ones."""
    document = app[0]
    connection = http.client.HTTPConnection("127.0.0.1", document["port"], timeout=30)
    connection.request("GET", urlsplit(document["link"]).path + "?" + urlsplit(document["link"]).query)
    answer = connection.getresponse()
    answer.read()
    cookie = answer.headers["set-cookie"].partition(";")[0]
    known = {"Cookie": cookie, "Content-Type": "application/json"}
    connection.putrequest(method, path, skip_host="Host" in headers)
    data = b"" if body is None else json.dumps(body).encode()
    for name, value in {**known, "Content-Length": str(len(data)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(data)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_tags_come_out_while_the_app_is_open(app, app_database, monkeypatch):
    """`pull-tags` in another process finds the tags of the open app."""
    import curate

    document, root = app
    monkeypatch.setenv(FOLDER_VARIABLE, str(app_database))
    name = urlsplit(document["link"]).path.rpartition("/")[2]
    of_image_5 = {"_cls": "fiftyone.core.stages.Match", "kwargs": [["filter", {"image_id": 5}]]}

    def tag(is_tagged):
        body = {"dataset": name, "view": [of_image_5], "filters": {}, "changes": {"drop": is_tagged}}
        assert ask(app, "/tag", method="POST", body=body)[0] == 200

    tag(True)
    assert curate.pull_tags(root, dry_run=True).dropped == ("media/images/faces/005.png",)
    tag(False)
    with pytest.raises(UsageError, match="no image is tagged"):
        curate.pull_tags(root, dry_run=True)


def test_media_of_the_dataset_only(app):
    """Only the dataset's images are served."""
    image = app[1] / "media/images/faces/002.png"
    assert ask(app, f"/media?filepath={quote(str(image))}") == (200, image.read_bytes())
    for path in ("/etc/passwd", str(app[1] / "HEAD"), str(image) + "/../../../../HEAD"):
        assert ask(app, f"/media?filepath={quote(path)}")[0] == 403
    assert ask(app, "/media?filepath=/etc/passwd", Cookie="")[0] == 401


def test_foreign_hosts_and_origins(app):
    """Another Host, and a POST from another page, are refused."""
    port = app[0]["port"]
    assert ask(app, "/", Host=f"127.0.0.1:{port}")[0] == 200
    assert ask(app, "/", Host="evil.example")[0] == 403
    query = {"query": "{ version }"}
    assert ask(app, "/graphql", method="POST", body=query)[0] == 200
    assert ask(app, "/graphql", method="POST", body=query, Origin="http://evil.example")[0] == 403


def test_operators_on_files_are_off(app):
    """Listing files of the machine and deleting samples are refused."""
    for name in ("list_files", "download_file", "delete_selected_samples"):
        body = {"operator_uri": f"@voxel51/operators/{name}", "params": {"path": "/etc"}}
        assert ask(app, "/operators/execute", method="POST", body=body)[0] == 403


def test_a_page_on_another_port(browser, app):
    """A page of another server on this machine gets neither the cookie nor an image."""
    address = app[0]["link"].partition("/datasets")[0]
    image = f"{address}/media?filepath={quote(str(app[1] / 'media/images/faces/002.png'))}"

    page, _ = open_view_page(browser, app[0]["link"])
    own = page.evaluate("async url => (await fetch(url)).status", image)
    with page_on_another_port(image) as (port, cookies):
        page.goto(f"http://127.0.0.1:{port}/", wait_until="load")
        width = page.evaluate("document.images[0].naturalWidth")
    page.context.close()
    assert (own, width, set(cookies)) == (200, 0, {None})


def test_only_on_the_loopback(app):
    """The app does not answer on other addresses of the machine."""
    import socket

    addresses = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        if address.startswith("127."):
            continue
        with pytest.raises(OSError), socket.create_connection((address, app[0]["port"]), timeout=2):  # noqa: PT011
            pass
