"""/v1/chat/completions, through OpenAI's own client: answers are what `Model.chat` gives, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from pygpt import Completion, Model
from pygpt.server.openai.chat import ChatAnswer, ChatChunk

Refused = Callable[..., openai.BadRequestError]
SEED: Any = {"seed": 7, "temperature": 0.8, "max_tokens": 12}
MESSAGES: Any = [{"role": "system", "content": "Be."}, {"role": "user", "content": "Hi"}]


def chat(model: Model, messages: Any = MESSAGES, **options: Any) -> list[Completion]:
    """With OpenAI's defaults."""
    done = model.chat(messages, **{"temperature": 1.0, "top_p": None, **options})
    return done if isinstance(done, list) else [done]


def test_an_answer_is_that_of_the_model(client: openai.OpenAI, chat_model: Model) -> None:
    asked = client.chat.completions.create(model="chat", messages=MESSAGES, n=2, **SEED)
    done = chat(chat_model, n=2, **SEED)
    assert [(c.index, c.message.content, c.finish_reason) for c in asked.choices] == [
        (i, one.text, one.finish_reason) for i, one in enumerate(done)
    ]
    assert asked.object == "chat.completion"
    assert asked.choices[0].message.role == "assistant"
    assert asked.usage is not None
    assert asked.usage.completion_tokens == sum(len(one.tokens) for one in done)
    ChatAnswer.model_validate(asked.model_dump(exclude_unset=True), strict=True)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_the_two_names_of_max_tokens(client: openai.OpenAI, name: str) -> None:
    limit: Any = {name: 3}
    asked = client.chat.completions.create(model="chat", messages=MESSAGES, seed=1, **limit)
    assert asked.usage is not None
    assert asked.usage.completion_tokens == 3
    assert asked.choices[0].finish_reason == "length"


def test_a_stream_is_the_same_text(client: openai.OpenAI, chat_model: Model) -> None:
    texts, roles, usage = ["", ""], [], None
    stream = client.chat.completions.create(
        model="chat", messages=MESSAGES, n=2, stream=True, stream_options={"include_usage": True}, **SEED
    )
    for chunk in stream:
        ChatChunk.model_validate(chunk.model_dump(exclude_unset=True), strict=True)
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.delta.role:
                roles.append((choice.index, choice.delta.role, texts[choice.index]))
        usage = chunk.usage
    done = chat(chat_model, n=2, **SEED)
    assert texts == [one.text for one in done]
    assert roles == [(0, "assistant", ""), (1, "assistant", "")]
    assert usage is not None
    assert usage.completion_tokens == sum(len(one.tokens) for one in done)


def test_logprobs(client: openai.OpenAI, chat_model: Model) -> None:
    done = chat(chat_model, logprobs=3, **SEED)[0]
    assert done.logprobs is not None
    ask: Any = {"model": "chat", "messages": MESSAGES, "logprobs": True, "top_logprobs": 3, **SEED}
    logprobs = client.chat.completions.create(**ask).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert [one.logprob for one in logprobs.content] == [one.logprob for one in done.logprobs]
    tops = [tuple(top.logprob for top in one.top_logprobs) for one in logprobs.content]
    assert tops == [tuple(logprob for _, logprob in one.top) for one in done.logprobs]
    data = b"".join(bytes(one.bytes or ()) for one in logprobs.content)
    assert data == b"".join(map(chat_model.tokenizer.token_bytes, done.tokens))
    streamed = [
        choice.logprobs for chunk in client.chat.completions.create(stream=True, **ask) for choice in chunk.choices
    ]
    assert [one for each in streamed if each and each.content for one in each.content] == logprobs.content


def test_messages_of_every_kind(client: openai.OpenAI, chat_model: Model) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages: Any = [
        {"role": "developer", "content": parts},
        {"role": "user", "content": "c", "name": "me"},
        {"role": "assistant", "content": None, "refusal": "no", "annotations": [], "audio": None},
        {"role": "assistant", "content": "x", "reasoning_content": "Hm."},
        {"role": "user", "content": "d"},
    ]
    plain = [
        {"role": "system", "content": "a\nb"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "no"},
        {"role": "assistant", "content": "x", "reasoning": "Hm."},
        {"role": "user", "content": "d"},
    ]
    asked = client.chat.completions.create(model="chat", messages=messages, **SEED)
    assert asked.choices[0].message.content == chat(chat_model, plain, **SEED)[0].text


def test_the_last_message_goes_on(client: openai.OpenAI, chat_model: Model) -> None:
    messages: Any = [*MESSAGES, {"role": "assistant", "content": "He"}]
    body = {"continue_final_message": True}
    asked = client.chat.completions.create(model="chat", messages=messages, extra_body=body, **SEED)
    assert asked.choices[0].message.content == chat(chat_model, messages, continue_final_message=True, **SEED)[0].text


def test_reasoning_stands_apart(thinker: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    answer: Any = thinker.chat.completions.create(model="thinker", messages=messages)
    assert answer.choices[0].message.content == "Yes"
    assert answer.choices[0].message.reasoning_content == "Hm."
    assert answer.usage.completion_tokens_details.reasoning_tokens == len("<think>Hm.</think>")
    chunks: Any = thinker.chat.completions.create(model="thinker", messages=messages, stream=True)
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "Hm."
    assert "".join(delta.content or "" for delta in deltas) == "Yes"


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "cook", "content": "x"}]}, "messages.0.role", "'system'"),
        ({"messages": [{"role": "user"}]}, "messages.0", "must have content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages.0.content", "a text or a list of parts"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0",
            "'image_url' cannot be read",
        ),
        ({"functions": []}, "functions", "unknown parameter"),
        ({"top_logprobs": 2}, "top_logprobs", "logprobs: true"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "one of the two"),
        ({"modalities": ["audio"]}, "modalities.0", "'text'"),
    ],
    ids=str,
)
def test_what_is_refused_is_named(refused: Refused, body: dict[str, Any], param: str, message: str) -> None:
    error = refused("/chat/completions", **{"model": "chat", "messages": MESSAGES, **body})
    assert error.param == param
    assert message in error.message


def test_a_model_without_a_template_says_what_to_do(refused: Refused) -> None:
    error = refused("/chat/completions", model="gpt2", messages=MESSAGES)
    assert (error.param, error.code) == ("model", "no_chat_template")
    assert "/v1/completions" in error.message
