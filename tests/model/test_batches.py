"""Several prompts at once, `params=`, embeddings: what a batch gives is what each prompt gives alone, bit for bit."""

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import CancelToken, Completion, Model, SamplingParams, _core
from pygpt.embedding import pooled
from pygpt.errors import ContextOverflowError
from pygpt.generation import Batch, Outcome, Piece, Request, SamplingOptions
from pygpt.generation import scheduling as scheduling_module

PROMPTS = ["in the", "a", "on and on in the"]
OPTIONS = SamplingOptions(max_tokens=20, temperature=2.0, top_p=None, seed=3, logprobs=2, stop=["q", "\x00"])


@pytest.mark.parametrize("n", [1, 3])
def test_each_result_of_a_list_is_that_of_the_prompt_alone(model: Model, n: int) -> None:
    prompts = [*PROMPTS, "in the"]
    together = model.generate(prompts, n=n, **OPTIONS)
    alone = [model.generate(prompt, n=n, **OPTIONS) for prompt in prompts]
    expected = [one for given in alone for one in (given if isinstance(given, list) else [given])]
    assert together == expected
    assert len({c.tokens for c in together[: 3 * n]}) == 3 * n
    stream = model.stream(prompts, n=n, **OPTIONS)
    assert stream.collect() == expected
    assert stream.seeds == (3,) * len(prompts)


def test_prompts_of_a_list_may_be_ids(model: Model) -> None:
    ids = [model.tokenizer.encode(prompt) for prompt in PROMPTS]
    expected = model.generate(PROMPTS, **OPTIONS)
    mixed = [PROMPTS[0], tuple(ids[1]), np.array(ids[2], np.uint16)]
    assert model.generate(ids, **OPTIONS) == expected
    assert model.generate(tuple(ids), **OPTIONS) == expected
    assert model.generate(mixed, **OPTIONS) == expected
    assert model.generate([np.array(i) for i in ids], **OPTIONS) == expected


def test_a_flat_list_of_ids_is_one_prompt_and_a_list_of_one_gives_a_list(model: Model) -> None:
    ids = model.tokenizer.encode(PROMPTS[0])
    one = model.generate(ids, **OPTIONS)
    assert isinstance(one, Completion)
    assert model.generate([ids], **OPTIONS) == [one]
    assert model.generate([PROMPTS[0]], **OPTIONS) == [one]


def test_without_a_seed_each_prompt_has_its_own(model: Model) -> None:
    done = model.generate(["in the"] * 4, max_tokens=30, temperature=2.0, top_p=None)
    assert len({c.seed for c in done}) == len({c.tokens for c in done}) == 4
    for c in done:
        assert model.generate("in the", max_tokens=30, temperature=2.0, top_p=None, seed=c.seed) == c


def test_greedy_completions_are_equal_values(model: Model) -> None:
    together = model.generate(PROMPTS, max_tokens=8, temperature=0)
    assert together == [model.generate(prompt, max_tokens=8, temperature=0) for prompt in PROMPTS]
    assert {c.seed for c in together} == {0}
    assert model.generate("a", max_tokens=8, temperature=0, seed=4).seed == 4


def test_more_prompts_than_are_computed_together(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [[i, i + 1] for i in range(11)]
    expected = model.generate(prompts, n=2, **OPTIONS)
    monkeypatch.setattr(scheduling_module, "_MAX_SEQUENCES", 5)
    sizes: list[int] = []
    step = Batch.step

    def counted(batch: Batch) -> list[Outcome]:
        sizes.append(len(batch))
        return step(batch)

    monkeypatch.setattr(Batch, "step", counted)
    assert model.generate(prompts, n=2, **OPTIONS) == expected
    assert max(sizes) <= 5
    sizes.clear()
    assert len(model.generate(prompts[:2], n=7, **OPTIONS)) == 14  # more than fit: one prompt's after the other's
    assert max(sizes) == 7


def test_progress_counts_what_is_finished(model: Model) -> None:
    seen: list[tuple[int, int]] = []
    prompts = [[i, i + 1] for i in range(5)]
    done = model.generate(prompts, n=2, progress=lambda finished, of: seen.append((finished, of)), **OPTIONS)
    assert done == model.generate(prompts, n=2, **OPTIONS)
    assert seen == [(i, 10) for i in range(1, 11)]


def test_a_list_is_computed_within_the_memory_there_is(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit waits, and a single sequence is always computed."""
    prompts = [[i, i + 1] for i in range(11)]
    expected = model.generate(prompts, **OPTIONS)
    monkeypatch.setattr(_core, "available_memory", lambda: 4 * model._engine.cache_bytes(64))
    sizes: list[int] = []
    step = Batch.step

    def counted(batch: Batch) -> list[Outcome]:
        sizes.append(len(batch.running))
        return step(batch)

    monkeypatch.setattr(Batch, "step", counted)
    assert model.generate(prompts, **OPTIONS) == expected
    assert max(sizes) == 2
    monkeypatch.setattr(_core, "available_memory", lambda: 1)
    assert model.generate(prompts, **OPTIONS) == expected


def test_errors_name_the_prompt_of_a_list(model: Model) -> None:
    with pytest.raises(ContextOverflowError, match="prompt 1's 64 tokens leave no room"):
        model.generate([[1], [1] * 64])
    with pytest.raises(ValueError, match="prompt 2 must not be empty"):
        model.generate(["a", "b", ""])
    with pytest.raises(ValueError, match="token id 264 at position 1 of prompt 0 "):
        model.stream([[1, 264], [1]])
    with pytest.raises(TypeError, match="prompt 1 must be text or a flat sequence of integer token ids, not "):
        model.generate(["a", 5])  # type: ignore[list-item]
    with pytest.raises(ContextOverflowError, match="prompt 1's 65 tokens do not fit"):
        model.embed(["a", [1] * 65])


# --- the loop: sequences come and go at any step -------------------------------------------------------------------


def request(model: Model, prompt: str, first_index: int, cancel: CancelToken | None = None, n: int = 1) -> Request:
    params = SamplingParams(**{**OPTIONS, "stop": ()}, n=n)
    ids = np.array(model.tokenizer.encode(prompt), np.int32)
    return Request(ids, params, 3, first_index, cancel or CancelToken())


def batch_of(model: Model) -> Batch:
    return Batch(model._engine, model.config, model.tokenizer)


def pieces_of_step(batch: Batch) -> list[Piece]:
    return [piece for outcome in batch.step() for piece in outcome.pieces]


def tokens_of(pieces: list[Piece], index: int) -> list[int]:
    return [p.token for p in pieces if p.index == index and p.token is not None]


def test_sequences_are_admitted_at_any_step_and_retire(model: Model) -> None:
    batch, pieces, sizes = batch_of(model), [], []
    arrivals = {0: ("in the", 0, 2), 3: ("a", 2, 1), 4: ("on and on", 3, 1), 30: ("in the", 4, 1)}
    for step in range(60):
        if step in arrivals:
            prompt, index, n = arrivals[step]
            batch.admit(request(model, prompt, index, n=n))
        pieces += pieces_of_step(batch)
        sizes.append(len(batch))
    assert max(sizes) == 4
    assert sizes[-1] == 0
    assert min(sizes[5:30]) < 4
    for prompt, index, n in arrivals.values():
        given = model.generate(prompt, n=n, **{**OPTIONS, "stop": ()})
        for k, done in enumerate(given if isinstance(given, list) else [given]):
            assert tokens_of(pieces, index + k) == list(done.tokens)
            (last,) = [p for p in pieces if p.index == index + k and p.finish_reason is not None]
            assert last.finish_reason == done.finish_reason


def test_cancelling_one_request_leaves_the_others(model: Model) -> None:
    batch, cancel = batch_of(model), CancelToken()
    batch.admit(request(model, "in the", 0))
    batch.admit(request(model, "a", 1, cancel, n=2))
    pieces = [*pieces_of_step(batch), *pieces_of_step(batch)]
    cancel.cancel()
    pieces += pieces_of_step(batch)
    assert [(p.index, p.finish_reason) for p in pieces[6:]] == [(0, None), (1, "cancelled"), (2, "cancelled")]
    while len(batch):
        pieces += pieces_of_step(batch)
    assert tokens_of(pieces, 0) == list(model.generate("in the", **{**OPTIONS, "stop": ()}).tokens)


@pytest.mark.parametrize("all_of_them", [False, True])
def test_cancelling_in_the_middle_of_a_computation(
    model: Model, monkeypatch: pytest.MonkeyPatch, all_of_them: bool
) -> None:
    batch, cancels = batch_of(model), [CancelToken(), CancelToken()]
    batch.admit(request(model, "in the", 0, cancels[0]))
    batch.admit(request(model, "a", 1, cancels[1]))
    pieces, completed, forward = pieces_of_step(batch), [], _core.Engine.forward

    def cancelled_meanwhile(engine: Any, inputs: Any, **options: Any) -> Any:
        for token in cancels if all_of_them else cancels[:1]:
            token.cancel()
        completed.append(False)
        outputs = forward(engine, inputs, **options)
        completed[-1] = True
        return outputs

    monkeypatch.setattr(_core.Engine, "forward", cancelled_meanwhile)
    pieces += pieces_of_step(batch)
    monkeypatch.undo()
    ended = [(p.index, p.token is None, p.finish_reason) for p in pieces[2:]]
    assert ended[0] == (0, True, "cancelled")
    if all_of_them:
        assert ended[1] == (1, True, "cancelled")
        assert completed == [False]  # it ended at once
    else:
        assert ended[1] == (1, False, None)
        assert completed == [True]
        while len(batch):
            pieces += pieces_of_step(batch)
        assert tokens_of(pieces, 1) == list(model.generate("a", **{**OPTIONS, "stop": ()}).tokens)


def test_cancelling_a_list_from_another_thread(gpt2_folder: Path) -> None:
    model = Model.load(gpt2_folder, threads=1)
    cancel = CancelToken()
    threading.Timer(0.05, cancel.cancel).start()
    rounds = 0
    while not cancel.cancelled:
        done = model.generate(["in the", "a"] * 100, max_tokens=None, temperature=1.0, seed=rounds, cancel=cancel)
        rounds += 1
    assert len(done) == 200
    whole = model.generate(["in the", "a"] * 100, max_tokens=None, temperature=1.0, seed=rounds - 1)
    assert all(c.tokens == w.tokens[: len(c.tokens)] for c, w in zip(done, whole, strict=True))
    assert {c.finish_reason for c in model.generate(["a", "b"], cancel=cancel)} == {"cancelled"}


# --- params= -------------------------------------------------------------------------------------------------------


def test_params_are_the_options_as_one_value(model: Model) -> None:
    params = SamplingParams(**OPTIONS)
    assert model.generate("in the", params=params) == model.generate("in the", **OPTIONS)
    assert list(model.stream("in the", params=params)) == list(model.stream("in the", **OPTIONS))
    several = model.generate("in the", params=SamplingParams(n=2, **OPTIONS))
    assert several == model.generate("in the", n=2, **OPTIONS)


def test_options_stand_in_the_place_of_params_own(model: Model) -> None:
    params = SamplingParams(max_tokens=5, temperature=2.0, seed=1)
    done = model.generate("in the", params=params, seed=2, n=2)
    assert done == model.generate("in the", max_tokens=5, temperature=2.0, seed=2, n=2)
    with pytest.raises(ValueError, match=r"^top_k must "):
        model.generate("in the", params=params, top_k=0)
    with pytest.raises(TypeError, match="params must be a SamplingParams, not dict"):
        model.generate("in the", params={"seed": 1})  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="cancel must be a CancelToken or None, not bool"):
        model.generate("in the", cancel=True)  # type: ignore[call-overload]


# --- embeddings ----------------------------------------------------------------------------------------------------


def test_embed_is_the_mean_of_the_hidden_states_with_length_one(model: Model) -> None:
    vector = model.embed("on and on in the")
    assert (vector.shape, vector.dtype) == ((model.config.n_embd,), np.float32)
    mean = [math.fsum(c) for c in model.hidden_states("on and on in the").T.tolist()]
    length = math.sqrt(math.fsum(x * x for x in mean))
    # Sums of some 10 float32 in float64: only the last rounding, of values below 1, shows in float32.
    assert np.abs(vector - np.array(mean) / length).max() <= 2.0**-25
    assert math.fsum((vector.astype(np.float64) ** 2).tolist()) == pytest.approx(1, abs=model.config.n_embd * 2**-24)


def test_embed_of_a_list_is_that_of_each_text(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*PROMPTS, model.tokenizer.encode("the end")]
    vectors = model.embed(texts)
    assert vectors.shape == (4, model.config.n_embd)
    assert np.array_equal(vectors, np.stack([model.embed(text) for text in texts]))
    monkeypatch.setattr("pygpt.model._EMBED_TOKENS", 3)
    assert np.array_equal(model.embed(texts), vectors)


def test_a_mean_of_zero_has_no_direction() -> None:
    states = np.array([[1.0, -2.0], [-1.0, 2.0]], np.float32)
    assert pooled(states).tolist() == [0.0, 0.0]
