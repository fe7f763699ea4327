"""What pygpt shows of each token, and how a text becomes a page: probabilities, Markdown, hostile texts, reasoning."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

import pygpt
from pygpt.generation import TokenLogprob

MARKS = {" ": "␣", "\n": "↵", "\t": "⇥"}


def shown(text: str) -> str:
    """A token as the card writes it."""
    return "".join(MARKS.get(c, c) for c in text)


def percent(logprob: float) -> str:
    p = 100 * math.exp(logprob)
    return "<0.01%" if p < 0.01 else f"{p:.2f}%" if p < 1 or p >= 99.995 else f"{p:.1f}%"


def card(page: Page) -> tuple[str, str, float, list[tuple[str, str]], str]:
    """The card's token, probability, log-probability, rows, and the one of them that was chosen."""
    page.wait_for_selector("#card", state="visible")
    cells = [row.inner_text().split() for row in page.locator("#card li").all()]
    rows = [(cell[0], cell[-1]) for cell in cells]
    head = page.locator(".card-head")
    found = re.fullmatch(r"log p (\S+) · \S+ bits", head.locator("span").inner_text())
    assert found is not None
    logprob = float(found[1].replace("−", "-"))
    token, p = head.locator("code").inner_text(), head.locator("strong").inner_text()
    return token, p, logprob, rows, page.locator("#card .chosen code").inner_text()


def same_place(row: str, expected: str) -> bool:
    """Whether two percentages are the same but for rounding a half, which JavaScript and Python do not do alike."""
    return row == expected or abs(float(row.strip("<%")) - float(expected.strip("<%"))) <= 0.1001


def check(page: Page, token: str, expected: TokenLogprob, top: list[tuple[str, float]]) -> None:
    name, p, logprob, rows, chosen = card(page)
    assert name == chosen == shown(token)
    assert abs(logprob - expected.logprob) <= 0.0005001  # three digits
    assert same_place(p, percent(expected.logprob))
    if token not in [text for text, _ in top]:
        top = [*top, (token, expected.logprob)]
    assert [text for text, _ in rows] == [shown(text) for text, _ in top]
    assert all(same_place(row, percent(value)) for (_, row), (_, value) in zip(rows, top, strict=True))


@pytest.mark.parametrize("name", ["tiny", "story"])
def test_the_card_has_the_models_own_probabilities(visit: Any, story: Path, name: str) -> None:
    """Of each token that is seen, under the mouse: of a text that goes on, and of an answer."""
    visit.open(name).set(seed=3, max_tokens=14)
    visit.send("The little dog")
    options: Any = {"seed": 3, "max_tokens": 14, "temperature": 0.8, "top_p": 0.95, "logprobs": 5}
    if name == "tiny":
        model = pygpt.Model.load("tiny", threads=1)
        expected = model.generate("The little dog", **options)
    else:
        model = pygpt.Model.load(story, threads=1)
        expected = model.chat([{"role": "user", "content": "The little dog"}], **options)
    assert visit.last == expected.text
    assert expected.logprobs is not None
    texts = [model.tokenizer.decode([token]) for token in expected.tokens]
    assert visit.tokens.count() >= 10
    for span in visit.tokens.all():
        number = int(span.get_attribute("data-token") or "")
        if not span.inner_text().strip():
            continue
        span.hover()
        visit.page.wait_for_selector(f".token.current[data-token='{number}']")
        one = expected.logprobs[number]
        check(visit.page, texts[number], one, [(model.tokenizer.decode([t]), p) for t, p in one.top])
    visit.page.mouse.move(0, 0)
    visit.page.wait_for_selector("#card", state="hidden")


def test_tokens_are_reached_by_keys_and_by_touch(visits: Any) -> None:
    visit = visits(has_touch=True)
    visit.open("story").set(seed=3, max_tokens=40)
    visit.send("The little dog")
    page = visit.page
    visit.tokens.nth(2).tap()
    page.wait_for_selector("#card", state="visible")
    page.locator(".given .text").tap()
    page.wait_for_selector("#card", state="hidden")

    def at() -> int:
        page.wait_for_selector("#card", state="visible")
        number = page.evaluate("document.activeElement.dataset.token")
        assert page.evaluate("document.activeElement.getAttribute('aria-describedby')") == "card"
        return int(number)

    visit.tokens.first.focus()
    assert page.locator(".token[tabindex='0']").count() == 1  # one stop for the Tab key
    numbers = [at()]
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft", "End", "ArrowRight", "Home", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        numbers.append(at())
    first, second, third, *_, last = visit.numbers
    assert numbers[:7] == [first, second, third, second, last, last, first]
    down, up = (page.locator(f".token[data-token='{number}']").bounding_box() for number in numbers[7:])
    start = visit.tokens.first.bounding_box()
    assert down["y"] + down["height"] > start["y"] + start["height"]
    assert up["y"] == start["y"]
    assert up["x"] - start["x"] < 100  # above it: a word away where lines begin with the rest of a token
    page.keyboard.press("Escape")
    page.wait_for_selector("#card", state="hidden")
    assert page.locator(".token.current").count() == 0


def test_colours_show_every_token_by_its_surprise(visit: Any, markdown_text: str) -> None:
    visit.open("story").set(seed=3, max_tokens=30)
    visit.send("The little dog")
    page = visit.page
    page.click("#tokens")
    assert page.get_attribute("#tokens", "aria-pressed") == "true"
    assert page.is_visible("#legend")
    assert visit.tokens.count() == 30
    for span in visit.tokens.all():
        span.focus()
        bits = -card(page)[2] / math.log(2)
        level = sum(bits >= limit for limit in (0.5, 1, 2, 4, 7))
        near = any(abs(bits - limit) < 0.001 for limit in (0.5, 1, 2, 4, 7))
        assert near or f"s{level}" in (span.get_attribute("class") or "").split()
    colours = {span.evaluate("e => getComputedStyle(e).backgroundColor") for span in visit.tokens.all()}
    assert len(colours) >= 4
    page.reload()
    assert page.get_attribute("#tokens", "aria-pressed") == "true"  # it is kept
    page.click("#new")
    visit.set(max_tokens="")
    page.select_option("#model", "markdown")
    visit.send("go")
    text = page.locator(".assistant .body > .text").text_content()
    assert text is not None
    assert re.sub(r"‹[^›]*›", "", text).replace("↵\n", "\n") == markdown_text  # nothing is hidden
    assert text.count("‹\\x") == 3  # three of the four bytes of 🎈, which stands at the last
    page.click("#tokens")
    assert page.locator(".assistant h3").inner_text() == "A heading"


def test_markdown(visit: Any, markdown_text: str, markdown_code: str) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit.open("markdown").send("go")
    page = visit.page
    body = page.locator(".assistant .body > .text")

    def texts(selector: str) -> list[str]:
        return body.locator(selector).all_text_contents()

    assert visit.last == markdown_text
    assert texts(":scope > p") == ["It is bold, slanted and code.", "2 * 3 * 4 is snake_case_name."]
    assert texts("strong") == ["bold"]
    assert texts("em") == ["slanted", "more"]
    assert texts("p code") == ["code"]
    assert texts("h3") == ["A heading"]
    assert texts("ol > li:first-child") == ["one"]
    assert texts("ol > li > ul > li") == ["inner", "more"]
    assert texts("pre code") == [markdown_code]
    assert texts("th") == ["a", "b"]
    assert texts("td") == ["1", "2"]
    assert texts("blockquote") == ["said 🎈"]
    assert body.locator("hr").count() == 1
    page.click(".code button:has-text('Copy')")
    assert page.evaluate("navigator.clipboard.readText()") == markdown_code
    page.click(".assistant .foot button:has-text('Copy')")
    assert page.evaluate("navigator.clipboard.readText()") == markdown_text


def test_hostile_texts_stay_texts(visit: Any, hostile_text: str) -> None:
    """Of a model, of whoever writes, of a file, of the server's errors."""
    page = visit.open("hostile").page
    visit.set(system=hostile_text)
    visit.set(system="")
    visit.send("go")
    assert visit.last == hostile_text
    file = {"name": "x<b>.json", "mimeType": "application/json"}
    message = '{"messages": [{"role": "<img src=x onerror=hacked=7>", "content": "<script>hacked=8</script>"}, '
    message += '{"role": "user", "content": [{"type": "text", "text": "<b>hi</b>"}]}, {"role": "assistant", "content": '
    message += '"<i>x</i>", "page": {"model": "<u>m</u>", "finish": "constructor"}, "tokens": [["<s>", 0, [], 1]]}]}'
    page.set_input_files("#file", [{**file, "buffer": message.encode()}, {**file, "buffer": b"{}"}])
    page.wait_for_selector(".notice")
    page.click("#tokens")
    page.locator("#conversations .title").last.click()
    page.click("#tokens")
    inside = page.locator(".message .text, .message .who, #conversations .title, .notice p, #card")
    own = "span, p, ul, ol, li, strong, em, code, pre, h3, h4, h5, h6, hr, blockquote, div, button, svg, use"
    strange = [
        element.evaluate(f"e => [...e.querySelectorAll('*')].filter(x => !x.matches('{own}')).length")
        for element in inside.all()
    ]
    assert strange == [0] * len(strange)
    assert page.locator("img:not(.brand img), script:not(head script), iframe, a:not(.skip)").count() == 0
    assert page.evaluate("window.hacked") is None


def test_text_that_would_take_for_ever_does_not(visit: Any) -> None:
    """Nested and unclosed marks, in linear time: 200,000 characters each within the test's patience."""
    page = visit.open().page
    texts = ["*a " * 70000, "**a _b " * 30000, "`" * 200000, "```" + " " * 200000 + "`", "[" * 200000, "> " * 100000]
    texts += [
        "\n".join(" " * i + "- x" for i in range(600)),
        "|" * 200000 + "\n|-|",
        "# " + " #" * 100000,
        "-" * 200000,
    ]
    texts += ["**" + "*a " * 60000 + "**", "".join("`" * (i % 90 + 1) + "a" for i in range(4000)), "\\*" * 100000]
    run = """async texts => {
        const { blocks } = await import("./page/markdown.js");
        const { Answer } = await import("./page/answer.js");
        const { Part } = await import("./page/parts.js");
        const times = [];
        for (const text of texts) {
            const begun = performance.now();
            const answer = new Answer(new Part(text), { markdown: true });
            answer.update();
            times.push(performance.now() - begun);
        }
        return times;
    }"""
    assert max(page.evaluate(run, texts)) < 5000  # some milliseconds; a square would take minutes


def test_reasoning_is_folded(visit: Any, thought: tuple[str, str]) -> None:
    page = visit.open("thinker").page
    visit.send("go")
    assert page.inner_text(".reasoning summary") == "Reasoning"
    inner = page.locator(".reasoning .text")
    assert not inner.is_visible()
    assert visit.answers == [thought[1]]
    page.focus(".reasoning summary")
    page.keyboard.press("Enter")
    assert inner.inner_text() == thought[0].removeprefix("<think>").removesuffix("</think>")
    inner.locator(".token").first.hover()
    page.wait_for_selector("#card", state="visible")
    visit.send("again")
    sent = visit.sent[-1]["messages"]
    assert sent[1] == {"role": "assistant", "content": thought[1]}
