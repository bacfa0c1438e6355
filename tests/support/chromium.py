"""The machine's Chromium, driven by Playwright; requests and errors of pages are recorded."""

import http.server
import shutil
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass
class Noted:
    """Console messages, script errors and requested addresses of a page."""

    console: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    requests: list = field(default_factory=list)


@contextmanager
def open_browser():
    """A headless Chromium without a profile; skips the test if there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"needs a browser, one of {', '.join(NAMES)}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser, address, *, width=1280, height=900, dark=False, **options):
    """Open a page and record it from the start; data URIs are no requests."""
    page = browser.new_page(
        viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light", **options
    )
    noted = Noted()
    page.on("console", lambda message: noted.console.append(message.text))
    page.on("pageerror", lambda error: noted.errors.append(str(error)))
    page.on("request", lambda one: None if one.url.startswith("data:") else noted.requests.append(one.url))
    page.goto(address)
    return page, noted


@contextmanager
def page_on_another_port(image):
    """A page of another server on this machine that shows an image: its port, and the cookies that it was sent."""
    cookies = []
    body = f"<img src='{image}'>".encode()

    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            cookies.append(self.headers["Cookie"])
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server.server_port, cookies
        finally:
            server.shutdown()
            serving.join()
