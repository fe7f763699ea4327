"""The page that `pygpt explain` writes, in a real headless Chromium, from a file: what it shows, by whatever means."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

import pygpt
from pygpt.trace_text import line

TEXT = "The little dog ran to the big tree, and the little dog was happy."
HOSTILE = '</script><img src=x onerror="window.hacked=1">\n<b>&amp; \u202eabc\t 你好 {{data}}'
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def tiny() -> pygpt.Model:
    return pygpt.Model.load("tiny", threads=1)


@pytest.fixture(scope="module")
def trace(tiny: pygpt.Model) -> pygpt.Trace:
    return tiny.trace(TEXT, attention=True)


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens a page from a file. No script may fail in it, and it may ask for nothing."""
    errors: list[str] = []
    contexts = []

    def make(page: str, **options: Any) -> Page:
        file = tmp_path / f"{len(contexts)}.html"
        file.write_text(page, encoding="utf-8")
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        opened = context.new_page()
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        opened.on(
            "request",
            lambda request: None if request.url.startswith((file.as_uri(), "data:")) else errors.append(request.url),
        )
        opened.goto(file.as_uri())
        opened.wait_for_selector("html[data-ready]", timeout=90_000)
        return opened

    yield make
    for context in contexts:
        context.close()
    assert errors == []


def rows(page: Page, of: str) -> list[tuple[str, str]]:
    return [
        (row.locator("code").inner_text(), row.locator(".number").inner_text())
        for row in page.locator(f"{of} li").all()
    ]


def percent(p: float) -> str:
    shown = 100 * p
    if shown < 1:
        return "<0.01%" if shown < 0.01 else f"{shown:.2f}%"
    return f"{shown:.1f}%" if shown < 99.95 else "100%"


def near(shown: str, p: float) -> bool:
    """Equal but for a last digit: what is stored is rounded."""
    return shown == percent(p) or abs(float(shown.strip("<%")) - 100 * p) <= 0.0011 * 100 * p + 0.051


def test_every_token_has_its_alternatives(show: Callable[..., Page], trace: pygpt.Trace) -> None:
    """By the mouse."""
    page = show(trace.html("tiny"))
    tokens = page.locator("#text .token")
    assert tokens.count() == len(trace.ids) + 1
    assert "".join(tokens.all_text_contents()[:-1]) == TEXT
    found = trace.alternatives
    for i in (1, 4, len(trace.ids) - 1):
        tokens.nth(i).locator(".ink").hover()
        bits = float(trace.surprisal[i])
        assert f"token {i} of {len(trace.ids)} · id {trace.ids[i]}" in page.inner_text("#place")
        told = re.search(r"(\S+) bits", page.inner_text("#facts"))
        assert told is not None
        assert abs(float(told[1]) - bits) <= 0.006
        shown = rows(page, "#could")
        expected = [*zip(found.pieces[i - 1], found.probabilities[i - 1], strict=True)]
        if trace.pieces[i] not in found.pieces[i - 1]:
            expected.append((trace.pieces[i], 2.0**-bits))
        assert [text for text, _ in shown] == [line(piece) for piece, _ in expected]
        assert all(near(number, float(p)) for (_, number), (_, p) in zip(shown, expected, strict=True))
        assert page.inner_text("#could .chosen code") == line(trace.pieces[i])
    tokens.last.hover()
    assert page.inner_text("#token") == "What comes next"
    assert [text for text, _ in rows(page, "#could")] == [line(piece) for piece in found.pieces[-1]]


def test_the_strongest_colour_is_the_greatest_surprisal(show: Callable[..., Page], trace: pygpt.Trace) -> None:
    page = show(trace.html("tiny"))
    heats = page.evaluate(
        "[...document.querySelectorAll('#text .token:not(.after)')].map(e => +e.style.getPropertyValue('--heat'))"
    )
    np.testing.assert_allclose(heats, np.minimum(np.nan_to_num(trace.surprisal) / 14, 1), atol=0.001)
    assert page.locator('[aria-selected="true"]').get_attribute("data-token") == str(int(np.nanargmax(trace.surprisal)))


def test_the_viewer_of_heads(show: Callable[..., Page], trace: pygpt.Trace) -> None:
    assert trace.attention is not None
    page = show(trace.html("tiny"))
    last = len(trace.ids) - 1
    page.locator("#text .token").nth(last).click()
    page.select_option("#layer", "4")
    for head in (1, -1):
        page.select_option("#head", str(head))
        weights = trace.attention[4, head, last] if head >= 0 else trace.attention[4, :, last].mean(axis=0)
        (text, number), *_ = rows(page, "#looks")
        best = int(weights.argmax())
        assert text == f"{line(trace.pieces[best])} {best}"
        assert abs(float(number.strip("%")) - 100 * weights[best]) <= 1.0
    page.check("[name=colour][value=attention]", force=True)
    heats = page.evaluate(
        "[...document.querySelectorAll('#text .token:not(.after)')].map(e => +e.style.getPropertyValue('--heat'))"
    )
    np.testing.assert_allclose(heats, weights, atol=0.006)
    page.focus("#map")
    for key in ("ArrowUp", "ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    assert f"({last - 1}) looks at" in page.inner_text("#map-says")
    box = page.locator("#overview").bounding_box()
    assert box is not None
    page.locator("#overview").click(position={"x": 24 + 5, "y": 24 + 5})
    assert (page.input_value("#layer"), page.input_value("#head")) == ("0", "0")


def test_the_lens_is_a_table(show: Callable[..., Page], trace: pygpt.Trace) -> None:
    page = show(trace.html("tiny", top=3))
    best = trace.lens(top=3)
    cells = page.locator("#lens tbody tr").nth(2).locator("td")
    assert cells.all_inner_texts() == [line(piece) for piece in best.pieces[:, 2, 0]]
    assert page.locator("#lens thead th").all_inner_texts() == ["after", *(f"layer {i}" for i in range(6))]
    cells.nth(1).click()
    page.keyboard.press("ArrowRight")
    says = page.inner_text("#lens-says")
    assert says.startswith("After layer 2, having read ")
    assert all(line(piece) in says for piece in best.pieces[2, 2])


def test_keys_and_fingers_are_enough(show: Callable[..., Page], trace: pygpt.Trace) -> None:
    page = show(trace.html("tiny"), **PHONE)
    page.locator("#text .token").nth(3).tap()
    assert "token 3 of" in page.inner_text("#place")
    page.keyboard.press("ArrowRight")
    assert "token 4 of" in page.inner_text("#place")
    page.keyboard.press("End")
    assert page.inner_text("#token") == "What comes next"
    page.keyboard.press("Home")
    assert "nothing foretells it" in page.inner_text("#facts")
    page.keyboard.press("ArrowDown")
    assert re.match(r"token [1-9]", page.inner_text("#place"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") in ("inspector", "layer")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", ["phone", "desktop"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(
    show: Callable[..., Page], trace: pygpt.Trace, colours: str, size: str
) -> None:
    page = show(trace.html("tiny"), color_scheme=colours, **(PHONE if size == "phone" else {}))
    for value in ("surprisal", "attention"):
        page.check(f"[name=colour][value={value}]", force=True)
        found = Axe().run(page).response["violations"]
        nodes = [(one["id"], node["html"][:200], node["any"][:1]) for one in found for node in one["nodes"]]
        assert nodes == []
    assert page.evaluate("document.documentElement.scrollWidth") <= (390 if size == "phone" else 1280)
    before = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != before


def test_hostile_texts_stay_texts(show: Callable[..., Page], tiny: pygpt.Model) -> None:
    page = show(tiny.trace(HOSTILE, attention=True).html(HOSTILE))
    assert page.evaluate("window.hacked") is None
    assert page.locator("img, b:not(#facts b, .says b, #map-says b)").count() == 0
    text = "".join(page.locator("#text .token").all_text_contents())
    assert text.startswith(HOSTILE.split("\n")[0] + "↵\n<b>&amp; ")
    assert "⟨202E⟩abc⟨0009⟩" in text
    assert "\\xe4\\xbd你" in text


def test_less_than_everything_is_shown_too(show: Callable[..., Page], tiny: pygpt.Model) -> None:
    page = show(tiny.trace("Once upon a time", layers=[]).html())
    assert not page.is_visible("#heads")
    assert not page.is_visible("#lens")
    page = show(tiny.trace("a", attention=True).html())
    assert page.inner_text("#summary").startswith("1 token · 6 layers")
    page = show(tiny.trace("Once upon", layers=[5]).html())
    assert page.locator("#lens thead th").count() == 2


def test_several_hundred_tokens(show: Callable[..., Page], tiny: pygpt.Model) -> None:
    ids = np.random.default_rng(0).integers(0, 4000, 500)
    page = show(tiny.trace(ids, attention=True).html())
    page.locator("#text .token").nth(480).click()
    assert "token 480 of 500" in page.inner_text("#place")
    assert page.locator("#lens tbody tr").count() == 500
