"""Fine-tuning on chats: what of them is learnt, and what is only read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Model
from pygpt.errors import TokenizerError, TrainingError
from pygpt.training import LanguageModel, Network, Parameters, Recipe, Watcher, chats, functions, plot, resume
from pygpt.training.base import load_base
from pygpt.training.mixture import Mixture, Phase

TEMPLATE = (
    "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}<|endoftext|>\n{% endfor %}"
    "{% if add_generation_prompt %}[a]{% endif %}"
)
SHORT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
LONG = [
    {"role": "system", "content": "Be brief."},
    *SHORT,
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "So."},
    {"role": "user", "content": "and?"},
]


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr(plot, "draw", lambda path, metrics: None)


@pytest.fixture(scope="module")
def source(gpt2_folder: Path, with_template: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_template(gpt2_folder, tmp_path_factory.mktemp("chats") / "model", TEMPLATE)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: object) -> Path:
        path = tmp_path / "chats.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        return path

    return write


def learnt(model: Model, messages: list[dict[str, str]]) -> list[str]:
    """The runs of tokens that are predicted, as text."""
    ids, counted = chats.encode(model.tokenizer, model.config, messages)
    changes = np.flatnonzero(np.diff(np.concatenate(([False], counted, [False]))))
    assert (
        model.tokenizer.decode(ids.tolist())
        == model.render(messages).removesuffix("[a]")[: len(model.tokenizer.decode(ids.tolist()))]
    )
    return [model.tokenizer.decode(ids[a:b].tolist()) for a, b in zip(changes[::2], changes[1::2], strict=True)]


def test_answers_are_learnt_and_what_ends_them(source: Path) -> None:
    model = Model.load(source, threads=1)
    assert learnt(model, SHORT) == ["Yo<|endoftext|>"]
    assert learnt(model, LONG) == ["Yo<|endoftext|>", "So.<|endoftext|>"]  # nobody answers the last question
    twice = [*SHORT, {"role": "assistant", "content": "More."}]
    assert learnt(model, twice) == ["Yo<|endoftext|>", "More.<|endoftext|>"]
    assert learnt(model, [*SHORT[1:], *SHORT]) == ["Yo<|endoftext|>"]  # it is asked only once


def test_an_answer_follows_what_a_model_is_given_to_answer(source: Path) -> None:
    model = Model.load(source, threads=1)
    ids, counted = chats.encode(model.tokenizer, model.config, LONG)
    last = np.flatnonzero(counted)[-len(model.tokenizer.encode("So.")) - 1]
    prompt = model.tokenizer.encode(model.render(LONG[:4]), allow_special=True)
    assert model.tokenizer.decode(ids[:last].tolist()) == model.tokenizer.decode(prompt)


def test_files_are_split_and_cut(source: Path, write: Callable[..., Path]) -> None:
    model = Model.load(source, threads=1)
    too_long = [{"role": "user", "content": "x" * 40}, {"role": "assistant", "content": "y" * 40}]
    without = [{"role": "user", "content": "x" * 64}, {"role": "assistant", "content": "y"}]
    path = write(*({"messages": m} for m in [SHORT, LONG, too_long, without, SHORT]))
    found = chats.read(path, model.tokenizer, model.config, 64, validation=0.25)
    assert (len(found.train), len(found.validation), found.n_cut, found.n_left_out) == (3, 1, 2, 1)
    assert max(len(d.ids) for d in (*found.train, *found.validation)) == model.config.n_ctx
    again = chats.read(path, model.tokenizer, model.config, 64, validation=0.25)
    assert again.fingerprint == found.fingerprint
    assert chats.read(path, model.tokenizer, model.config, 64, validation=path).fingerprint != found.fingerprint


def test_the_loss_of_chats_side_by_side_is_that_of_each_alone(source: Path, write: Callable[..., Path]) -> None:
    base = load_base(str(source))
    path = write(*[{"messages": m} for m in (SHORT, LONG, SHORT, LONG)])
    found = chats.read(path, base.tokenizer, base.config, 64, validation=path)
    params = Parameters(base.config)
    params.fill(base.tensors)
    network, recipe = Network(base.config, functions), Recipe(steps=1, batch=4, learning_rate=0.1)
    mixture = Mixture([found.reader(base.config.n_ctx)], [Phase(0, (1.0,))], base.tokenizer)
    figures = LanguageModel(network, params, mixture, recipe).evaluate()
    assert list(figures) == ["validation_loss"]
    each = [network.loss(params, d.ids[None], d.targets[None]) for d in found.validation]
    expected = sum(nats for nats, _ in each) / sum(n for _, n in each)
    assert figures["validation_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"text": "x"}, "line 2: no column 'messages'"),
        ({"messages": "Hi"}, "line 2: messages must be a list of objects"),
        ({"messages": SHORT[:1]}, "line 2: there is no answer, a message of the assistant's"),
        ({"messages": [{"role": "user"}, SHORT[1]]}, None),
    ],
)
def test_a_line_that_does_not_serve_is_named(
    source: Path, write: Callable[..., Path], line: Any, message: str | None
) -> None:
    model = Model.load(source, threads=1)
    path = write({"messages": SHORT}, line)
    if message is None:  # the template of this model takes a message without a content
        assert chats.read(path, model.tokenizer, model.config, 64, validation=0.5)
        return
    with pytest.raises(TrainingError, match=message):
        chats.read(path, model.tokenizer, model.config, 64, validation=0.5)


def test_a_template_that_changes_what_was_said_is_refused(source: Path) -> None:
    """As some that take the reasoning out of all answers but the last."""
    counting = "{% for m in messages %}{{ messages | length }}{{ m.content }}{% endfor %}"
    tokenizer = Model.load(source, threads=1).tokenizer.with_chat_template(counting)
    with pytest.raises(ValueError, match="lays out otherwise what stands before message 2"):
        chats.encode(tokenizer, Model.load(source, threads=1).config, SHORT)


def test_finetune_on_chats(source: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    """The model learns to answer, in a template of its own if it is given one, and mixed with a text."""
    path = write(*[{"messages": SHORT}] * 8)
    options: dict[str, Any] = {"steps": 30, "batch": 4, "learning_rate": 0.02, "dropout": 0.0, "threads": 1}
    result = pygpt.finetune(source, path, tmp_path / "run", **options)
    assert result.validation_loss is not None
    assert result.validation_loss < 0.1
    assert Model.load(result.best, threads=1).chat(SHORT[:1], max_tokens=8, temperature=0).text == "Yo"
    text = tmp_path / "text.txt"
    text.write_text("in the inn the hen\n" * 90)
    own = TEMPLATE.replace("[{{", "<{{").replace("}}]", "}}>").replace("[a]", "<a>")
    mixed = pygpt.finetune(
        source, [path, text], tmp_path / "mixed", weights=[1, 1], chat_template=own, **options | {"steps": 2}
    )
    with pytest.raises(ValueError, match="n_ctx must be from 1 to the model's context of 64 tokens, not 65"):
        pygpt.finetune(source, path, tmp_path / "long", n_ctx=65, **options)
    short = pygpt.finetune(source, path, tmp_path / "short", n_ctx=24, **options | {"steps": 1})
    last = json.loads((short.path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["tokens"] <= 24 * options["batch"]
    tuned = Model.load(mixed.best, threads=1)
    assert tuned.render(SHORT[:1]) == "<u>Hi<|endoftext|>\n<a>"
    write({"messages": LONG}, {"messages": SHORT})
    with pytest.raises(TrainingError, match="has changed since the run began"):
        pygpt.training.resume(tmp_path / "mixed", steps=3, threads=1)


def test_an_epoch_reads_each_chat_once(source: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    """Also where two of them have no room in one sequence, and much of it stays empty."""
    long = [{"role": "user", "content": "x" * 20}, {"role": "assistant", "content": "y" * 12}]  # 37 of 64 tokens
    path = write(*[{"messages": long}] * 10)
    result = pygpt.finetune(source, path, tmp_path / "run", epochs=3, batch=1, validation=0.2, threads=1)
    assert result.step == 3 * 8


def test_what_is_cut_is_said_of_each_file_once(source: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    """Also of one that is added on the way."""
    said: list[str] = []
    read: list[tuple[str, int, int]] = []

    class Listener(Watcher):
        def noticed(self, message: str) -> None:
            said.append(message.removeprefix(f"{tmp_path}{os.sep}"))

        def preparing(self, what: str, done: int, total: int) -> None:
            read.append((what, done, total))

    too_long = [{"role": "user", "content": "x" * 20}, {"role": "assistant", "content": "y" * 64}]
    without = [{"role": "user", "content": "x" * 64}, {"role": "assistant", "content": "y"}]
    path = write(*({"messages": m} for m in [SHORT, SHORT, too_long, without]))
    added = path.rename(tmp_path / "added.jsonl")
    pygpt.finetune(source, write(*[{"messages": SHORT}] * 2), tmp_path / "run", steps=1, threads=1, watcher=Listener())
    assert said == []
    assert read == [("reading the chats", done, 2) for done in range(2)]
    for data in (added, None):
        resume(tmp_path / "run", data=data, steps=2 if data else 3, threads=1, watcher=Listener())
    assert said == [
        "added.jsonl: 2 chats are longer than 64 tokens and were cut",
        "added.jsonl: 1 chats have no answer within 64 tokens: left out",
    ]


def test_a_model_without_a_template_needs_one(gpt2_folder: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    path = write({"messages": SHORT}, {"messages": SHORT})
    with pytest.raises((TokenizerError, TrainingError), match="has no chat template"):
        pygpt.finetune(gpt2_folder, path, tmp_path / "run", steps=1, threads=1)
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="chat_template must be one of the model's or Jinja, not 'brief'"):
        pygpt.finetune(gpt2_folder, path, tmp_path / "run", chat_template="brief", steps=1, threads=1)
