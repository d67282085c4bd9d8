"""A real browser goes where an engineer goes; what it saw is kept in build/screens."""

import json
import re
import time
from pathlib import Path

import pytest

from tests.ui.browser import browser
from tests.ui.server import ROOT, children, running

sync_api = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[browser-test]'")
if browser() is None:
    pytest.skip("no Chromium: python -m tests.ui.browser installs it", allow_module_level=True)

SCREENS = ROOT / "build" / "screens"
SMALL = "/?model=llama-3.1-8b&gpus=32&seq_len=32k&global_batch=32&pins=kernels%3Dfused"
WAIT_MS = 60_000
#: What has the focus, and whether that is seen: by an outline or a shadow. Inputs colour the frame
#: around them; the page's own region, which can be scrolled, is no control.
FOCUS = """(() => {
  const at = document.activeElement, look = getComputedStyle(at);
  // A table's cell stands inside its canvas, which draws the ring; the canvas has one of its own.
  const drawn = at.tagName !== 'CANVAS' && at.closest('canvas') !== null;
  const framed = at.tagName === 'INPUT' || at.tagName === 'MAIN' || drawn;
  return {
    tag: at.tagName,
    name: `${at.getAttribute('aria-label') || ''} ${at.tagName === 'BUTTON' ? at.innerText : ''}`,
    seen: framed || look.boxShadow !== 'none' || look.outlineStyle !== 'none',
  };
})()"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    log = tmp_path_factory.mktemp("log") / "server.txt"
    with log.open("w") as stream, running(stream) as (url, process):
        yield url, process
    # The server itself logs connections that visitors close while it writes; the page must not err.
    assert str(ROOT / "ui") not in log.read_text()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=browser(), args=["--no-sandbox"])
        yield found
        found.close()


class Visit:
    """One visitor's page, which notes what goes wrong on it."""

    def __init__(self, chromium, url, width=1280, height=800, scheme="light"):
        self.context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            accept_downloads=True,
        )
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT_MS)
        self.foreign, self.broken = [], []
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda error: self.broken.append(str(error)))
        self.url = url

    def _asked(self, request):
        if not request.url.startswith((self.url, "data:", "blob:", self.url.replace("http", "ws"))):
            self.foreign.append(request.url)

    def open(self, path):
        self.page.goto(self.url + path)
        self.page.get_by_role("heading", level=1).wait_for()
        return self

    def still(self):
        """Wait until nothing runs."""
        self.page.wait_for_selector("[data-testid=stStatusWidget]", state="detached")
        self.page.get_by_role("button", name="Stop").wait_for(state="detached")
        self.page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
        self.page.wait_for_timeout(600)
        return self

    def shot(self, name):
        SCREENS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENS / f"{name}.png")

    def go(self, title):
        """Follow a link of the navigation."""
        self.page.get_by_role("link", name=title, exact=True).first.click()
        self.page.wait_for_timeout(800)
        return self.still()

    def close(self):
        assert not self.foreign, self.foreign
        assert not self.broken, self.broken
        self.context.close()


def test_from_a_question_to_a_link_that_says_it_all(site, chromium, tmp_path):
    visit = Visit(chromium, site[0]).open(SMALL)
    page = visit.page
    page.get_by_role("button", name="Search").click()
    page.get_by_text("Ranked layouts").wait_for()
    visit.still().shot("plan")
    # Select: the third row's box; the plan below the table, and the address, are now that one's.
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    before = page.url
    box = table.bounding_box()
    page.mouse.click(box["x"] + 18, box["y"] + 35 + 2 * 35 + 17)
    page.wait_for_function("before => location.href !== before", arg=before)
    assert "layout=" in page.url
    visit.still()
    # Export: the plan's JSON holds the layout that the address names.
    with page.expect_download() as wanted:
        page.get_by_role("button", name="This plan, JSON").click()
    plan = json.loads(Path(wanted.value.path()).read_text())
    assert f"dp%3D{plan['layout']['dp']}%2C" in page.url or f"dp={plan['layout']['dp']}" in page.url
    # Layout: keep this one, change an axis, and see the two beside each other.
    visit.go("Layout")
    page.get_by_role("button", name="Compare others with this one").click()
    visit.still()
    group = page.get_by_test_id("stButtonGroup").filter(has_text="Micro-batch").first
    options = group.get_by_role("radio")
    others = [at for at in range(options.count()) if not options.nth(at).is_checked()]
    if others:
        options.nth(others[0]).click()
    visit.still()
    page.get_by_text("Beside another layout").scroll_into_view_if_needed()
    visit.shot("compare")
    page.get_by_text(re.compile("is faster: the slower one|same layout")).first.wait_for()
    # Timeline.
    visit.go("Timeline")
    page.get_by_text("Rank by rank").wait_for()
    visit.still().shot("timeline")
    with page.expect_download() as wanted:
        page.get_by_role("button", name="Trace for Perfetto").click()
    assert Path(wanted.value.path()).read_bytes()[:2] == b"\x1f\x8b"
    # The address opened anew, by someone else, shows the same.
    link = page.url
    visit.close()
    again = Visit(chromium, site[0])
    again.page.goto(link)
    again.page.get_by_text("Rank by rank").wait_for()
    again.still().go("Plan")
    assert again.page.get_by_role("textbox", name="Accelerators").input_value() == "32"
    again.page.get_by_text("Ranked layouts").wait_for()
    again.close()


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("", "Time against memory"),
        ("layout", "Memory by pipeline stage"),
        ("timeline", "Rank by rank"),
        ("topology", "Use of the links"),
        ("scaling", "From 8k on"),
        ("accuracy", "Time of a step"),
    ],
)
def test_everything_that_is_offered_downloads(site, chromium, name, there):
    visit = Visit(chromium, site[0])
    asked = "&searched=1&played=1&swept=1&points=8k&layout=tp%3D2%2Cpp%3D4%2Cdp%3D4"
    page = visit.open(SMALL.replace("/", f"/{name}", 1) + asked).page
    page.get_by_text(there).first.wait_for()
    visit.still()
    tables = page.get_by_role("button", name="As a table")
    for at in range(tables.count()):
        tables.nth(at).click()
        page.get_by_test_id("stPopoverBody").get_by_test_id("stDataFrame").wait_for()
        page.keyboard.press("Escape")
        page.get_by_test_id("stPopoverBody").wait_for(state="hidden")
    visit.still()
    offered = page.get_by_test_id("stDownloadButton").get_by_role("button")
    assert offered.count() > 2
    for at in range(offered.count()):
        with page.expect_download() as wanted:
            offered.nth(at).click()
        assert Path(wanted.value.path()).stat().st_size > 10, wanted.value.suggested_filename
        visit.still()
    visit.close()


@pytest.mark.parametrize(
    ("name", "content", "mend"),
    [
        ("config.json", b"{not json", "not JSON"),
        ("config.json", b"\xff\xfe\x00\x01", "not a text file"),
        ("<img src=x onerror=alert(1)>.json", b'{"model_type": "x"}', "img src"),
    ],
)
def test_bad_files_are_refused_in_words(site, chromium, name, content, mend):
    visit = Visit(chromium, site[0]).open("/")
    page = visit.page
    page.get_by_role("button", name="or a config.json").click()
    page.locator("input[type=file]").first.set_input_files(
        {"name": name, "mimeType": "application/json", "buffer": content}
    )
    page.get_by_text(mend).first.wait_for()
    assert page.locator("img[src=x]").count() == 0
    visit.shot("bad-file")
    visit.close()


def test_a_search_goes_on_while_the_page_lives_and_ends_with_it(site, chromium):
    url, server = site
    visit = Visit(chromium, url).open(
        "/?model=deepseek-v3&cluster=h800-hgx&gpus=2048&seq_len=4k&global_batch=15360"
    )
    visit.page.get_by_role("button", name="Search").click()
    visit.page.get_by_text(re.compile("legal layouts looked at")).wait_for()
    visit.shot("search")
    visit.page.get_by_role("button", name="Stop").click()
    visit.page.get_by_text("Stopped.").wait_for()
    visit.page.get_by_role("button", name="Search").click()
    visit.page.get_by_text(re.compile("legal layouts looked at")).wait_for()
    busy = set(children(server.pid))
    assert len(busy) >= 1
    visit.close()  # the browser is closed mid-search
    until = time.monotonic() + 40
    while time.monotonic() < until and len(set(children(server.pid)) & busy) > 1:
        time.sleep(0.5)
    assert len(children(server.pid)) <= 1, "only the process that waits for the next job is left"
    assert server.poll() is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_every_page_is_readable(site, chromium, width, height, scheme):
    layout = "layout=tp%3D2%2Cpp%3D4%2Cdp%3D4"
    visit = Visit(chromium, site[0], width, height, scheme)
    for name in ("", "layout", "timeline", "topology", "scaling", "accuracy"):
        search = "&searched=1" if not name else f"&{layout}"
        visit.open(SMALL.replace("/", f"/{name}", 1) + search).still()
        visit.page.wait_for_timeout(1200)
        visit.shot(f"{name or 'plan'}-{width}-{scheme}")
        inside = visit.page.evaluate(
            "document.documentElement.scrollWidth <= document.documentElement.clientWidth + 1"
        )
        assert inside, f"{name} is wider than a screen of {width}"
        assert not visit.page.get_by_test_id("stException").count()
        pictures = visit.page.evaluate(
            "[...document.querySelectorAll('[data-testid=stMain] img')].filter(i => !i.alt).length"
        )
        assert pictures == 0
    visit.close()


def test_the_keyboard_searches_and_chooses(site, chromium):
    visit = Visit(chromium, site[0]).open(SMALL)
    page = visit.still().page
    tabbed(page, "Search")
    page.keyboard.press("Enter")
    page.get_by_text("Ranked layouts").wait_for()
    visit.still()
    tabbed(page, "Plan looked at")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_function("location.href.includes('layout=')")
    visit.still()
    tabbed(page, "Figure, HTML")
    with page.expect_download() as wanted:
        page.keyboard.press("Enter")
    figure = Path(wanted.value.path()).read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", figure)
    assert "Plotly.newPlot" in figure
    visit.close()


@pytest.mark.parametrize("name", ["", "layout", "timeline", "topology", "scaling", "accuracy"])
def test_what_the_keyboard_is_at_is_seen(site, chromium, name):
    visit = Visit(chromium, site[0])
    visit.open(SMALL.replace("/", f"/{name}", 1) + "&layout=tp%3D2%2Cpp%3D4%2Cdp%3D4").still()
    unseen, reached = [], 0
    for _ in range(80):
        visit.page.keyboard.press("Tab")
        focus = visit.page.evaluate(FOCUS)
        if focus["tag"] == "BODY":
            break
        reached += 1
        if not focus["seen"]:
            unseen.append(focus)
    assert reached > 12
    assert not unseen
    visit.close()


def tabbed(page, name):
    """Go on by the key until what has the focus is called so."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if name in page.evaluate(FOCUS)["name"]:
            return
    raise AssertionError(f"{name} is not reached")


def test_the_first_page_is_there_within_three_seconds(chromium, tmp_path):
    with (tmp_path / "log").open("w") as stream, running(stream) as (url, _):
        visit = Visit(chromium, url)
        begun = time.monotonic()
        visit.page.goto(url)
        visit.page.get_by_role("button", name="Search").wait_for()
        took = time.monotonic() - begun
        visit.close()
    assert took < 3.0, f"{took:.2f} s"


@pytest.mark.slow
def test_this_machine_is_measured_from_the_page_and_planned_with(site, chromium):
    pytest.importorskip("torch", reason="pip install -e '.[validate]'")
    here = "?model=gpt2-xl&cluster=cpu-gloo&gpus=2&seq_len=1k&global_batch=4"
    visit = Visit(chromium, site[0]).open(f"/accuracy{here}&tab=calibrate&budget=20")
    page = visit.page
    page.get_by_role("button", name="Calibrate", exact=True).click()
    page.get_by_text("Measuring:").first.wait_for()
    page.get_by_text("Measured on").first.wait_for(timeout=5 * WAIT_MS)
    visit.still().shot("calibrated")
    with page.expect_download() as wanted:
        page.get_by_role("button", name="The profile, JSON").click()
    found = json.loads(Path(wanted.value.path()).read_text())
    assert found["parameters"]["gemm_fraction"]["kind"] == "fitted"
    page.get_by_role("button", name="Plan with this profile").click()
    page.get_by_text(f"profile {found['name']}").first.wait_for()
    visit.close()
