"""When it goes wrong: a server that is away, busy, asks for a key, or finds a conversation too long."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Route

COMPLETIONS = "**/v1/chat/completions"


def events(*data: str) -> dict[str, Any]:
    return {"status": 200, "content_type": "text/event-stream", "body": "".join(f"data: {one}\n\n" for one in data)}


def fulfilling(answer: dict[str, Any]) -> Callable[[Route], None]:
    return lambda route: route.fulfill(**answer)


def test_a_server_that_goes_away_and_comes_back(
    visits: Callable[..., Any], serve: Callable[..., Any], speakers: dict[str, Path], tmp_path: Path
) -> None:
    models = {"slow": speakers["slow"]}
    with serve(models, tmp_path, "--port", "0") as server:
        visit = visits(url=server.url)
        visit.open().send("go", wait=False)
        visit.until(lambda: len(visit.answers[0]) > 50)
        server.process.send_signal(signal.SIGKILL)
        visit.wait()
        page = visit.page
        assert visit.answers[0].startswith("word0. word1.")  # what was said stays
        page.wait_for_selector(".problem:has-text('the connection to the server was lost')")
        visit.send("again")
        page.wait_for_selector(".problem:has-text('The server could not be reached')")
        page.wait_for_selector(".notice:has-text('cannot be reached')")
        assert page.locator(".given .text").all_inner_texts() == ["go", "again"]
    with serve(models, tmp_path, "--port", server.url.rpartition(":")[2]):
        page.wait_for_selector(".notice:has-text('cannot be reached')", state="detached")
        page.click(".problem button:has-text('Try again')")
        visit.until(lambda: len(visit.answers) == 2)
        page.click("#stop")
        visit.wait()
    visit.errors.clear()  # the browser's own, of connections that were lost


def test_a_busy_server_is_asked_again(visit: Any) -> None:
    asked: list[str] = []

    def busy(route: Route) -> None:
        asked.append(route.request.url)
        if len(asked) < 3:
            error = {"message": "the queue is full", "type": "rate_limit_error", "param": None, "code": None}
            route.fulfill(status=429, headers={"retry-after": "1"}, json={"error": error})
        else:
            route.continue_()

    page = visit.open("story").page
    page.route(COMPLETIONS, busy)
    visit.send("A cat", wait=False)
    page.wait_for_selector("text=The server is busy. Next try in 1 s.")
    visit.wait()
    assert len(asked) == 3
    assert len(visit.answers[0]) > 0
    asked.clear()
    visit.send("A dog", wait=False)
    page.wait_for_selector("text=The server is busy.")
    page.click("#stop")  # waiting can be stopped as well
    visit.wait()
    assert len(asked) == 1
    page.wait_for_selector(".problem:has-text('no answer yet')")


def test_a_retry_that_fails_leaves_the_answer_and_can_be_tried_again(visit: Any) -> None:
    page = visit.open("story").page
    visit.set(max_tokens=5, seed=1)
    visit.send("A cat")
    (first,) = visit.answers
    page.route(COMPLETIONS, fulfilling({"status": 500, "json": {"error": {"message": "oops"}}}))
    page.click("button:has-text('Retry')")
    page.wait_for_selector(".problem:has-text('oops')")
    assert visit.answers == [first]
    page.unroute(COMPLETIONS)
    page.click(".problem button:has-text('Try again')")
    page.wait_for_timeout(50)
    visit.wait()
    assert visit.sent[-1]["seed"] == 2
    assert len(visit.answers) == 1
    assert [message["role"] for message in visit.kept()[0]["messages"]] == ["user", "assistant"]


def test_an_api_key_is_asked_for_and_kept_for_the_tab(
    visits: Callable[..., Any], serve: Callable[..., Any], story: Path, tmp_path: Path
) -> None:
    with serve({"story": story}, tmp_path, "--port", "0", "--api-key", "secret") as server:
        visit = visits(url=server.url)
        page = visit.page
        page.goto(server.url)
        for key in ("wrong", "secret"):
            page.wait_for_selector("#key-form", state="visible")
            page.wait_for_selector("#key-hint:has-text('key')")
            page.fill("#key", key)
            page.click("#key-form button")
        page.wait_for_selector("#model option", state="attached")
        visit.set(max_tokens=5)
        visit.send("A cat")
        assert len(visit.answers) == 1
        page.reload()
        visit.send("A dog")
        assert len(visit.answers) == 2
        assert not page.is_visible("#key-form")
        assert page.evaluate("Object.values(localStorage).some(text => text.includes('secret'))") is False
        other = visit.context.new_page()
        other.goto(server.url)
        other.wait_for_selector("#key-form", state="visible")


def test_a_conversation_that_is_too_long_goes_on_without_its_oldest_turns(visit: Any) -> None:
    page = visit.open("story").page
    visit.set(max_tokens=4)
    long = "The dog and the cat went home. " * 16  # some 130 of 512 tokens
    for n in range(5):
        visit.send(f"{n}. {long}")
        if page.locator(".problem").count():
            break
    assert n >= 2
    page.wait_for_selector(".problem:has-text('too long for the model')")
    assert "512" in page.inner_text(".problem .detail")
    page.click("button:has-text('Leave out the oldest')")
    page.wait_for_timeout(50)
    visit.wait()
    assert page.inner_text(".divider") == "The model no longer sees what stands above."
    assert len(visit.sent[-1]["messages"]) < len(visit.sent[-2]["messages"])
    assert visit.sent[-1]["messages"][-1] == visit.sent[-2]["messages"][-1]
    assert visit.sent[-1]["messages"][0]["role"] == "user"
    assert len(visit.kept()[0]["messages"]) == 2 * n + 2  # all of it is kept
    page.click("#new")
    visit.send(long * 5)
    page.wait_for_selector(".problem:has-text('too long for the model')")


def test_a_model_without_a_template_offers_to_continue(visit: Any) -> None:
    page = visit.open("tiny").page
    visit.set(max_tokens=5)
    page.click("#open-settings")
    page.select_option("#settings [name=mode]", "chat")
    visit.send("Once upon a time")
    page.wait_for_selector(".problem:has-text('it was not trained to answer')")
    page.click(".problem button:has-text('Continue it as a text')")
    page.wait_for_timeout(50)
    visit.wait()
    assert visit.sent[-1]["prompt"] == "Once upon a time"
    assert len(visit.answers) == 1


def test_answers_that_break_off_or_make_no_sense(visit: Any) -> None:
    """Each is told, keeps what was said, and leaves the page usable."""
    page = visit.open("story").page
    begun = '{"choices": [{"index": 0, "delta": {"content": "Hello"}}]}'
    error = '{"error": {"message": "the server stops", "type": "server_error", "param": null, "code": null}}'
    cases = [
        (events(begun), "the server ended it early", ["Hello"]),
        (events(begun, error), "the server stops", ["Hello"]),
        (events(begun, "{"), "The answer broke off", ["Hello"]),
        (events('{"choices": 5}', "[]", "null"), "The answer broke off", []),
        ({"status": 200, "body": "<html>"}, "the server ended it early", []),
        ({"status": 500, "body": "<html>oops"}, "500", []),
        ({"status": 502, "body": ""}, "could not be reached", []),
        ({"status": 413, "json": {"error": {"message": "too large <b>"}}}, "too large <b>", []),
        ({"status": 404, "json": {"error": "gone"}}, "404", []),
    ]
    for answer, told, said in cases:
        page.click("#new")
        page.route(COMPLETIONS, fulfilling(answer))
        visit.send("Hi")
        page.wait_for_selector(f".problem:has-text('{told}')")
        assert visit.answers == said
        page.unroute(COMPLETIONS)
    page.click(".problem button")
    page.wait_for_timeout(50)
    visit.wait()
    assert page.locator(".problem").count() == 0
    assert len(visit.answers) == 1
    visit.errors.clear()
