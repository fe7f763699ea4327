"""For everyone: keys alone, screen readers, small and large windows, light and dark, little motion."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


def scroll_width(visit: Any) -> int:
    return int(visit.page.evaluate("document.documentElement.scrollWidth"))


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_axe_finds_nothing(visits: Callable[..., Any], colours: str, size: str) -> None:
    """axe-core, with all its rules, in the states that the page has."""
    options: dict[str, Any] = {**(PHONE if size == "phone" else {}), "reduced_motion": "reduce"}
    visit = visits(color_scheme=colours, **options)
    page = visit.page
    axe = Axe()

    def check(state: str) -> None:
        found = axe.run(page).response["violations"]
        nodes = [(one["id"], node["html"][:200], node["any"][:1]) for one in found for node in one["nodes"]]
        assert nodes == [], state

    visit.open("markdown")
    check("empty")
    visit.send("go")
    check("Markdown")
    page.click("#tokens")
    visit.tokens.nth(3).focus()
    page.wait_for_selector("#card", state="visible")
    check("tokens and a card")
    page.click("#tokens")
    page.click("#open-settings")
    page.fill("#top_p", "7")
    check("settings")
    page.fill("#top_p", "")
    page.click("#settings .close")
    page.route("**/v1/chat/completions", lambda route: route.fulfill(status=500, json={"error": {"message": "x"}}))
    visit.send("more")
    check("an error")
    if size == "phone":
        page.click("#open-sidebar")
        check("the list")
    page.click("button:has-text('Delete')")
    if size == "phone":
        page.click("#sidebar .close")
    page.wait_for_selector(".notice")
    check("a notice")


class Keys:
    """Nothing but keys: where they lead, and that it is seen."""

    def __init__(self, visit: Any) -> None:
        self.page = visit.page
        self.press = visit.page.keyboard.press

    def at(self) -> str:
        """What has the focus: its id, its token's number, or its text."""
        outline = self.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        if self.page.evaluate("document.activeElement.id") != "message":  # whose frame shows it
            assert outline != "none"
        return str(self.page.evaluate("(e => e.id || e.dataset.token || e.textContent)(document.activeElement)"))

    def to(self, key: str, wanted: str) -> None:
        """Press a key until it leads there."""
        for _ in range(40):
            self.press(key)
            if self.at() == wanted:
                return
        pytest.fail(f"{key} does not lead to {wanted}")


def test_keys_are_enough_to_talk(visit: Any) -> None:
    """Tab, Enter, arrows and Escape; the focus is never lost, and is seen."""
    visit.open("story")
    page, keys = visit.page, Keys(visit)
    assert keys.at() == "message"
    page.keyboard.type("One")
    keys.press("Shift+Enter")
    page.keyboard.type("two")
    keys.press("Enter")
    page.wait_for_timeout(50)
    visit.wait()
    assert visit.sent[0]["messages"][0]["content"] == "One\ntwo"
    assert keys.at() == "message"
    first, second, *_ = visit.numbers
    keys.to("Shift+Tab", str(first))
    page.wait_for_selector("#card", state="visible")
    keys.press("ArrowRight")
    assert keys.at() == str(second)
    keys.press("Escape")
    keys.to("Shift+Tab", "open-settings")
    keys.press("Enter")
    assert page.evaluate("document.activeElement.closest('#settings') !== null")
    keys.press("Escape")
    assert keys.at() == "open-settings"
    keys.to("Shift+Tab", "tokens")
    keys.press("Space")
    assert page.get_attribute("#tokens", "aria-pressed") == "true"
    keys.to("Tab", "Retry")
    keys.press("Enter")
    page.wait_for_timeout(50)
    visit.wait()
    assert len(visit.sent) == 2
    assert keys.at() == "message"


def test_keys_are_enough_to_keep_order(visit: Any) -> None:
    visit.open("story").set(max_tokens=5)
    page, keys = visit.page, Keys(visit)
    visit.send("One two")
    keys.to("Shift+Tab", "new")
    keys.press("Enter")
    assert keys.at() == "message"
    keys.to("Shift+Tab", "One two")
    keys.press("Enter")
    assert keys.at() == "One two"
    keys.to("Tab", "Rename")
    keys.press("Enter")
    page.keyboard.type("Numbers")
    keys.press("Enter")
    assert keys.at() == "Rename"
    assert page.locator("#conversations .title").all_inner_texts() == ["Numbers"]
    keys.to("Tab", "Delete")
    keys.press("Enter")
    assert keys.at() == "message"
    page.reload()
    keys.to("Shift+Tab", "To the message field")
    keys.press("Enter")
    assert keys.at() == "message"


def test_a_screen_reader_hears_an_answer_once(visit: Any) -> None:
    """Sentence by sentence while it comes; the answer's own elements are no live region."""
    visit.open("slow")
    page = visit.page
    page.evaluate(
        """() => {
            window.heard = [];
            const listen = element => new MutationObserver(changes => {
                for (const change of changes) for (const node of change.addedNodes) heard.push(node.textContent);
            }).observe(element, { childList: true, subtree: true });
            document.querySelectorAll('[aria-live], [role=status], [role=log]').forEach(listen);
        }"""
    )
    assert page.locator("#log").evaluate("e => e.closest('[aria-live], [role=log], [role=status]')") is None
    visit.send("go")
    heard = page.evaluate("heard")
    assert len(heard) > 10
    heard.remove("End of the answer.")
    assert re.sub(r"\s+", " ", " ".join(heard)) == visit.last
    assert page.get_attribute("#log", "aria-label") == "Conversation"
    assert page.locator(".message.assistant").get_attribute("aria-label") == "Answer"


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_is_wider_than_the_window(visits: Callable[..., Any], width: int) -> None:
    visit = visits(viewport={"width": width, "height": 700}, has_touch=width < 500, is_mobile=width < 500)
    visit.open("hostile")
    page = visit.page
    visit.send("go")
    visit.begin()
    page.select_option("#model", "markdown")
    visit.send("go")
    states = [lambda: None, lambda: page.click("#tokens"), lambda: visit.tokens.last.focus()]
    states += [lambda: page.click("#open-settings"), lambda: page.click("#settings .close")]
    states += [lambda: page.fill("#message", "x" * 3000), lambda: page.fill("#message", "x\n" * 100)]
    if width < 800:
        states += [lambda: page.click("#open-sidebar"), lambda: page.click("#conversations .title >> nth=1")]
    for state in states:
        state()
        assert scroll_width(visit) == width
        hidden = "getComputedStyle(e).position === 'fixed' || e.closest('.code, .table, .hidden, .skip, .when, .title')"
        outside = page.evaluate(
            f"""[...document.querySelectorAll('body *')].filter(e => !({hidden})).filter(e => {{
                const box = e.getBoundingClientRect();
                return box.width > 1 && (box.left < -1 || box.right > {width} + 1);
            }}).map(e => e.outerHTML.slice(0, 100))"""
        )
        assert outside == []
    box = page.locator("#send").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= 700  # a long message leaves the button where it is


def test_on_a_phone_the_panels_lie_in_front(visits: Callable[..., Any]) -> None:
    visit = visits(**PHONE)
    visit.open("story")
    visit.send("A cat")
    page = visit.page
    assert not page.is_visible("#sidebar")
    for name in ("sidebar", "settings"):
        page.tap(f"#open-{name}")
        page.wait_for_selector(f"#{name}", state="visible")
        assert page.locator("main").get_attribute("inert") is not None
        assert page.evaluate(f"document.activeElement.closest('#{name}') !== null")
        page.keyboard.press("Escape")
        page.wait_for_selector(f"#{name}", state="hidden")
        assert page.locator("main").get_attribute("inert") is None
        assert page.evaluate("document.activeElement.id") == f"open-{name}"
    small = page.evaluate(
        """[...document.querySelectorAll('button, select, textarea, input')]
            .filter(e => e.checkVisibility() && e.getBoundingClientRect().height < 36).map(e => e.outerHTML)"""
    )
    assert small == []
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('#message')).fontSize)") >= 16


def test_light_and_dark(visits: Callable[..., Any]) -> None:
    def brightness(visit: Any) -> int:
        colour = visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3]))

    light, dark = (visits(color_scheme=scheme).open() for scheme in ("light", "dark"))
    assert brightness(light) > 600
    assert brightness(dark) < 200
    light.page.click("#open-settings")
    light.page.check("#settings [value=dark]", force=True)
    assert brightness(light) < 200
    light.page.reload()
    assert brightness(light) < 200
    light.page.click("#open-settings")
    light.page.check("#settings [value=system]", force=True)
    assert brightness(light) > 600


def test_little_motion_where_it_is_wished(visits: Callable[..., Any]) -> None:
    """Of what waits, and of a panel that comes in front; asked of their styles, as motion itself is soon over."""
    of = "selector => getComputedStyle(document.querySelector(selector)).animationName"
    for wish, motions in (("reduce", ("none", "none")), ("no-preference", ("breathe", "enter"))):
        visit = visits(reduced_motion=wish, viewport={"width": 360, "height": 700})
        visit.open("slow").send("go", wait=False)
        visit.page.click("#open-settings")
        assert (visit.page.evaluate(of, ".breathes"), visit.page.evaluate(of, "#settings")) == motions
