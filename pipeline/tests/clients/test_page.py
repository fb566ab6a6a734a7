"""The web page in Chromium, by keyboard and mouse, against the real server.

Needs Chromium (Debian: apt-get install chromium) and Playwright. CHROMIUM names another browser; with SCREENSHOTS, a folder,
pictures of what was seen are left there.
"""

import os
import re
import shutil
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the page was NOT tested: Playwright is missing")
expect = playwright.expect

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the page was NOT tested: Chromium is missing")

PROMPT = "a red circle moving left to right on a blue background"
# Long enough to be seen while it is made.
LONG = {"steps": "200", "frames": "51", "size": "64x64"}
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, server):
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    troubles = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    # What the browser says of refused scripts and styles; that a preview is not there yet is told as an error, too.
    page.on("console", lambda told: troubles.append(told.text) if "Content Security" in told.text else None)
    page.goto(server.url)
    yield page
    context.close()
    assert troubles == []


def shoot(page, name):
    if folder := os.environ.get("SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def fill(page, prompt, settings):
    page.get_by_label("What the video shall show", exact=True).fill(prompt)
    page.evaluate("document.getElementById('settings').open = true")
    for name, value in settings.items():
        page.locator(f"#{name}").fill(value)


def newest(page, prompt):
    return page.locator(".card", has=page.get_by_role("heading", name=prompt, exact=True)).first


def test_a_prompt_becomes_a_film_that_plays(page):
    fill(page, PROMPT, {"steps": "100", "frames": "51", "seed": "7"})
    # By keyboard alone.
    page.get_by_label("What the video shall show", exact=True).press("Control+Enter")
    card = newest(page, PROMPT)
    expect(card.locator(".where")).to_contain_text(re.compile(r"denoising, step \d+ of 100"))
    expect(card.locator(".still")).to_be_visible()
    expect(card.locator(".still")).to_have_attribute("alt", re.compile("^preview of"))
    # The view of the metrics knows rates from its second look on.
    expect(page.locator("#machine-view")).to_contain_text("B/s")
    machine = page.locator("#machine")
    assert machine.evaluate("panel => panel.scrollWidth <= panel.clientWidth")
    shoot(page, "in-progress")
    expect(card.locator(".chip")).to_have_text("finished")
    expect(page.locator("#announcer")).to_contain_text("is finished")
    card.get_by_role("button", name="Play").click()
    film = card.locator("video")
    expect(film).to_be_visible()
    page.wait_for_function(
        "film => film.currentTime > 0.3 && film.videoWidth === 64 && !film.error", arg=film.element_handle()
    )
    shoot(page, "finished")
    with page.expect_download() as download:
        card.get_by_role("link", name="Download").click()
    assert re.fullmatch(r"video_\w+\.mp4", download.value.suggested_filename)


def test_settings_of_a_video_come_back_into_the_form(page):
    prompt = "a small green triangle rising over a white background"
    fill(page, prompt, {"steps": "3", "seed": "11", "size": "48x32", "cfg_scale": "2.5"})
    page.get_by_role("button", name="Make the video").click()
    card = newest(page, prompt)
    expect(card.locator(".chip")).to_have_text("finished")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#prompt")).to_have_value("")
    card.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#prompt")).to_have_value(prompt)
    for name, value in {"steps": "3", "seed": "11", "size": "48x32", "cfg_scale": "2.5"}.items():
        expect(page.locator(f"#{name}")).to_have_value(value)


def test_settings_that_the_form_does_not_show_come_along(page, server):
    # More than a number of the page's language holds.
    seed = 2**64 - 1
    unshown = {"fps": 12, "aesthetic_score": 5.5, "motion_score": 3.0, "camera_motion": "pan left", "priority": 2}
    first = {"prompt": "a purple dot", "seed": seed, "steps": 2, "size": "32x24", "frames": 17, **unshown}
    status, video = server.call("POST", "/v1/videos", first)
    assert status == 200, video
    card = newest(page, first["prompt"])
    expect(card.locator(".chip")).to_have_text("finished")
    card.get_by_role("button", name="Use these settings").click()
    expect(page.locator("#seed")).to_have_value(str(seed))
    again = "a purple dot again"
    page.locator("#prompt").fill(again)
    page.get_by_role("button", name="Make the video").click()
    expect(newest(page, again).locator(".chip")).to_have_text("finished")
    copy = next(video for video in server.all_videos() if video["prompt"] == again)
    assert copy["settings"] == video["settings"]
    # A cleared form asks for none of it.
    page.get_by_role("button", name="Clear").click()
    fill(page, "a plain dot", {"steps": "2", "size": "32x24"})
    page.get_by_role("button", name="Make the video").click()
    expect(newest(page, "a plain dot")).to_be_visible()
    plain = next(video for video in server.all_videos() if video["prompt"] == "a plain dot")
    assert "camera_motion" not in plain["settings"] and plain["settings"]["priority"] == 0


def test_videos_that_are_deleted_elsewhere_leave_the_page(page, server):
    status, video = server.call("POST", "/v1/videos", {"prompt": "a dot that goes", "steps": 2, "size": "32x24"})
    assert status == 200, video
    card = newest(page, "a dot that goes")
    expect(card.locator(".chip")).to_have_text("finished")
    assert server.call("DELETE", f"/v1/videos/{video['id']}")[0] == 200
    expect(card).to_have_count(0)


def test_older_videos_are_shown_although_the_last_one_of_the_list_is_deleted(browser, tmp_path):
    from sora_server import SoraServer

    with SoraServer(tmp_path / "data") as server:
        for number in range(45):
            status, video = server.call("POST", "/v1/videos", {"prompt": f"dot number {number}", **LONG})
            assert status == 200, video
            server.call("POST", f"/v1/videos/{video['id']}/cancel")
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(server.url)
        cards = page.locator(".card")
        expect(cards).to_have_count(20)
        page.once("dialog", lambda dialog: dialog.accept())
        newest(page, "dot number 25").get_by_role("button", name="Delete").click()
        expect(newest(page, "dot number 25")).to_have_count(0)
        # The list tops itself up.
        expect(newest(page, "dot number 24")).to_be_visible()
        page.get_by_role("button", name="Show older ones").click()
        expect(cards).to_have_count(40)
        # Elsewhere, where the page does not look by itself.
        assert server.call("DELETE", f"/v1/videos/{cards.last.get_attribute('data-id')}")[0] == 200
        page.get_by_role("button", name="Show older ones").click()
        expect(cards).to_have_count(43)
        expect(newest(page, "dot number 0")).to_be_visible()
        expect(page.locator("#notice")).to_be_hidden()
        expect(page.locator("#older")).to_be_hidden()
        context.close()
        assert server.stop() == 0


def test_a_video_is_cancelled_and_deleted(page):
    prompt = "a cyan ball growing"
    fill(page, prompt, LONG)
    page.get_by_role("button", name="Make the video").click()
    card = newest(page, prompt)
    expect(card.locator(".where")).to_contain_text("denoising")
    card.get_by_role("button", name="Cancel").press("Enter")
    expect(card.locator(".chip")).to_have_text("cancelled")
    page.once("dialog", lambda dialog: dialog.accept())
    card.get_by_role("button", name="Delete").press("Enter")
    expect(card).to_have_count(0)


def test_those_who_wait_see_their_place_and_what_is_wrong_is_told_at_its_field(page, server):
    waiting = []
    for _ in range(12):
        status, video = server.call("POST", "/v1/videos", {"prompt": "a ball in a queue", **LONG})
        assert status == 200
        waiting.append(video["id"])
    try:
        expect(page.locator("#queue-length")).to_contain_text("waiting")
        expect(page.locator(".where", has_text=re.compile(r"^number \d+ in the queue$")).first).to_be_visible()
        expect(page.locator("#machine-view")).to_contain_text("denois")
        shoot(page, "queue")
        fill(page, "a ball", {"size": "64x64", "lpl": "sideways"})
        page.get_by_role("button", name="Make the video").click()
        expect(page.locator("#form-error")).to_contain_text("lpl")
        expect(page.locator("#lpl")).to_be_focused()
    finally:
        for video in waiting:
            server.call("POST", f"/v1/videos/{video}/cancel")


def test_a_key_is_asked_for_and_used(browser, tmp_path, key_file):
    from sora_server import SoraServer

    with SoraServer(tmp_path / "data", "--api-key-file", str(key_file)) as server:
        page = browser.new_context().new_page()
        page.goto(server.url)
        page.get_by_label("Key", exact=True).fill("sk-first-key-0123456789")
        page.get_by_label("Key", exact=True).press("Enter")
        expect(page.locator("#key-dialog")).to_be_hidden()
        fill(page, PROMPT, {"steps": "2", "size": "32x24"})
        page.get_by_role("button", name="Make the video").click()
        card = newest(page, PROMPT)
        expect(card.locator(".chip")).to_have_text("finished")
        card.get_by_role("button", name="Play").click()
        page.wait_for_function("film => film.currentTime > 0", arg=card.locator("video").element_handle())
        page.context.close()
        assert server.stop() == 0


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(browser, server, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator(".card").first).to_be_visible()
    page.evaluate("document.getElementById('settings').open = true")
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    shoot(page, f"{scheme}-{width}")
    context.close()
