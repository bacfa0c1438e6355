"""The page of `watch --serve` in a headless Chromium."""

import io
import secrets
import threading
from contextlib import contextmanager
from urllib.parse import urlsplit

import numpy as np
import pytest
from chromium import open_browser, open_page, page_on_another_port
from extras import needs_page
from page_scene import BLUE, GREEN, RED, detections_of, event, open_live_page, page_threads, plain, trouble
from PIL import Image

pytestmark = needs_page
READY_MS = 10_000
COLOUR = """() => {
  const [picture, canvas] = [document.getElementById("picture"), document.createElement("canvas")];
  if (picture.hidden || !picture.naturalWidth) return null;
  [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  return [...context.getImageData(5, 5, 1, 1).data].slice(0, 3);
}"""
SHOWS = f"""wanted => {{
  const colour = ({COLOUR})();
  return colour !== null && colour.every((one, place) => Math.abs(one - wanted[place]) <= 5);
}}"""
NASTY = '<img src=x onerror="window.broken = 1"><script>window.broken = 1</script>'


@pytest.fixture(scope="module")
def browser():
    """A browser for all tests here, with a profile for each."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
def live():
    """A page that shows a red frame with one object."""
    with open_live_page() as opened:
        opened.show(plain(RED), detections_of(1))
        opened.set_status("watching", frames_per_s=24.9, latency_ms=83.0)
        yield opened


def open_ready(browser, link, **options):
    """Open the page and wait until it is connected and shows its picture."""
    page, noted = open_page(browser, link, **options)
    await_status(page, "fine")
    page.wait_for_selector("#picture:not([hidden])", timeout=READY_MS)
    return page, noted


def await_status(page, kind):
    page.wait_for_selector(f"#status[data-kind={kind}]", timeout=READY_MS)


def await_rows(page, count):
    page.wait_for_function(
        "count => document.querySelectorAll('#events li').length === count", arg=count, timeout=READY_MS
    )


def rows_of(page):
    """Trigger and description of each event, newest first."""
    texts = page.eval_on_selector_all("#events li > bdi", "all => all.map(one => one.textContent)")
    plain_texts = [text.replace("\u00a0", " ") for text in texts]
    return list(zip(plain_texts[::2], plain_texts[1::2], strict=True))


@contextmanager
def filming(live):
    """Show 50 frames of changing colours per second, from another thread."""
    ended = threading.Event()

    def film():
        number = 0
        while not ended.wait(0.02):
            live.show(plain((RED, GREEN, BLUE)[number // 10 % 3]), detections_of(1, number))
            number += 1

    thread = threading.Thread(target=film)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_the_picture_moves(browser, live):
    """Each frame appears on the page soon after it is shown, in its colours."""
    page, _ = open_ready(browser, live.link())
    shots = []
    for colour in (RED, GREEN, BLUE):
        live.show(plain(colour), detections_of(2))
        page.wait_for_function(SHOWS, arg=list(colour), timeout=READY_MS)
        shot = Image.open(io.BytesIO(page.locator("#picture").screenshot())).convert("RGB")
        shots.append(np.asarray(shot, dtype=int)[shot.height // 2, shot.width // 2])
    assert np.abs(np.array(shots) - (RED, GREEN, BLUE)).max() <= 8
    page.context.close()


def test_a_video(browser, live):
    """With a running video its colours appear; no other host is contacted, and the console stays empty."""
    page, noted = open_ready(browser, live.link())
    with filming(live):
        for colour in (GREEN, RED, BLUE, GREEN):
            page.wait_for_function(SHOWS, arg=list(colour), timeout=READY_MS)
    own = live.link().partition("?")[0]
    assert [url for url in noted.requests if not url.startswith((own, f"blob:{own}"))] == []
    assert (noted.console, noted.errors) == ([], [])
    assert page.context.cookies()[0]["name"] == f"curate_{live.port}"
    assert len(page.context.cookies()) == 1
    page.context.close()


def test_events_appear(browser, live):
    """Earlier and new events are listed, newest first; only new ones flash; a reload keeps all."""
    live.add_event(event("before", 1))
    page, _ = open_ready(browser, live.link())
    await_rows(page, 1)
    live.add_event(event("now", 2, track_id=8))
    await_rows(page, 2)
    rows = [("now", "without_mask · score 0.88 · track 8"), ("before", "without_mask · score 0.88 · track 7")]
    assert rows_of(page) == rows
    assert page.eval_on_selector_all("#events li", "all => all.map(one => one.className)") == ["new", ""]
    assert page.locator("#events time").first.inner_text().split() == ["22:14:02", "2026-03-01"]
    page.reload()
    await_rows(page, 2)
    assert rows_of(page) == rows
    assert page.eval_on_selector_all("#events li.new", "all => all.length") == 0
    page.context.close()


def test_the_last_events(browser, live):
    """A page that is open for long keeps the last 200 events."""
    page, _ = open_ready(browser, live.link())
    for number in range(210):
        live.add_event(event(str(number)))
        if number == 150:
            await_rows(page, 151)
    page.wait_for_function("() => document.querySelector('#events .trigger').textContent === '209'", timeout=READY_MS)
    assert [row[0] for row in rows_of(page)] == [str(number) for number in range(209, 9, -1)]
    page.context.close()


def test_text_is_text(browser):
    """Names from files are shown as written, and nothing in them is executed."""
    with open_live_page() as live:
        live._state._names.update(source=NASTY, run=NASTY)
        live.show(plain(RED), None)
        live.set_status(NASTY, frames_per_s=1.0, latency_ms=None)
        live.add_event(event(NASTY, class_name=NASTY, source=NASTY, detail=NASTY, clip=NASTY))
        page, noted = open_ready(browser, live.link())
        await_rows(page, 1)
        assert rows_of(page) == [(NASTY, " · ".join([NASTY, "score 0.88", "track 7", NASTY, NASTY, NASTY]))]
        assert [page.locator(one).inner_text() for one in ("#source", "#run", "#status-text")] == [NASTY] * 3
        assert page.evaluate("window.broken") is None
        assert page.eval_on_selector_all("img, script", "all => all.map(one => one.id || one.src)") == [
            f"{live.link().partition('?')[0]}page.js",
            "picture",
        ]
        assert (noted.console, noted.errors) == ([], [])
        page.context.close()


def test_trouble(browser, live):
    """A problem of the source is highlighted and described until the next frame."""
    page, _ = open_ready(browser, live.link())
    assert page.locator("#status").inner_text() == "watching"
    live.add_event(trouble("stream_stalled", "no frame for 10 s"))
    await_status(page, "trouble")
    assert page.locator("#status").inner_text() == "Source is stalled"
    await_rows(page, 1)
    assert rows_of(page) == [("Source is stalled", "no frame for 10 s")]
    assert page.locator("#events li.trouble").count() == 1
    live.show(plain(GREEN), detections_of(1))
    live.add_event(trouble("stream_back"))
    await_status(page, "fine")
    await_rows(page, 2)
    assert page.locator("#events li.trouble").count() == 1
    page.context.close()


def test_numbers(browser, live):
    """Speed, latency and number of objects are shown; unknown ones are a dash."""
    page, _ = open_ready(browser, live.link())
    numbers = "() => [...document.querySelectorAll('dd')].map(one => one.textContent).join()"
    assert page.evaluate(numbers) == "24.9,83 ms,1"
    live.set_status("watching", frames_per_s=0.0, latency_ms=None)
    page.wait_for_function(f"() => ({numbers})() === '0,–,1'", timeout=READY_MS)
    page.context.close()


def test_without_the_token(browser, live):
    """Without the token there is only a hint how to get it."""
    page, _ = open_page(browser, live.link().partition("?")[0])
    assert "Open the link that `curate watch` printed" in page.inner_text("body")
    page.context.close()


def test_a_page_on_another_port(browser, live):
    """A page of another program on this machine gets neither the cookie nor the picture."""
    own = live.link().partition("?")[0]
    page, _ = open_ready(browser, live.link())
    assert page.evaluate("async url => (await fetch(url)).status", f"{own}picture") == 200
    with page_on_another_port(f"{own}picture") as (port, cookies):
        for host in ("127.0.0.1", urlsplit(own).hostname.partition(".")[2]):
            page.goto(f"http://{host}:{port}/", wait_until="load")
            assert page.evaluate("document.images[0].naturalWidth") == 0
    assert set(cookies) == {None}
    page.context.close()


@pytest.fixture
def same_link(monkeypatch):
    """All pages on one port have the same link; each has events of its own. Appended tokens are used next."""
    tokens, servers = ["t"], iter(range(1, 9))
    monkeypatch.setattr(secrets, "token_urlsafe", lambda count: tokens[-1] * count)
    monkeypatch.setattr(secrets, "token_hex", lambda count: "0" * 16 if count == 8 else str(next(servers)) * 2 * count)
    return tokens


def test_reconnecting(browser, same_link):
    """The page says when the server is gone, and continues with its events when it is back."""
    with open_live_page() as first:
        first.show(plain(RED), detections_of(1))
        first.add_event(event("before"))
        page, _ = open_ready(browser, first.link())
        await_rows(page, 1)
        first.close()
        assert page_threads() == []
    await_status(page, "gone")
    assert page.locator("#status").inner_text() == "Not connected. Retrying."
    with open_live_page(port=first.port) as second:
        second.add_event(event("after"))
        second.show(plain(BLUE), detections_of(1))
        await_status(page, "fine")
        page.wait_for_function(SHOWS, arg=list(BLUE), timeout=READY_MS)
        await_rows(page, 2)
        assert [row[0] for row in rows_of(page)] == ["after", "before"]
    page.context.close()


def test_an_expired_link(browser, same_link):
    """A page of an earlier watch says so when another is at its address, and shows nothing of it."""
    with open_live_page() as first:
        first.show(plain(RED), None)
        page, _ = open_ready(browser, first.link())
    same_link.append("u")
    with open_live_page(port=first.port) as second:
        second.show(plain(BLUE), None)
        page.wait_for_selector("text=This link has expired", timeout=READY_MS)
        assert page.evaluate(SHOWS, list(RED))
    page.context.close()


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("dark", [False, True])
def test_layout(browser, live, width, dark):
    """On a phone and on a wide screen nothing is cut off or overflows, however long the names are."""
    live.add_event(event("x" * 300, class_name="y" * 300))
    page, noted = open_ready(browser, live.link(), width=width, height=800, dark=dark)
    await_rows(page, 1)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    outside = "all => all.filter(one => one.getBoundingClientRect().right > innerWidth + 1).map(one => one.outerHTML)"
    assert page.eval_on_selector_all("body *", outside) == []
    picture, beside = page.locator("#picture").bounding_box(), page.locator(".live").bounding_box()
    assert picture["width"] == pytest.approx(beside["width"])
    assert picture["y"] + picture["height"] <= 800
    assert picture["width"] >= (390 if width == 390 else width * 0.7)
    is_light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert is_light is not dark
    assert (noted.console, noted.errors) == ([], [])
    page.context.close()


def test_for_screen_readers(browser, live):
    """Events are a log that is read as it grows, without earlier ones; picture and status have names."""
    live.add_event(event())
    page, _ = open_ready(browser, live.link())
    log = page.get_by_role("log", name="Events")
    assert log.count() == 1
    assert log.get_attribute("aria-busy") == "false"
    assert page.get_by_role("img", name="The live picture of door.mp4").count() == 1
    assert page.get_by_role("status").inner_text() == "watching"
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.title() == "door.mp4 · curate watch"
    assert [page.get_by_role("heading", level=level).inner_text() for level in (1, 2)] == ["door.mp4", "Events"]
    page.context.close()
