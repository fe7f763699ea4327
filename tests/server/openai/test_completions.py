"""/v1/completions, through OpenAI's own client: answers are what `Model.generate` gives, to the bit."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from starlette.applications import Starlette

from pygpt import Completion, Model
from pygpt.server.openai.completions import CompletionAnswer

Refused = Callable[..., openai.BadRequestError]
SEED = {"seed": 7, "temperature": 0.8}
PROMPT = "Once upon a time"


def generate(model: Model, prompt: Any = PROMPT, **options: Any) -> list[Completion]:
    """With OpenAI's defaults."""
    done = model.generate(prompt, **{"temperature": 1.0, "top_p": None, "max_tokens": 16, **options})
    return done if isinstance(done, list) else [done]


def test_the_first_snippet_of_openai_runs(client: openai.OpenAI, model: Model) -> None:
    response = client.completions.create(
        model="gpt2", prompt="Once upon a time in a land far, far away,", temperature=0.7, max_tokens=150
    )
    assert response.object == "text_completion"
    assert response.model == "gpt2"
    assert response.id.startswith("cmpl-")
    assert response.usage is not None
    assert response.usage.completion_tokens <= 150
    assert response.choices[0].text
    assert response.system_fingerprint is not None
    assert response.system_fingerprint.startswith("pygpt-")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_tokens": 5},
        {"temperature": 0},
        {"top_p": 0.5},
        {"n": 3},
        {"stop": "t"},
        {"stop": ["e", "xyz"]},
        {"top_k": 5},
        {"min_p": 0.1},
        {"repetition_penalty": 1.5},
        {"presence_penalty": 1.5, "frequency_penalty": -0.5},
        {"logit_bias": {"5": 100, "7": 99.5}},
    ],
    ids=str,
)
def test_options_are_those_of_generate(client: openai.OpenAI, model: Model, options: dict[str, Any]) -> None:
    own = {key: options[key] for key in options if key in ("top_k", "min_p", "repetition_penalty")}
    others = {key: options[key] for key in options if key not in own}
    asked = client.completions.create(model="gpt2", prompt=PROMPT, **{**SEED, **others}, extra_body=own)
    biases = {int(token): bias for token, bias in options.get("logit_bias", {}).items()}
    done = generate(model, **{**SEED, **options, "logit_bias": biases})
    assert [(c.index, c.text, c.finish_reason) for c in asked.choices] == [
        (i, one.text, one.finish_reason) for i, one in enumerate(done)
    ]
    assert asked.usage is not None
    assert asked.usage.completion_tokens == sum(len(one.tokens) for one in done)
    assert asked.usage.prompt_tokens == len(model.tokenizer.encode(PROMPT))
    assert asked.usage.total_tokens == asked.usage.prompt_tokens + asked.usage.completion_tokens


def test_prompts_of_every_kind(client: openai.OpenAI, model: Model) -> None:
    texts = ["Once", "upon", "a time"]
    ids = [model.tokenizer.encode(text) for text in texts]
    expected = [one.text for one in generate(model, texts, n=2, **SEED)]
    prompts: list[Any] = [texts, ids]
    for prompt in prompts:
        asked = client.completions.create(model="gpt2", prompt=prompt, n=2, **SEED)
        assert [choice.text for choice in asked.choices] == expected
        assert [choice.index for choice in asked.choices] == list(range(6))
    assert client.completions.create(model="gpt2", prompt=ids[0], **SEED).choices[0].text == expected[0]


def test_a_stream_is_the_same_text(client: openai.OpenAI, model: Model) -> None:
    prompts = ["Once", "upon"]
    texts, reasons, usage = ["", "", "", ""], [None] * 4, None
    stream = client.completions.create(
        model="gpt2", prompt=prompts, n=2, stream=True, stream_options={"include_usage": True}, **SEED
    )
    for chunk in stream:
        CompletionAnswer.model_validate(chunk.model_dump(), strict=True)
        for choice in chunk.choices:
            assert chunk.usage is None
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
        usage = chunk.usage
    done = generate(model, prompts, n=2, **SEED)
    assert texts == [one.text for one in done]
    assert reasons == [one.finish_reason for one in done]
    assert usage is not None
    assert usage.completion_tokens == sum(len(one.tokens) for one in done)


def test_logprobs(client: openai.OpenAI, model: Model) -> None:
    done = generate(model, logprobs=3, **SEED)[0]
    assert done.logprobs is not None
    asked = client.completions.create(model="gpt2", prompt=PROMPT, logprobs=3, **SEED).choices[0]
    assert asked.logprobs is not None
    assert asked.logprobs.token_logprobs == [one.logprob for one in done.logprobs]
    assert asked.logprobs.tokens is not None
    assert asked.logprobs.top_logprobs is not None
    for shown, top, one in zip(asked.logprobs.tokens, asked.logprobs.top_logprobs, done.logprobs, strict=True):
        assert top[shown] == one.logprob
        assert max(top.values()) == one.top[0][1]
        assert 1 <= len(top) <= 4
    assert asked.logprobs.text_offset is not None
    assert asked.logprobs.text_offset[0] == 0
    streamed = client.completions.create(model="gpt2", prompt=PROMPT, logprobs=3, stream=True, **SEED)
    rows = [choice.logprobs.model_dump() for chunk in streamed for choice in chunk.choices if choice.logprobs]
    assert {key: [value for row in rows for value in row[key]] for key in rows[0]} == asked.logprobs.model_dump()


def test_best_of_takes_the_likeliest_on_average(client: openai.OpenAI, model: Model) -> None:
    done = generate(model, n=5, logprobs=0, **SEED)
    ranked = sorted(done, key=lambda one: -sum(p.logprob for p in one.logprobs or ()) / len(one.tokens))
    asked = client.completions.create(model="gpt2", prompt=PROMPT, best_of=5, n=2, **SEED)
    assert [choice.text for choice in asked.choices] == [one.text for one in ranked[:2]]
    assert asked.choices[0].logprobs is None
    assert asked.usage is not None
    assert asked.usage.completion_tokens == sum(len(one.tokens) for one in done)


def test_echo_begins_with_the_prompt(client: openai.OpenAI, model: Model) -> None:
    done = generate(model, **SEED)[0]
    ids: Any = model.tokenizer.encode(PROMPT)
    for prompt in (PROMPT, ids):
        asked = client.completions.create(model="gpt2", prompt=prompt, echo=True, **SEED)
        assert asked.choices[0].text == PROMPT + done.text


def test_echo_with_logprobs_scores_the_prompt(client: openai.OpenAI, model: Model) -> None:
    """As lm-evaluation-harness asks: `max_tokens` 0, or 1 whose token it leaves out."""
    ids = model.tokenizer.encode(PROMPT)
    scores = model.score(PROMPT).tolist()
    texts = [model.tokenizer.decode([i]) for i in ids]
    done = generate(model, logprobs=2, temperature=0, max_tokens=1)[0]
    prompts: list[Any] = [[PROMPT, PROMPT], [ids, ids]]
    for max_tokens, prompt in itertools.product((0, 1), prompts):
        asked = client.completions.create(
            model="gpt2", prompt=prompt, echo=True, logprobs=2, max_tokens=max_tokens, temperature=0
        )
        for choice in asked.choices:
            lists = choice.logprobs
            assert choice.text == PROMPT + (done.text if max_tokens else "")
            assert lists is not None
            assert lists.tokens is not None
            assert lists.tokens[: len(ids)] == texts
            assert lists.token_logprobs is not None
            assert lists.token_logprobs[: len(ids)] == [None, *scores]
            assert lists.top_logprobs is not None
            assert lists.top_logprobs[0] is None
            assert all(2 <= len(top) <= 3 for top in lists.top_logprobs[1:])
            assert all(max(top.values()) >= one for top, one in zip(lists.top_logprobs[1:], scores, strict=False))
            assert lists.text_offset is not None
            assert lists.text_offset[: len(ids)] == [len("".join(texts[:i])) for i in range(len(ids))]
            assert len(lists.tokens) == len(ids) + max_tokens
        assert asked.usage is not None
        assert asked.usage.completion_tokens == 2 * max_tokens


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({"suffix": "."}, "suffix", "unknown parameter"),
        ({"temprature": 1}, "temprature", "unknown parameter"),
        ({"prompt": [1, "a"]}, "prompt", "a list of texts"),
        ({"prompt": ""}, "prompt", "must not be empty"),
        ({"prompt": [999999]}, "prompt", "outside the vocabulary"),
        ({"temperature": -1}, "temperature", "finite number >= 0"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 129}, "n", "more than the 128"),
        ({"logprobs": 21}, "logprobs", "less than or equal to 20"),
        ({"best_of": 1, "n": 2}, "best_of", "at least n"),
        ({"best_of": 2, "stream": True}, "best_of", "cannot be streamed"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
        ({"stop": [""]}, "stop", "empty string"),
        ({"seed": -1}, "seed", "an integer from 0"),
        ({"top_p": 2}, "top_p", "<= 1"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "token ids"),
        ({"logit_bias": {"999999": 1}}, "logit_bias", "999999 is for no token of the vocabulary of 264"),
        ({"presence_penalty": "x"}, "presence_penalty", "valid number"),
        ({"regex": "a", "choices": ["b"]}, "regex", "exclude each other"),
        ({"choices": "a"}, "choices", "valid array"),
        ({"logits_processor": "a"}, "logits_processor", "unknown parameter"),
    ],
    ids=str,
)
def test_what_is_refused_is_named(refused: Refused, body: dict[str, Any], param: str, message: str) -> None:
    error = refused("/completions", **{"model": "gpt2", "prompt": PROMPT, **body})
    assert error.param == param
    assert message in error.message


def test_null_is_left_out_and_harmless_fields_are_ignored(client: openai.OpenAI) -> None:
    nothing = dict.fromkeys(("suffix", "logprobs", "best_of", "stop", "stream", "temprature"))
    harmless = {"user": "me", "metadata": {"a": "b"}, "service_tier": "auto"}
    body = {"model": "gpt2", "prompt": PROMPT, **nothing, **harmless, **SEED}
    asked: Any = client.post("/completions", body=body, cast_to=object)
    plain = client.completions.create(model="gpt2", prompt=PROMPT, **SEED)
    assert asked["choices"][0]["text"] == plain.choices[0].text


def test_an_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="gpt-9", prompt=PROMPT)
    assert caught.value.code == "model_not_found"


def test_a_prompt_beyond_the_context(refused: Refused) -> None:
    error = refused("/completions", model="gpt2", prompt="the " * 100)
    assert (error.param, error.code) == ("prompt", "context_length_exceeded")


def test_a_client_that_goes_away_frees_its_place(server: tuple[str, Starlette]) -> None:
    url, app = server
    (entry,) = (entry for entry in app.state.service.models.loaded if entry.name == "gpt2")
    body = {"model": "gpt2", "prompt": "a", "max_tokens": 60, "n": 16, "stream": True}
    for _ in range(3):
        with httpx.stream("POST", f"{url}/v1/completions", json=body) as response:
            next(response.iter_lines())
        deadline = time.monotonic() + 10
        while entry.scheduler.stats().running:
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_offsets_count_characters_of_the_text(serve: Callable[..., Any]) -> None:
    """Where the vocabulary puts a token and a space before every text."""
    source = Path(__file__).parents[2] / "data" / "stories260K"
    with serve(f"m={source}") as (url, _), openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        choice = client.completions.create(
            model="m", prompt="Once upon", echo=True, logprobs=0, max_tokens=8, temperature=0
        ).choices[0]
    lists = choice.logprobs
    assert lists is not None
    assert lists.tokens is not None
    assert lists.text_offset is not None
    assert lists.text_offset[:2] == [0, 0]
    for token, begin, end in zip(lists.tokens[2:], lists.text_offset[2:], lists.text_offset[3:], strict=False):
        assert choice.text[begin:end] == token


def test_many_at_a_time_get_what_each_gets_alone(client: openai.OpenAI, model: Model) -> None:
    def ask(seed: int) -> str:
        return client.completions.create(model="gpt2", prompt="a " * (seed % 7 + 1), seed=seed).choices[0].text

    with ThreadPoolExecutor(12) as pool:
        texts = list(pool.map(ask, range(36)))
    assert texts == [generate(model, "a " * (seed % 7 + 1), seed=seed)[0].text for seed in range(36)]


def test_what_was_read_before_is_counted(serve: Callable[..., Any]) -> None:
    body: Any = {"model": "tiny", "prompt": "Once upon a time " * 40, "max_tokens": 3, "seed": 1}
    with serve("tiny") as (url, _), openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        first, second = (client.completions.create(**body) for _ in range(2))
    assert first.choices[0].text == second.choices[0].text
    cached = [one.usage.prompt_tokens_details.cached_tokens for one in (first, second)]  # type: ignore[union-attr]
    assert cached[0] == 0
    assert cached[1] is not None
    assert cached[1] > 0


def test_an_error_within_a_stream_is_its_last_event(serve: Callable[..., Any]) -> None:
    """As when the server stops."""
    asked = {
        "/v1/completions": {"prompt": "a", "max_tokens": 2000},
        "/api/generate": {"prompt": "a", "options": {"num_predict": 2000}},
    }
    for path, body in asked.items():
        with (
            serve("tiny") as (url, app),
            httpx.stream("POST", url + path, json={"model": "tiny", "stream": True, **body}) as response,
        ):
            lines = response.iter_lines()
            next(lines)
            app.state.service.models.loaded[0].scheduler.close()
            rest = [line.removeprefix("data: ") for line in lines if line]
        assert "the server stops" in str(json.loads(rest[-1])["error"])
