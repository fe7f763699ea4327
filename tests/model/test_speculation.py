"""Speculation: whatever is proposed, the tokens are those that come without it, and nothing is left of a wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pygpt import CancelToken, Chat, Model, SamplingParams, Speculation, _core
from pygpt.errors import ContextOverflowError
from pygpt.generation import Batch, CacheAccount, Piece, Request, SamplingOptions
from pygpt.generation import scheduling as scheduling_module
from pygpt.generation.pace import Pace
from pygpt.generation.speculate import Growing, Speculator

PROMPTS = ["in the in the in the", "a", "on and on and on and on"]


def smaller(model: Model, n_vocab: int | None = None, seed: int = 0) -> Model:
    """A random model of one layer with the same tokenizer."""
    config = replace(model.config, layers=model.config.layers[:1], n_vocab=n_vocab or model.config.n_vocab)
    rng = np.random.default_rng(seed)
    tensors = {name: rng.normal(0, 0.3, shape) for name, shape in config.tensor_shapes().items()}
    return Model.from_tensors(config, tensors, model.tokenizer, threads=1)


@pytest.fixture(scope="module")
def tiny() -> Model:
    return Model.load("tiny", threads=1)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much is proposed as can be, whatever it costs."""
    monkeypatch.setattr(Pace, "length", lambda self, confidence, most, seconds=0.0: most)


def random_options(rng: np.random.Generator) -> SamplingOptions:
    def sometimes(value: Any) -> Any:
        return value if rng.random() < 0.4 else None

    return SamplingOptions(
        max_tokens=sometimes(int(rng.integers(1, 60))),
        temperature=float(rng.choice([0, 0, 0.2, 0.7, 1.0, 3.0])),
        top_k=sometimes(int(rng.integers(1, 50))),
        top_p=sometimes(float(rng.uniform(0.1, 1))),
        min_p=sometimes(float(rng.uniform(0, 0.3))),
        repetition_penalty=float(rng.choice([1.0, 1.0, 0.8, 1.3])),
        stop=[str(s) for s in rng.choice(["q", "e t", "zz", "on"], rng.integers(0, 3))],
        seed=int(rng.integers(0, 99)),
        logprobs=sometimes(int(rng.integers(0, 3))),
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("always", [False, True])
def test_tokens_are_those_that_come_without_it(
    model: Model, seed: int, always: bool, request: pytest.FixtureRequest
) -> None:
    if always:
        request.getfixturevalue("eager")
    rng = np.random.default_rng(seed)
    for _ in range(3):
        options, n = random_options(rng), int(rng.integers(1, 4))
        prompts = [str(p) for p in rng.choice(PROMPTS, rng.integers(1, 4))]
        expected = model.generate(prompts, n=n, **options)
        assert model.generate(prompts, n=n, speculate="prompt", **options) == expected
        for draft in (model, smaller(model)):
            assert model.generate(prompts, n=n, draft=draft, **options) == expected


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_text_that_repeats_itself_takes_fewer_steps(tiny: Model, temperature: float) -> None:
    prompt, options = "The old house, the old house, the old house", SamplingOptions(
        max_tokens=150, temperature=temperature, top_k=8, repetition_penalty=0.7, seed=1
    )  # fmt: skip
    stream = tiny.stream(prompt, speculate="prompt", **options)
    assert stream.collect() == tiny.stream(prompt, **options).collect()
    found = stream.speculation
    assert found.n_tokens == 150
    assert found.n_steps + found.n_accepted == 150
    assert found.n_accepted <= found.n_proposed
    assert found.n_steps < 75
    assert tiny.stream("a", max_tokens=1).speculation == Speculation()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("temperature", [0.0, 2.0])
def test_a_draft_that_always_agrees_is_accepted_whole(tiny: Model, temperature: float) -> None:
    options = SamplingOptions(max_tokens=100, temperature=temperature, seed=4, repetition_penalty=1.1)
    stream = tiny.stream("The old house", draft=tiny, **options)
    (done,) = stream.collect()
    assert done == tiny.generate("The old house", **options)
    assert stream.speculation == Speculation(n_tokens=100, n_steps=8, n_proposed=92, n_accepted=92)  # 1 + 6 * 16 + 3


@pytest.mark.usefixtures("eager")
def test_a_draft_that_never_agrees_changes_nothing(scripted: Callable[[Iterable[int]], Model], vocab: Any) -> None:
    model, draft = scripted([*vocab.byte_ids("hello world"), vocab.end_id]), scripted(vocab.byte_ids("x" * 30))
    stream = model.stream([0], temperature=0, draft=draft)
    assert [done.text for done in stream.collect()] == ["hello world"]
    found = stream.speculation
    assert (found.n_tokens, found.n_steps, found.n_accepted) == (12, 12, 0)
    assert found.n_proposed > 40


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(("stop", "text"), [((), "hello world"), ("lo w", "hel"), (["d", "zz"], "hello worl")])
def test_the_end_may_be_inside_what_was_accepted(
    scripted: Callable[[Iterable[int]], Model], vocab: Any, stop: Sequence[str], text: str
) -> None:
    model = scripted([*vocab.byte_ids("hello world"), vocab.end_id, *vocab.byte_ids("more and more and more")])
    stream = model.stream([0], temperature=0, stop=stop, draft=model)
    expected = model.generate([0], temperature=0, stop=stop)
    assert stream.collect() == [expected]
    assert expected.text == text
    assert stream.speculation.n_steps == 1
    assert stream.speculation.n_proposed == 12  # nothing after the token that ends it


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("room", [1, 2, 3, 20])
def test_the_context_ends_it(model: Model, room: int) -> None:
    prompt = [1, 2] * ((model.config.n_ctx - room) // 2) + [1] * (room % 2)
    expected = model.generate(prompt, max_tokens=None, temperature=0)
    for how in ({"speculate": "prompt"}, {"draft": model}, {"draft": smaller(model)}):
        assert model.generate(prompt, max_tokens=None, temperature=0, **how) == expected
    short = Model.from_tensors(
        replace(model.config, n_ctx=40), {k: v[:40] if k == "pos.weight" else v for k, v in tensors_of(model)},
        model.tokenizer, threads=1,
    )  # fmt: skip
    assert model.generate(prompt[:30], max_tokens=None, temperature=0, draft=short) == model.generate(
        prompt[:30], max_tokens=None, temperature=0
    )


def tensors_of(model: Model) -> list[tuple[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(name, rng.normal(0, 0.3, shape)) for name, shape in model.config.tensor_shapes().items()]


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("eager")
def test_a_stream_gives_the_same_pieces(tiny: Model) -> None:
    options = SamplingOptions(max_tokens=40, temperature=1.0, seed=9, logprobs=1, stop=["q"])
    prompts = ["The old house", "On and on and on and"]
    plain = list(tiny.stream(prompts, n=2, **options))
    for how in ({"speculate": "prompt"}, {"draft": tiny}):
        pieces = list(tiny.stream(prompts, n=2, **how, **options))
        for index in range(4):
            assert [p for p in pieces if p.index == index] == [p for p in plain if p.index == index]


@pytest.mark.usefixtures("eager")
def test_cancelling_takes_effect_inside_what_was_accepted(tiny: Model) -> None:
    stream = tiny.stream("The old house", max_tokens=60, temperature=0, draft=tiny)
    pieces = [next(stream) for _ in range(5)]
    stream.cancel()
    assert [p.finish_reason for p in stream] == ["cancelled"]
    assert [p.token for p in pieces] == list(tiny.generate("The old house", max_tokens=5, temperature=0).tokens)
    cancel = CancelToken()
    cancel.cancel()
    assert tiny.generate("The old house", draft=tiny, cancel=cancel).tokens == ()


# --- the loop, on every kind of cache ---------------------------------------------------------------------------------


class Half(Speculator):
    """Proposes what will come, but every so often another token."""

    def __init__(self, texts: Sequence[Sequence[int]], n_vocab: int) -> None:
        super().__init__(Pace([0.5]))
        self._texts, self._n_vocab, self._rng = texts, n_vocab, np.random.default_rng(0)

    def propose(self, sequences: Sequence[Growing]) -> float:
        """Of the texts, the one that goes on as the sequence does."""
        for sequence in sequences:
            tokens = sequence.tokens.tolist()
            text = next(t for t in self._texts if list(t[: len(tokens)]) == tokens)
            ahead = list(text[len(tokens) :][: int(self._rng.integers(0, self.most(sequence, len(sequences)) + 1))])
            wrong = self._rng.random(len(ahead)) < 0.1
            sequence.propose(np.where(wrong, self._rng.integers(0, self._n_vocab, len(ahead)), ahead).tolist(), 0)
        return 0.0


def run(batch: Batch, requests: Sequence[Request]) -> list[list[int]]:
    account = CacheAccount(batch._engine, batch._config.n_ctx, 2**40)
    pieces: list[Piece] = list(scheduling_module.run(batch, requests, account))
    return [[p.token for p in pieces if p.index == i and p.token is not None] for i in range(len(requests))]


@pytest.mark.parametrize("name", ["gpt2", "llama", "windows", "alibi", "experts"])
def test_nothing_is_left_of_wrong_proposals(cores: Any, formats: tuple[str, str], name: str) -> None:
    engine, config = cores.engine(name, *formats), cores.configs[name]
    params = SamplingParams(max_tokens=330, temperature=1.0, top_p=None)
    prompts = [cores.ids(name, n, seed=n) for n in (1, 30, 200)]

    def requests() -> list[Request]:
        return [Request(p, params, i, i, CancelToken()) for i, p in enumerate(prompts)]

    expected = run(Batch(engine, config, None), requests())
    texts = [[*p.tolist(), *tokens] for p, tokens in zip(prompts, expected, strict=True)]
    batch = Batch(engine, config, None, Half(texts, config.n_vocab))
    assert run(batch, requests()) == expected
    assert 0 < batch.speculation.n_accepted < batch.speculation.n_proposed


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("how", ["prompt", "draft"])
def test_an_exception_leaves_the_batch_as_it_was(tiny: Model, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    options = SamplingOptions(max_tokens=60, temperature=0)
    expected = tiny.generate("On and on and on and on", **options)
    forward, n_calls = _core.Engine.forward, 0

    def interrupted(engine: Any, inputs: Any, **more: Any) -> Any:
        nonlocal n_calls
        n_calls += 1
        if n_calls % 23 in (2, 19):
            raise KeyboardInterrupt
        return forward(engine, inputs, **more)

    speculator = tiny._speculator("prompt" if how == "prompt" else None, tiny if how == "draft" else None)
    batch = Batch(tiny._engine, tiny.config, tiny.tokenizer, speculator)
    ids = np.array(tiny.tokenizer.encode("On and on and on and on"), np.int32)
    batch.admit(Request(ids, SamplingParams(**options), 0, 0, CancelToken()))
    monkeypatch.setattr(_core.Engine, "forward", interrupted)
    pieces: list[Piece] = []
    n_interrupts = 0
    while len(batch):
        try:
            pieces += [piece for outcome in batch.step() for piece in outcome.pieces]
        except KeyboardInterrupt:  # noqa: PERF203
            n_interrupts += 1
    assert n_interrupts > 0
    assert [p.token for p in pieces] == list(expected.tokens)


# --- conversations ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def talker(gpt2_folder: Any, with_template: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A random model with a chat template."""
    return Model.load(with_template(gpt2_folder, tmp_path_factory.mktemp("talker") / "m"), threads=1)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("how", ["prompt", "draft", "small"])
def test_a_conversation_is_the_same(talker: Model, how: str, temperature: float) -> None:
    options = SamplingOptions(temperature=temperature, seed=2, max_tokens=9)
    plain = Chat(talker, **options)
    draft = {"draft": talker, "small": smaller(talker)}.get(how)
    chat = Chat(talker, speculate="prompt" if how == "prompt" else None, draft=draft, **options)
    for message in ("aaaaaa", "bb", "a"):
        expected, stream = plain.stream(message), chat.stream(message)
        for _ in range(3):  # the rest is never asked for, and partly computed
            next(expected, None)
            next(stream, None)
        if message == "bb":
            expected.finish()
            stream.finish()
        expected.close()
        stream.close()
        assert stream.reply == expected.reply
        assert stream.speculation.n_tokens >= len(stream.reply.tokens)
    assert chat.messages == plain.messages
    assert chat.retry() == plain.retry()


@pytest.mark.usefixtures("eager")
def test_a_draft_does_not_read_a_conversation_again(talker: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    chat, forward, n_read = Chat(talker, draft=(draft := smaller(talker)), temperature=0, max_tokens=4), [], []
    forward.append(_core.Engine.forward)

    def counted(engine: Any, inputs: Any, **more: Any) -> Any:
        if engine is draft._engine:
            n_read.append(max(len(tokens) for _, tokens in inputs))
        return forward[0](engine, inputs, **more)

    monkeypatch.setattr(_core.Engine, "forward", counted)
    first = chat.send("aaaaaaaaaaaa")
    assert max(n_read) == first.n_prompt + 1
    n_read.clear()
    second = chat.send("b")
    assert second.n_prompt > 20
    assert max(n_read) <= second.n_read + 4


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_errors_name_the_argument(model: Model, tiny: Model) -> None:
    with pytest.raises(ValueError, match="speculate must be one of prompt, or None, not 'draft'"):
        model.generate("a", speculate="draft")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="draft must be a Model or None, not str"):
        model.stream("a", draft="tiny")
    with pytest.raises(ValueError, match="speculate and draft exclude each other"):
        model.generate("a", speculate="prompt", draft=model)
    with pytest.raises(
        ValueError, match=r"draft must have the vocabulary of the model, where the id \d+ is '.+', not '"
    ):
        model.generate("a", draft=tiny)
    nameless = Model.from_tensors(model.config, dict(tensors_of(model)), threads=1)
    assert nameless.generate([1], draft=model, temperature=0) == nameless.generate([1], temperature=0)
    with pytest.raises(ValueError, match=f"the vocabulary of the model: n_vocab 264, not {tiny.config.n_vocab}"):
        nameless.generate([1], draft=tiny)
    with pytest.raises(ValueError, match="draft must"):
        tiny.chat([{"role": "user", "content": "a"}], template="{{ messages[0].content }}", draft=model)
    with pytest.raises(ContextOverflowError):
        model.generate([1] * 64, speculate="prompt")


@pytest.mark.usefixtures("eager")
def test_sizes_may_differ_by_padding(model: Model) -> None:
    options = SamplingOptions(max_tokens=40, temperature=9.0, top_p=None, seed=5, repetition_penalty=1.2)
    padded = smaller(model, model.config.n_vocab + 40)
    assert model.generate("a", draft=padded, **options) == model.generate("a", **options)
    expected = padded.generate("a", **options)
    assert max(expected.tokens) >= model.config.n_vocab  # which the draft cannot read
    assert padded.generate("a", draft=model, **options) == expected
