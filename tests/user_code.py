"""Code as users of pygpt write it, with the whole public API. `mypy --strict` checks its types, and a test runs it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

import pygpt
from pygpt import CancelToken, Completion, Model, SamplingParams, Session, Stream, registry
from pygpt.checkpoint import read
from pygpt.reference import forward, trace

if TYPE_CHECKING:
    from typing_extensions import assert_type
else:

    def assert_type(value: object, _: object) -> object:
        return value


def one_prompt(model: Model, n: int) -> None:
    params = SamplingParams(max_tokens=4, temperature=0.5, top_k=40, top_p=None, min_p=0.01, seed=1)
    assert_type(model.generate("Once"), Completion)
    assert_type(model.generate([1, 2, 3], max_tokens=4, stop="."), Completion)
    assert_type(model.generate(np.array([1, 2]), max_tokens=4, stop=["a", "b"]), Completion)
    assert_type(model.generate("Once", n=1, params=params), Completion)
    assert_type(model.generate("Once", n=2, max_tokens=4), list[Completion])
    done = model.generate("Once", n=1, params=params, repetition_penalty=1.1, logprobs=2)
    text: str = done.text
    tokens: tuple[int, ...] = done.tokens
    assert text or tokens
    assert done.finish_reason in ("stop", "length", "cancelled")
    assert done.seed == params.seed
    for entry in done.logprobs or ():
        assert entry.logprob <= 0
        assert entry.token in range(model.config.n_vocab)
        top: tuple[tuple[int, float], ...] = entry.top
        assert len(top) == 2
    either = model.generate("Once", n=n, params=params)
    completions = either if isinstance(either, list) else [either]
    assert len(completions) == n
    of_params = assert_type(
        model.generate("Once", params=SamplingParams(n=2, max_tokens=4)), Completion | list[Completion]
    )
    assert isinstance(of_params, list)
    assert len(of_params) == 2


def forms(model: Model) -> None:
    params = SamplingParams(max_tokens=40, presence_penalty=0.1, frequency_penalty=0.1, logit_bias={5: -1.0}, seed=1)
    assert model.generate("Once", n=1, params=params, choices=["red", "green"]).text in ("red", "green")
    assert re.fullmatch("[a-c]{3}", model.generate("Once", n=1, params=params, regex="[a-c]{3}").text)
    assert model.generate("Once", n=1, params=params, grammar='start: "yes" | "no"').text in ("yes", "no")
    schema = {"type": "object", "properties": {"n": {"type": "integer", "maximum": 9}}, "required": ["n"]}
    closed = {**schema, "additionalProperties": False}
    assert json.loads(model.generate("Once", n=1, params=params, json_schema=closed).text)["n"] <= 9

    def never_5(tokens: NDArray[np.int32], logits: NDArray[np.float32]) -> NDArray[np.float32] | None:
        logits[5] = -np.inf
        return None

    assert 5 not in model.generate("Once", n=1, params=params, logits_processor=never_5).tokens


def several_prompts(model: Model, n: int) -> None:
    prompts = ["Once", "There was"]
    ids = [model.tokenizer.encode(prompt) for prompt in prompts]
    assert_type(model.generate(prompts, max_tokens=4), list[Completion])
    assert_type(model.generate(tuple(prompts), max_tokens=4, n=n), list[Completion])
    assert_type(model.generate(ids, max_tokens=4, n=2), list[Completion])
    assert_type(model.generate([np.array(i) for i in ids], max_tokens=4), list[Completion])
    assert len(model.generate(prompts, n=n, max_tokens=4)) == n * len(prompts)


def streams(model: Model) -> None:
    for piece in model.stream("Once", max_tokens=4, n=2, params=SamplingParams(seed=7)):
        shown: str = piece.text
        token: int | None = piece.token
        assert piece.index in (0, 1)
        assert shown or token is not None or piece.finish_reason == "cancelled"
        assert piece.logprob is None
    cancel = CancelToken()
    stream = assert_type(model.stream(["Once", "There"], cancel=cancel), Stream)
    timer = threading.Timer(0.01, stream.cancel)
    timer.start()
    assert_type(stream.collect(), list[Completion])
    timer.join()
    cancel.cancel()
    assert cancel.cancelled
    assert stream.seed == stream.seeds[0]
    assert_type(model.generate("Once", max_tokens=4, speculate="prompt"), Completion)
    drafted = assert_type(model.stream("Once", max_tokens=4, draft=model), Stream)
    drafted.collect()
    counts: pygpt.Speculation = drafted.speculation
    assert counts.n_accepted <= counts.n_proposed


def answers(model: Model, n: int) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    own = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    text: str = model.render(messages, template=None if model.has_chat_template else own)
    assert text
    params = SamplingParams(max_tokens=4, seed=1)
    assert_type(model.chat(messages, template=own, max_tokens=4), Completion)
    assert_type(model.chat(messages, template=own, n=1, params=params, temperature=0.5), Completion)
    assert_type(model.chat(messages, template=own, n=2, params=params), list[Completion])
    either = model.chat(messages, template=own, n=n, params=params, tools=[{"name": "f"}], variables={"a": 1})
    assert isinstance(either, list)
    assert_type(model.stream_chat(messages, template=own, params=params), Stream)
    chat = pygpt.Chat(model, system="Be brief.", template=own, overflow="forget", max_tokens=4)
    reply = assert_type(chat.send("Who?", temperature=0.5), pygpt.Reply)
    answer: str = reply.text
    reasoning: str | None = reply.reasoning
    assert answer or reasoning is None
    calls: tuple[pygpt.ToolCall, ...] = reply.tool_calls
    assert [(call.name, call.arguments) for call in calls] == []
    section: pygpt.Section
    for section in assert_type(chat.stream("And who else?"), pygpt.ReplyStream):
        part: str = section.part
        assert section.text
        assert part in ("reasoning", "answer")
    assert_type(chat.retry(seed=3), pygpt.Reply)
    assert len(chat.messages) == 5


class Printer:
    """What a program does with what comes."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def on_pieces(self, pieces: Sequence[pygpt.Piece]) -> None:
        print(*(piece.text for piece in pieces), sep="", end="")
        if pieces[-1].finish_reason is not None:
            self.ended.set()

    def on_error(self, error: Exception) -> None:
        print(error)
        self.ended.set()


def many(model: Model, folder: Path) -> None:
    with pygpt.Scheduler(model, max_running=8) as scheduler:
        printer = Printer()
        ticket = assert_type(scheduler.submit("Once", listener=printer, max_tokens=4, client="a"), pygpt.Ticket)
        printer.ended.wait()
        assert ticket.n_prompt > (ticket.n_cached or 0)
        assert_type(scheduler.stream(["Once", "There"], max_tokens=4), Stream).collect()
        scheduler.generate("Once", max_tokens=4)
        entries = scheduler.submit_read("Once upon", output="logprobs", n_top=2).result()
        vector = assert_type(scheduler.submit_read("Once upon", output="embedding").result(), NDArray[np.float32])
        assert len(entries) < len(vector)
        stats: pygpt.SchedulerStats = scheduler.stats()
        assert stats.running == 0
        scheduler.save_prefixes(folder / "prefixes")
        scheduler.load_prefixes(folder / "prefixes")


async def tasks(model: Model) -> None:
    async with pygpt.AsyncModel(model) as asynchronous:
        assert_type(await asynchronous.generate("Once", max_tokens=4, client="a"), Completion)
        assert_type(await asynchronous.generate("Once", n=2, max_tokens=4), list[Completion])
        both = await asyncio.gather(*(asynchronous.generate(prompt, max_tokens=4) for prompt in ("Once", "There")))
        assert_type(both, list[Completion])
        stream = assert_type(asynchronous.stream("Once", max_tokens=4, seed=1), pygpt.AsyncStream)
        async for piece in stream:
            assert_type(piece, pygpt.Piece)
        assert_type(await stream.collect(), list[Completion])
        messages = [{"role": "user", "content": "Who?"}]
        own = "{% for m in messages %}{{ m.content }}{% endfor %}"
        assert_type(await asynchronous.chat(messages, template=own, max_tokens=4), Completion)
        async with asynchronous.stream_chat(messages, template=own, max_tokens=4) as answer:
            first = await answer.__anext__()
            assert first.text or first.token is not None
            answer.cancel()
        assert_type(await asynchronous.embed("a cat"), NDArray[np.float32])
        assert_type(await asynchronous.score("Once upon"), NDArray[np.float32])
        assert asynchronous.model is asynchronous.scheduler.model
    loaded = assert_type(await pygpt.AsyncModel.load("tiny", threads=1), pygpt.AsyncModel)
    await loaded.close(grace=1.0)


def numbers(model: Model) -> None:
    assert_type(model.logits("Once upon"), NDArray[np.float32])
    assert_type(model.score([1, 2, 3]), NDArray[np.float32])
    assert_type(model.hidden_states(np.array([1, 2])), NDArray[np.float32])
    assert_type(model.perplexity("Once upon a time", stride=5), float)
    query = assert_type(model.embed("a cat"), NDArray[np.float32])
    texts = model.embed(["a dog", "a house"])
    assert (texts @ query).shape == (2,)


def measures(model: Model, folder: Path) -> None:
    first, second = model.loglikelihood([("Once upon", " a time"), ([1, 2], np.array([3]))])
    assert_type(first, pygpt.Likelihood)
    assert first.logprob < 0 or first.is_greedy or second.n_tokens
    (folder / "mine.jsonl").write_text('{"query": "Once upon a", "choices": ["time", "of"], "gold": 0}')
    results = pygpt.evaluate(model, ["mine"], data=folder, limit=10)
    result: pygpt.TaskResult = results["mine"]
    accuracy: pygpt.Estimate = result.metrics["acc"]
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert pygpt.metrics.f1("the king", ["king"]) == 1.0


def inside(model: Model) -> None:
    clean = assert_type(model.trace("Once upon a time", layers=[0, -1], attention=True, top=3), pygpt.Trace)
    hidden: NDArray[np.float32] = clean.hidden
    assert clean.attention is not None
    assert clean.attention.shape[2:] == (len(clean.ids), len(clean.pieces))
    likeliest: pygpt.Candidates = clean.lens(top=1)
    assert likeliest.pieces.shape == likeliest.ids.shape == likeliest.probabilities.shape == (*hidden.shape[:2], 1)
    assert np.array_equal(clean.lens_logits(-1), clean.logits)
    assert clean.alternatives.ids.shape == (len(clean.ids), 3)
    assert_type(clean.html("my model", top=2), str)
    assert len(clean.plot_attention(0, head=1).axes) == len(clean.plot_lens().axes) == 2
    assert_type(clean.with_model(model), pygpt.Trace)
    assert clean.plot_surprisal().axes[0].get_ylabel() == "bits"
    head, two = pygpt.Site("heads", 0, 1), pygpt.Site("hidden", -1, tokens=[0, 1])
    changed = model.trace("Once there was a", patch={head: 0.0, two: hidden[1, :2]})
    assert changed.entropy.shape == changed.surprisal.shape
    expected = trace(model.config, tensors_of(model), clean.ids, attention=True)
    assert expected["hidden"].shape[1:] == hidden.shape[1:]


def tensors_of(model: Model) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in model.config.tensor_shapes().items()}


def sessions(model: Model, folder: Path) -> None:
    session = assert_type(model.session(), Session)
    row = session.append(model.tokenizer.encode("Once"))
    fork = session.fork()
    fork.append(np.argsort(row)[-1:])
    fork.truncate(session.length)
    ids: NDArray[np.int32] = fork.tokens
    assert_type(model.generate("Once upon", prefix=session, max_tokens=4), Completion)
    fork.save(folder / "once.session")
    assert model.load_session(folder / "once.session").tokens.tolist() == ids.tolist()


def labels(model: Model, texts: list[str], pairs: list[tuple[str, str]], choices: list[tuple[str, list[str]]]) -> None:
    if model.labels is None:
        return
    found = assert_type(model.classify(texts[0]), pygpt.Classification)
    best: str = found.label
    probabilities: Mapping[str, float] = found.probabilities
    assert best in probabilities
    assert_type(model.classify(texts), list[pygpt.Classification])
    assert_type(model.classify(pairs), list[pygpt.Classification])
    assert_type(model.classify(choices), list[pygpt.Classification])
    assert_type(model.classify(pairs[0]), pygpt.Classification)
    assert_type(model.classify(("What?", ["this", "that"])), pygpt.Classification)


def facts(model: Model) -> Sequence[object]:
    config: pygpt.ModelConfig = model.config
    assert str(config.n_params()) in config.summary().replace(",", "")
    tokenizer: pygpt.Tokenizer | None = model.tokenizer if model.has_tokenizer else None
    if tokenizer is not None:
        text: str = tokenizer.decode(tokenizer.encode("Once"))
        assert text
        assert b"".join(map(tokenizer.token_bytes, tokenizer.encode("Once", continues=True))) == b"Once"
        assert tokenizer.n_vocab
        assert tokenizer.special_tokens is not None
    return (config.n_ctx, model.weights, model.kv, model.isa, model.threads, model.threads_backend, model.weight_bytes,
            model.kv_bytes_per_token, pygpt.__version__)  # fmt: skip


def copies(model: Model, folder: Path) -> None:
    model.save(folder / "saved")
    config, tensors, tokenizer = read(folder / "saved")
    arrays = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    again = Model.from_tensors(config, arrays, tokenizer, weights="float32", kv="float32", threads=1)
    assert forward(config, arrays, [1, 2]).shape == again.logits([1, 2]).shape


def names() -> None:
    path: Path = registry.pull("tiny", lambda done, total: print(done, total))
    (tiny,) = (model for model in registry.on_disk() if model.name == "tiny")
    assert_type(tiny, registry.OnDisk)
    assert tiny.path == path
    assert tiny.n_bytes > 0
    try:
        freed: int = registry.remove("tiny")
        print(freed)
    except pygpt.errors.CheckpointError as error:
        print(error)


def trains(folder: Path) -> None:
    text = folder / "text.txt"
    text.write_text("the cat sat on the mat. " * 40, encoding="utf-8")
    result: pygpt.TrainingResult = pygpt.pretrain(
        text, folder / "run", tokenizer="char", n_layer=1, n_head=1, n_embd=8, n_ctx=16, steps=1, batch=1, threads=1
    )
    losses: Mapping[int, float] = result.losses
    assert len(losses) == result.step == 1
    tuned = pygpt.finetune(str(result.best), text, folder / "tuned", steps=1, batch=1, learning_rate=1e-3, threads=1)
    assert_type(tuned, pygpt.TrainingResult)
    assert_type(Model.load(tuned.best, threads=1).generate("the cat", max_tokens=2), Completion)


def main(folder: Path) -> None:
    model = Model.load("tiny", weights="int8", kv="float16", threads=1, isa=None, progress=lambda done, total: None)
    try:
        model.generate([1] * 10_000)
    except pygpt.errors.ContextOverflowError as error:
        root: pygpt.errors.PygptError = error
        print(root)
    one_prompt(model, 3)
    forms(model)
    several_prompts(model, 2)
    streams(model)
    answers(model, 2)
    many(model, folder)
    asyncio.run(tasks(model))
    numbers(model)
    measures(model, folder)
    inside(model)
    sessions(model, folder)
    labels(model, ["good"], [("a", "b")], [("a", ["b", "c"])])
    assert facts(model)
    copies(model, folder)
    names()
    trains(folder)
