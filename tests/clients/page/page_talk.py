"""Talking: an answer as it comes, stop, retry, edit, settings, models, texts that are continued; what is kept."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pygpt

SETTINGS = {"temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "max_tokens": 12, "seed": 7, "stop": "xyzzy"}


@pytest.fixture(scope="module")
def story_model(story: Path) -> pygpt.Model:
    return pygpt.Model.load(story, threads=1)


def test_an_answer_is_shown_while_it_comes_and_can_be_stopped(visit: Any) -> None:
    visit.open("slow").send("go", wait=False)
    page = visit.page
    lengths = []
    for n in (10, 60, 200):
        visit.until(lambda n=n: len(visit.answers[0]) > n)
        assert page.is_visible("#stop")
        lengths.append(len(visit.answers[0]))
    assert lengths == sorted(set(lengths))
    page.click("#stop")
    visit.wait()
    (answer,) = visit.answers
    full = " ".join(f"word{i}." for i in range(190))
    assert full.startswith(answer)
    assert len(answer) < len(full)
    assert page.inner_text(".message.assistant .end") == "Stopped."
    assert re.match(r"\d+ tokens · \d+(\.\d)? tokens/s · first after ", page.inner_text(".message.assistant .speed"))
    assert visit.kept()[0]["messages"][1]["content"] == answer
    visit.send("again", wait=False)  # the server is free for the next
    visit.until(lambda: len(visit.answers) == 2)
    page.keyboard.press("Escape")
    visit.wait()


def test_settings_are_sent_and_the_answer_is_that_of_the_model(visit: Any, story_model: pygpt.Model) -> None:
    visit.open("story").set(**SETTINGS, system="Once upon a time")
    visit.send("there was a dog.")
    (body,) = visit.sent
    expected = {**SETTINGS, "stop": ["xyzzy"], "model": "story", "stream": True, "logprobs": True, "top_logprobs": 5}
    assert {name: body[name] for name in expected} == expected
    messages = [
        {"role": "system", "content": "Once upon a time"},
        {"role": "user", "content": "there was a dog."},
    ]
    assert body["messages"] == messages
    assert visit.last == story_model.chat(messages, **{**SETTINGS, "stop": ["xyzzy"]}).text
    assert "limit" in visit.page.inner_text(".message.assistant .end")
    speed = visit.page.inner_text(".message.assistant .speed")
    assert re.fullmatch(r"12 tokens · (\d+(\.\d)? tokens/s · )?first after \d+\.\d\d s", speed)


def test_without_settings_it_is_asked_as_pygpt_chat_asks(visit: Any) -> None:
    visit.open("story").send("A cat")
    (body,) = visit.sent
    assert (body["temperature"], body["top_p"]) == (0.8, 0.95)
    assert not {"top_k", "min_p", "max_tokens", "seed", "stop"} & body.keys()


def test_a_wrong_setting_is_told_and_nothing_is_sent(visit: Any) -> None:
    visit.open("story").set(top_p=3)
    visit.send("Hello", wait=False)
    page = visit.page
    page.wait_for_selector("#top_p-error:has-text('0.001 to 1')")
    assert page.evaluate("document.activeElement.id") == "top_p"
    assert visit.sent == []
    page.fill("#top_p", "1")
    page.click(".problem button:has-text('Answer')")
    page.wait_for_timeout(50)
    visit.wait()
    assert visit.sent[0]["top_p"] == 1


def test_retry_puts_another_answer_in_the_place_of_the_last(visit: Any, story_model: pygpt.Model) -> None:
    visit.open("story").set(seed=5, max_tokens=10)
    visit.send("A cat")
    for seed in (5, 6, 7):
        messages = [{"role": "user", "content": "A cat"}]
        expected = story_model.chat(messages, seed=seed, max_tokens=10, temperature=0.8, top_p=0.95).text
        assert visit.sent[-1]["seed"] == seed
        assert visit.last == expected
        assert len(visit.answers) == 1
        visit.page.click("button:has-text('Retry')")
        visit.page.wait_for_timeout(50)
        visit.wait()
    assert [message["role"] for message in visit.kept()[0]["messages"]] == ["user", "assistant"]


def test_the_last_message_can_be_edited(visit: Any) -> None:
    visit.open("story").set(max_tokens=5)
    visit.send("A cat")
    visit.send("A dog")
    page = visit.page
    page.locator(".message.given").last.hover()
    assert page.locator("button:has-text('Edit')").count() == 1  # the last one alone
    page.click("button:has-text('Edit')")
    page.fill(".editor textarea", "A bird")
    page.keyboard.press("Escape")
    assert page.locator(".given .text").all_inner_texts() == ["A cat", "A dog"]
    page.click("button:has-text('Edit')")
    page.fill(".editor textarea", "A bird")
    page.keyboard.press("Enter")
    page.wait_for_timeout(50)
    visit.wait()
    assert page.locator(".given .text").all_inner_texts() == ["A cat", "A bird"]
    assert [m["content"] for m in visit.sent[-1]["messages"] if m["role"] == "user"] == ["A cat", "A bird"]
    assert len(visit.answers) == 2


def test_a_model_without_a_template_continues_a_text(visit: Any) -> None:
    visit.open("tiny").set(seed=1, max_tokens=16)
    page = visit.page
    assert page.inner_text(".welcome h2") == "Begin a text"
    assert page.inner_text("#mode") == "continues a text"
    tiny = pygpt.Model.load("tiny", threads=1)
    text = "Once upon a time"
    visit.send(text)
    for _ in range(2):
        assert visit.sent[-1]["prompt"] == text
        assert "messages" not in visit.sent[-1]
        more = tiny.generate(text, seed=1, max_tokens=16, temperature=0.8, top_p=0.95).text
        assert visit.answers[-1] == more
        text += more
        page.click("#send")  # nothing is added
        page.wait_for_timeout(50)
        visit.wait()
    page.click(".foot.whole button:has-text('Edit')")
    assert page.input_value(".editor textarea") == "Once upon a time"


def test_conversations_are_kept_named_and_deleted(visit: Any) -> None:
    visit.open("story").set(max_tokens=5, seed=1)
    page = visit.page
    visit.send("A cat")
    first = visit.answers
    page.click("#new")
    visit.send("A dog")
    titles = page.locator("#conversations .title")
    assert titles.all_inner_texts() == ["A dog", "A cat"]
    page.reload()
    assert titles.all_inner_texts() == ["A dog", "A cat"]
    titles.nth(1).click()
    assert visit.answers == first
    assert visit.tokens.count() > 1  # probabilities are kept as well
    page.click("button:has-text('Rename')")
    page.fill("#conversations input", "Of cats")
    page.keyboard.press("Enter")
    page.reload()
    assert titles.all_inner_texts() == ["A dog", "Of cats"]
    assert page.input_value("#seed") == "1"
    titles.nth(1).click()
    page.click("button:has-text('Delete')")
    assert titles.all_inner_texts() == ["A dog"]
    page.click("button:has-text('Undo')")
    assert titles.all_inner_texts() == ["A dog", "Of cats"]
    page.reload()
    assert titles.all_inner_texts() == ["A dog", "Of cats"]


def test_an_answer_that_grows_survives_a_reload(visit: Any) -> None:
    visit.open("slow").send("go", wait=False)
    page = visit.page
    visit.until(lambda: len(visit.answers[0]) > 100)
    page.reload()
    (answer,) = visit.answers
    assert answer.startswith("word0. word1.")


def test_files_are_those_of_pygpt_chat(visit: Any, story_model: pygpt.Model, tmp_path: Path) -> None:
    visit.open("story").set(max_tokens=5, system="Be brief.")
    visit.send("A “cat”\nand a dog")
    page = visit.page
    with page.expect_download() as waiting:
        page.click("button:has-text('Export')")
    assert waiting.value.suggested_filename == "A-cat-and-a-dog.json"
    exported, saved = tmp_path / "exported.json", tmp_path / "saved.json"
    waiting.value.save_as(exported)
    chat = pygpt.Chat(story_model)
    chat.load(exported)
    assert [m["role"] for m in chat.messages] == ["system", "user", "assistant"]
    assert chat.messages[2]["content"] == visit.last
    chat.send("And now?", max_tokens=4)
    chat.save(saved)
    page.set_input_files("#file", saved)
    visit.until(lambda: page.locator(".message").count() == 4)
    assert page.input_value("#settings [name=system]") == "Be brief."
    with page.expect_download() as waiting:
        page.click("button:has-text('Export')")
    waiting.value.save_as(exported)
    assert exported.read_bytes() == saved.read_bytes()
    for wrong in ("[]", "{", '{"messages": [1]}', '{"messages": []}'):
        (tmp_path / "wrong.json").write_text(wrong, encoding="utf-8")
        page.set_input_files("#file", tmp_path / "wrong.json")
        page.wait_for_selector(".notice:has-text('wrong.json is not a conversation')")
        page.click(".notice button[title=Close]")
    assert len(visit.kept()) == 2


def test_a_store_that_is_damaged_full_or_forbidden(visits: Callable[..., Any], tmp_path: Path) -> None:
    visit = visits()
    visit.open("story").set(max_tokens=5)
    visit.send("A cat")
    visit.page.evaluate("localStorage['pygpt.conversation.1'] = '{\"messages\": 5'")
    visit.page.evaluate("for (const n in localStorage) if (n.includes('tokens.')) localStorage[n] = '[[1,[[2]]]]'")
    visit.page.evaluate("localStorage['pygpt.settings'] = '7'")
    visit.page.reload()
    visit.page.wait_for_selector(".notice:has-text('damaged')")
    visit.set(max_tokens=5)
    assert len(visit.answers) == 1
    with visit.page.expect_download() as waiting:
        visit.page.click("button:has-text('Save and remove')")
    waiting.value.save_as(tmp_path / "damaged.json")
    assert json.loads((tmp_path / "damaged.json").read_text()) == {"pygpt.conversation.1": '{"messages": 5'}
    # Full: probabilities of old conversations make room, and then it is said.
    visit.page.evaluate("localStorage['pygpt.tokens.old'] = 'x'.repeat(1000)")
    put = "localStorage['f' + Math.random()] = 'x'.repeat(n)"
    fill = f"for (let n = 2**21; n >= 1; n /= 2) try {{ for (;;) {put} }} catch {{}}"
    visit.page.evaluate(fill)
    visit.send("A dog")
    assert visit.page.evaluate("localStorage['pygpt.tokens.old']") is None
    visit.page.evaluate(fill)
    visit.send("A bird that is " + "very, " * 2000 + "big")
    visit.page.wait_for_selector(".notice:has-text('no more room')")
    assert visit.page.locator(".given").count() == 3
    forbidden = visits()
    forbidden.page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('no') }})")
    forbidden.open("story").send("A cat")
    forbidden.page.wait_for_selector(".notice:has-text('keeps nothing')")
    assert len(forbidden.answers) == 1


def test_two_tabs_do_not_write_over_each_other(visit: Any) -> None:
    visit.open("story").set(max_tokens=5, seed=1)
    visit.send("A cat")
    other = visit.context.new_page()
    other.goto(visit.url)
    other.wait_for_selector("#model option", state="attached")
    other.fill("#message", "A dog")
    other.click("#send")
    other.wait_for_timeout(50)
    other.wait_for_selector("#send", state="visible")
    visit.until(lambda: len(visit.answers) == 2)
    visit.send("A bird")
    assert [m["content"] for m in visit.kept()[0]["messages"] if m["role"] == "user"] == ["A cat", "A dog", "A bird"]
    other.close()


def test_the_focus_stays_on_an_older_answer_while_a_new_one_ends(visit: Any) -> None:
    visit.open("story").set(max_tokens=8, seed=1)
    visit.send("A cat")
    visit.page.select_option("#model", "slow")
    visit.set(max_tokens=100)
    visit.send("go", wait=False)
    token = visit.page.locator(".message.assistant").first.locator(".token").nth(1)
    token.focus()
    visit.wait()
    assert visit.page.evaluate("document.activeElement.dataset.token") == token.get_attribute("data-token")


def test_a_conversation_that_is_deleted_while_it_is_answered_stays_deleted(visit: Any) -> None:
    visit.open("slow").send("go", wait=False)
    visit.until(lambda: len(visit.answers[0]) > 50)
    visit.page.click("button:has-text('Delete')")
    visit.wait()
    visit.page.wait_for_timeout(300)
    assert visit.kept() == []
    assert visit.page.locator("#conversations .title").count() == 0
    visit.page.click("button:has-text('Undo')")
    assert visit.answers[0].startswith("word0. word1.")
    assert visit.last == visit.answers[0]


def test_without_probabilities(visit: Any) -> None:
    visit.open("story").set(max_tokens=5)
    visit.page.click("#open-settings")
    visit.page.uncheck("#settings [name=logprobs]")
    visit.send("A cat")
    assert not {"logprobs", "top_logprobs"} & visit.sent[0].keys()
    assert len(visit.last) > 0
    assert visit.tokens.count() == 0
    assert visit.page.inner_text(".speed").startswith("5 tokens")
