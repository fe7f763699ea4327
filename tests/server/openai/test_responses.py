"""/v1/responses, through OpenAI's own client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from pygpt import Model

Refused = Callable[..., openai.BadRequestError]
SAMPLING: Any = {"temperature": 0.8, "max_output_tokens": 12, "extra_body": {"seed": 7}}
OPTIONS: Any = {"temperature": 0.8, "max_tokens": 12, "seed": 7, "top_p": None}
USER: Any = {"role": "user", "content": "Hi"}


def test_an_answer_is_that_of_the_model(client: openai.OpenAI, chat_model: Model) -> None:
    response = client.responses.create(model="chat", input="Hi", instructions="Be.", **SAMPLING)
    done = chat_model.chat([{"role": "system", "content": "Be."}, USER], **OPTIONS)
    assert response.output_text == done.text
    assert response.status == ("incomplete" if done.finish_reason == "length" else "completed")
    assert response.usage is not None
    assert response.usage.output_tokens == len(done.tokens)
    assert response.usage.total_tokens == response.usage.input_tokens + len(done.tokens)
    assert (response.instructions, response.temperature, response.top_p) == ("Be.", 0.8, 1.0)
    (item,) = response.output
    assert item.type == "message"
    assert item.status == response.status


def test_items_are_messages(client: openai.OpenAI, chat_model: Model) -> None:
    items: Any = [
        {"role": "developer", "content": "Be."},
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "c", "annotations": []}],
        },
        USER,
    ]
    messages = [
        {"role": "system", "content": "Be."},
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "c", "reasoning": "Hm."},
        USER,
    ]
    response = client.responses.create(model="chat", input=items, **SAMPLING)
    assert response.output_text == chat_model.chat(messages, **OPTIONS).text


def test_the_events_of_a_stream(client: openai.OpenAI, chat_model: Model) -> None:
    events = list(client.responses.create(model="chat", input="Hi", stream=True, **SAMPLING))
    done = chat_model.chat([USER], **OPTIONS)
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    end = "response.incomplete" if done.finish_reason == "length" else "response.completed"
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        end,
    ]
    assert {*kinds[4:-4]} == {"response.output_text.delta"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == done.text
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.output_text == done.text
    assert last.response.id == events[0].response.id  # type: ignore[union-attr]
    assert last.response.usage is not None


def test_the_clients_own_stream_helper(thinker: openai.OpenAI) -> None:
    with thinker.responses.stream(model="thinker", input="hi") as stream:
        response = stream.until_done().get_final_response()
    assert response.output_text == "Yes"


def test_logprobs(client: openai.OpenAI, chat_model: Model) -> None:
    ask: Any = {"model": "chat", "input": "Hi", "include": ["message.output_text.logprobs"], "top_logprobs": 2}
    done = chat_model.chat([USER], logprobs=2, **OPTIONS)
    assert done.logprobs is not None
    content: Any = client.responses.create(**ask, **SAMPLING).output[0]
    found = content.content[0].logprobs
    assert [one.logprob for one in found] == [one.logprob for one in done.logprobs][: len(found)]
    assert all(len(one.top_logprobs) == 2 for one in found)


def test_reasoning_is_an_item_of_its_own(thinker: openai.OpenAI) -> None:
    response: Any = thinker.responses.create(model="thinker", input="hi")
    reasoning, message = response.output
    assert (reasoning.type, reasoning.content[0].text) == ("reasoning", "Hm.")
    assert (message.type, message.content[0].text) == ("message", "Yes")
    assert response.usage.output_tokens_details.reasoning_tokens == len("<think>Hm.</think>")
    events = list(thinker.responses.create(model="thinker", input="hi", stream=True))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_text.delta",
        "response.reasoning_text.done",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.completed",
    ]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"store": True}, "store", "must be false"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "unknown parameter"),
        ({"conversation": "conv_1"}, "conversation", "unknown parameter"),
        ({"background": True}, "background", "False"),
        ({"truncation": "auto"}, "truncation", "'disabled'"),
        ({"tools": [{"type": "web_search", "name": "x"}]}, "tools.0.type", "'function'"),
        ({"input": 1}, "input", "a text or a list of items"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0.type", "'message'"),
        ({"input": [{"type": "message", "role": "user"}]}, "input.0", "must have content"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input.0.content.0",
            "'input_image' cannot be read",
        ),
        ({"top_logprobs": 2}, "top_logprobs", "include"),
        ({"max_output_tokens": 0}, "max_output_tokens", "greater than or equal to 1"),
    ],
    ids=str,
)
def test_what_is_refused_is_named(refused: Refused, body: dict[str, Any], param: str, message: str) -> None:
    error = refused("/responses", **{"model": "chat", "input": "Hi", **body})
    assert error.param == param
    assert message in error.message
