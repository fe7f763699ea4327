"""/tokenize, /detokenize and /v1/embeddings."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from pygpt import Model

Refused = Callable[..., openai.BadRequestError]


def post(base_url: str, path: str, **body: Any) -> Any:
    response = httpx.post(base_url + path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_tokens_of_a_text_and_back(base_url: str, model: Model) -> None:
    found = post(base_url, "/tokenize", model="gpt2", prompt="in the é", return_token_strs=True)
    ids = model.tokenizer.encode("in the é")
    assert found["tokens"] == ids
    assert found["count"] == len(ids)
    assert found["max_model_len"] == model.config.n_ctx
    assert found["token_strs"][-2:] == ["\\xc3", "\\xa9"]
    assert post(base_url, "/detokenize", model="gpt2", tokens=ids) == {"prompt": "in the é"}
    assert post(base_url, "/tokenize", prompt="in")["token_strs"] is None


def test_tokens_of_a_conversation(base_url: str, chat_model: Model) -> None:
    messages: Any = [{"role": "user", "content": "Hi"}]
    for options in ({}, {"add_generation_prompt": False}):
        text = chat_model.render(messages, **options)
        found = post(base_url, "/tokenize", model="chat", messages=messages, **options)
        assert found["tokens"] == chat_model.tokenizer.encode(text, allow_special=True, add_special=False)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/tokenize", {}, "a prompt or messages"),
        ("/tokenize", {"prompt": "a", "messages": []}, "not both"),
        ("/tokenize", {"messages": [{"role": "user", "content": "a"}]}, "no chat template"),
        ("/detokenize", {"tokens": [-1]}, "0 or more"),
        ("/detokenize", {"tokens": ["a"]}, "valid integer"),
    ],
)
def test_what_is_refused(base_url: str, path: str, body: dict[str, Any], message: str) -> None:
    response = httpx.post(base_url + path, json={"model": "gpt2", **body})
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


def test_embeddings_are_those_of_the_model(client: openai.OpenAI, model: Model) -> None:
    texts = ["in the", "a", "the in"]
    vectors = model.embed(texts)
    ids = [model.tokenizer.encode(text) for text in texts]
    inputs: list[Any] = [texts, ids]
    for given in inputs:
        for encoding in ("float", "base64"):
            answer = client.embeddings.create(model="gpt2", input=given, encoding_format=encoding)  # type: ignore[arg-type]
            found: list[Any] = [one.embedding for one in answer.data]
            if encoding == "base64":
                found = [np.frombuffer(base64.b64decode(one), "<f4") for one in found]
            assert np.array_equal(np.array(found, np.float32), vectors)
            assert [one.index for one in answer.data] == [0, 1, 2]
            assert answer.usage.prompt_tokens == sum(map(len, ids))
    assert client.embeddings.create(model="gpt2", input="a").data[0].embedding == vectors[1].tolist()


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"dimensions": 8}, "dimensions", "unknown parameter"),
        ({"input": ""}, "input", "must not be empty"),
        ({"input": []}, "input", "must not be empty"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"encoding_format": "int8"}, "encoding_format", "'float' or 'base64'"),
        ({"input": "the " * 100}, "input", "do not fit"),
    ],
)
def test_embeddings_that_are_refused(refused: Refused, body: dict[str, Any], param: str, message: str) -> None:
    error = refused("/embeddings", **{"model": "gpt2", "input": "a", **body})
    assert error.param == param
    assert message in error.message


def test_a_tokenizer_says_what_it_has(serving: Callable[..., Any]) -> None:
    async def use(client: httpx.AsyncClient) -> Any:
        return (await client.get("/tokenizer_info")).json()

    info = serving(use)
    end = "<|endoftext|>"
    assert info == {"bos_token": end, "eos_token": end, "chat_template": None, "model_max_length": 512}
