"""Clients of OpenAI's API that others wrote, against `pygpt serve`: `.ci/run` runs these tests, or

    pip install ".[clients]" && pytest tests/clients/openai_compatible.py

Each gets what the model gives in this process, to the letter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pygpt import Model

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who is the king?"}]
PROMPT = "Once upon a time"
N = 12  # new tokens


@pytest.fixture
def answer(service: Any) -> str:
    return str(service.model.chat(MESSAGES, temperature=0, max_tokens=N).text)


@pytest.fixture
def text(service: Any) -> str:
    return str(service.model.generate(PROMPT, temperature=0, max_tokens=N).text)


def test_curl(service: Any, run: Callable[..., str], text: str) -> None:
    body = {"model": "tiny", "prompt": PROMPT, "max_tokens": N, "temperature": 0}
    url = f"{service.api}/completions"
    whole = json.loads(run("curl", "-sS", "--fail", url, "--json", json.dumps(body)))
    assert whole["choices"][0]["text"] == text
    streamed = run("curl", "-sSN", "--fail", url, "--json", json.dumps({**body, "stream": True})).splitlines()
    events = [line.removeprefix("data: ") for line in streamed if line]
    assert events.pop() == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events) == text
    assert json.loads(run("curl", "-sS", f"{service.api}/models"))["data"][0]["id"] == "tiny"
    assert "400" in run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", url, "--json", "{")


@pytest.mark.parametrize("kind", ["chat", "completion", "responses"])
def test_llm(service: Any, run: Callable[..., str], tmp_path: Path, answer: str, text: str, kind: str) -> None:
    """https://llm.datasette.io: a model of its file extra-openai-models.yaml, by its command line."""
    entry = f"- model_id: here\n  model_name: tiny\n  api_base: {service.api}\n"
    entry += "" if kind == "chat" else f"  {kind}: true\n"
    (tmp_path / "home" / "extra-openai-models.yaml").write_text(entry, encoding="utf-8")
    options = ["-o", "temperature", "0", "-o", "max_tokens", str(N)]
    prompt = [PROMPT] if kind == "completion" else ["-s", MESSAGES[0]["content"], MESSAGES[1]["content"]]
    expected = (text if kind == "completion" else answer).strip()
    for more in ([], ["--no-stream"]):
        assert run("llm", "-m", "here", *options, *more, *prompt).strip() == expected


def test_langchain(service: Any, found: Callable[..., Any], answer: str) -> None:
    """ChatOpenAI, whole, in a stream, and many at a time; and its embeddings."""
    said = found(f"""
import asyncio, json
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
model = ChatOpenAI(base_url={service.api!r}, model="tiny", temperature=0, max_tokens={N})
messages = [(m["role"], m["content"]) for m in {MESSAGES!r}]
whole = model.invoke(messages)
streamed = "".join(chunk.content for chunk in model.stream(messages))
several = asyncio.run(model.abatch([messages] * 8))
vectors = OpenAIEmbeddings(base_url={service.api!r}, model="tiny", check_embedding_ctx_length=False)
print(json.dumps({{"whole": whole.content, "streamed": streamed, "several": [m.content for m in several],
    "tokens": whole.usage_metadata["output_tokens"], "vectors": vectors.embed_documents(["a king", "a dog"])}}))
""")
    assert said["whole"] == said["streamed"] == answer
    assert said["several"] == [answer] * 8
    assert said["tokens"] == N
    check_vectors(service.model, said["vectors"])


def test_litellm(service: Any, found: Callable[..., Any], answer: str, text: str) -> None:
    said = found(f"""
import json, litellm
options = dict(api_base={service.api!r}, api_key="none", temperature=0, max_tokens={N})
whole = litellm.completion(model="openai/tiny", messages={MESSAGES!r}, **options)
streamed = litellm.completion(model="openai/tiny", messages={MESSAGES!r}, stream=True, **options)
parts = [chunk.choices[0].delta.content or "" for chunk in streamed]
text = litellm.text_completion(model="text-completion-openai/tiny", prompt={PROMPT!r}, **options)
vectors = litellm.embedding(model="openai/tiny", input=["a king", "a dog"], api_base={service.api!r}, api_key="none")
print(json.dumps({{"whole": whole.choices[0].message.content, "streamed": "".join(parts),
    "tokens": whole.usage.completion_tokens, "text": text.choices[0].text,
    "vectors": [entry["embedding"] for entry in vectors.data]}}))
""")
    assert said["whole"] == said["streamed"] == answer
    assert said["tokens"] == N
    assert said["text"] == text
    check_vectors(service.model, said["vectors"])


def check_vectors(model: Model, vectors: list[list[float]]) -> None:
    assert vectors == [vector.tolist() for vector in model.embed(["a king", "a dog"])]
