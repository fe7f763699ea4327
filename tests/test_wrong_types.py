"""Every public call with wrong values: nothing but pygpt's own errors, ValueError, TypeError and OSError comes out.

What is public stands in `pygpt.__all__`, with the classes' methods and properties, and in `FUNCTIONS`. A test fails for
a name that `CALLS` does not know how to call.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import CancelToken, Model, checkpoint, reference, registry
from pygpt.errors import PygptError
from pygpt.training import Recipe

ALLOWED = (PygptError, ValueError, TypeError, OSError)
FUNCTIONS: dict[str, Callable[..., object]] = {
    "checkpoint.read": checkpoint.read,
    "checkpoint.write": checkpoint.write,
    "reference.forward": reference.forward,
    "reference.hidden": reference.hidden,
    "registry.on_disk": registry.on_disk,
    "registry.pull": registry.pull,
    "registry.remove": registry.remove,
}
WRONG: list[object] = [
    None, object(), b"", b"ab", True, -1, 0, 1, 2**31, 2**200, float("nan"), float("inf"), -1.5, 1j,
    "", "x", "\ud800", "no\0where", Path("no\0where"), [], (), {}, set(), [None], [[]], [""], ["a", 5], ("a", "b", "c"),
    [1, "a"], [-1], [2**80], [10**5000], [1.5], [[1], "a", None], {"a": 1}, {1: "a"}, {"a": None}, range(3), int, len,
    np.zeros((2, 2)), np.zeros((0, 3), np.int32), np.array(3), np.array("x"), np.array([1j]), np.zeros(2, bool),
    np.array([2**63], np.uint64), np.array([None, "a"], object), np.zeros(3, "datetime64[s]"), np.array([b"a"]),
    np.zeros(2, [("a", "i4")]),
]  # fmt: skip

TRAINING = ("pretrain", "finetune")
# Of the settings of a training: none that could be right, or it would begin to train.
WRONG_SETTINGS: list[object] = [
    object(), b"", b"ab", -1, -1.5, float("nan"), "", "neither", "\ud800", "no\0where", [], ["a", 5], {}, [None],
    np.zeros((2, 2)), np.array("x"), 1j, int,
]  # fmt: skip


@dataclasses.dataclass
class Good:
    """What the calls are right with; each call gets objects of its own."""

    model: Model
    folder: Path
    tmp: Path

    def config(self) -> dict[str, Any]:
        config = self.model.config
        return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}

    def tensors(self) -> dict[str, Any]:
        return {name: np.asarray(t, np.float32) for name, t in checkpoint.read(self.folder)[1].items()}

    def prompt(self) -> dict[str, Any]:
        return {"prompt": "in the"}

    def generate(self) -> dict[str, Any]:
        options = {"params": pygpt.SamplingParams(), "cancel": CancelToken(), "max_tokens": 2}
        return {"prompt": "in the", **options, "speculate": None, "draft": self.model}

    def layout(self) -> dict[str, Any]:
        return {"template": "{{ messages[0].content }}"}

    def render(self) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": "in"}], **self.layout()}

    def conversation(self, begun: bool = False) -> pygpt.Chat:
        chat = pygpt.Chat(self.model, **self.layout(), max_tokens=2)
        if begun:
            chat.send("in")
        return chat

    def saved_conversation(self) -> Path:
        self.conversation().save(self.tmp / "saved.json")
        return self.tmp / "saved.json"

    def chat(self) -> dict[str, Any]:
        options = {"params": pygpt.SamplingParams(), "cancel": CancelToken(), "max_tokens": 2}
        return {**self.render(), **options, "speculate": "prompt", "draft": None}

    def training(self) -> dict[str, Any]:
        (self.tmp / "text.txt").write_text("the cat sat on the mat. " * 40, encoding="utf-8")
        out = self.tmp / f"run{len(list(self.tmp.iterdir()))}"
        return {"data": self.tmp / "text.txt", "out": out, "steps": 1, "batch": 1, "threads": 1}

    def pretrain(self) -> dict[str, Any]:
        return {**self.training(), "tokenizer": "char", "n_layer": 1, "n_head": 1, "n_embd": 8, "n_ctx": 16}

    def finetune(self) -> dict[str, Any]:
        return {"model": self.folder, **self.training()}

    def fetched(self) -> dict[str, Any]:
        folder = self.tmp / "hub" / "models--org--name" / "snapshots" / "0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.gguf").write_text("1", encoding="utf-8")
        return {"name": "org/name"}

    def forward(self) -> dict[str, Any]:
        return {"config": self.model.config, "tensors": self.tensors(), "ids": [1, 2], "dtype": np.float64}


REPLY_STREAM = ("cancel", "close", "finish", "n_read", "reply", "speculation")
# The arguments of each public call; of a method also the object, unless it is the model, and of a property nothing.
CALLS: dict[str, Callable[[Good], dict[str, Any]]] = {
    "Model.load": lambda g: {"source": g.folder, "threads": 1, "progress": lambda done, total: None},
    "Model.from_tensors": lambda g: {"config": g.model.config, "tensors": g.tensors(), "threads": 1},
    "Model.generate": Good.generate,
    "Model.stream": Good.generate,
    "Model.render": Good.render,
    "Model.chat": Good.chat,
    "Model.stream_chat": Good.chat,
    "Chat": lambda g: {"model": g.model, "system": "S", **g.layout(), "params": pygpt.SamplingParams()},
    "Chat.send": lambda g: {"self": g.conversation(), "message": "in", "params": pygpt.SamplingParams(max_tokens=2)},
    "Chat.stream": lambda g: {"self": g.conversation(), "message": "in", "params": pygpt.SamplingParams(max_tokens=2)},
    "Chat.retry": lambda g: {"self": g.conversation(True), "params": pygpt.SamplingParams(max_tokens=2)},
    "Chat.save": lambda g: {"self": g.conversation(), "path": g.tmp / "c.json"},
    "Chat.load": lambda g: {"self": g.conversation(), "path": g.saved_conversation()},
    "Chat.reset": lambda g: {"self": g.conversation()},
    "Chat.messages": lambda g: {"self": g.conversation()},
    "Chat.system": lambda g: {"self": g.conversation()},
    "Chat.n_forgotten": lambda g: {"self": g.conversation()},
    **{f"ReplyStream.{name}": (lambda g: {"self": g.conversation().stream("in")}) for name in REPLY_STREAM},
    "Reply": lambda g: dict.fromkeys(f.name for f in dataclasses.fields(pygpt.Reply)),
    "Section": lambda g: {"part": "answer", "text": ""},
    "Model.logits": Good.prompt,
    "Model.hidden_states": Good.prompt,
    "Model.embed": lambda g: {"text": "in the"},
    "Model.classify": lambda g: {"item": "in the"},
    "Model.score": Good.prompt,
    "Model.perplexity": lambda g: {"prompt": [1] * 70, "stride": 30},
    "Model.save": lambda g: {"path": g.tmp / "saved"},
    "Session.append": lambda g: {"self": g.model.session(), "ids": [1, 2]},
    "Session.fork": lambda g: {"self": g.model.session()},
    "Session.truncate": lambda g: {"self": g.model.session(), "length": 0},
    "Session.length": lambda g: {"self": g.model.session()},
    "Stream.cancel": lambda g: {"self": g.model.stream("a")},
    "Stream.collect": lambda g: {"self": g.model.stream("a")},
    "Stream.seed": lambda g: {"self": g.model.stream("a")},
    "Stream.speculation": lambda g: {"self": g.model.stream("a")},
    "Stream.seeds": lambda g: {"self": g.model.stream("a")},
    "CancelToken": lambda g: {},
    "CancelToken.cancel": lambda g: {"self": CancelToken()},
    "CancelToken.cancelled": lambda g: {"self": CancelToken()},
    "CancelToken.set": lambda g: {"self": CancelToken()},
    "CancelToken.is_set": lambda g: {"self": CancelToken()},
    "SamplingParams": lambda g: {},
    "Completion": lambda g: {"text": "", "tokens": (), "finish_reason": "stop", "logprobs": None, "seed": 0},
    "Piece": lambda g: {"text": "", "token": 0, "index": 0, "finish_reason": None, "logprob": None},
    "Speculation": lambda g: {},
    "TokenLogprob": lambda g: {"token": 0, "logprob": 0.0, "top": ()},
    "Classification": lambda g: {"label": "a", "probabilities": {"a": 1.0}},
    "ModelConfig": Good.config,
    "ModelConfig.with_context": lambda g: {"self": g.model.config, "n_ctx": 5},
    "ModelConfig.with_layers": lambda g: {"self": g.model.config, "attn_scale": 0.5, "rope": None},
    "Tokenizer.from_folder": lambda g: {"folder": g.folder, "bos_id": 263, "eos_id": 263},
    "Tokenizer.from_gguf": lambda g: {"metadata": {}, "source": "a file"},
    "Tokenizer.from_pieces": lambda g: {
        "pieces": [b"?", b"<s>", b"</s>", b"a"],
        "scores": [0.0, 0.0, 0.0, -1.0],
        "bos_id": 1,
        "eos_id": 2,
        "source": "a file",
    },
    "Tokenizer.with_special": lambda g: {"self": g.model.tokenizer, "tokens": {"<new>": 264}},
    "Tokenizer.encode": lambda g: {"self": g.model.tokenizer, "text": "in the"},
    "Tokenizer.render": lambda g: {"self": g.model.tokenizer, **g.render()},
    "Tokenizer.chat_template": lambda g: {"self": g.model.tokenizer, "name": "{{ x }}"},
    "Tokenizer.decode": lambda g: {"self": g.model.tokenizer, "ids": [1, 2], "after": [3]},
    "Tokenizer.token_bytes": lambda g: {"self": g.model.tokenizer, "token": 1},
    "Tokenizer.stream": lambda g: {"self": g.model.tokenizer, "after": [1, 2]},
    "Tokenizer.save": lambda g: {"self": g.model.tokenizer, "folder": g.tmp},
    "TrainingResult": lambda g: dict.fromkeys(f.name for f in dataclasses.fields(pygpt.TrainingResult)),
    "pretrain": Good.pretrain,
    "finetune": Good.finetune,
    "checkpoint.read": lambda g: {"path": g.folder},
    "checkpoint.write": lambda g: {"folder": g.tmp / "w", "config": g.model.config, "tensors": g.tensors()},
    "reference.forward": Good.forward,
    "reference.hidden": Good.forward,
    "registry.on_disk": lambda g: {},
    "registry.pull": lambda g: {"name": str(g.folder), "progress": lambda done, total: None},
    "registry.remove": Good.fetched,
}
PRIVATE = {"Model", "ReplyStream", "Session", "Stream", "Tokenizer"}  # classes whose constructors say so


def owners() -> dict[str, type]:
    """The exported classes, by name."""
    return {name: value for name in pygpt.__all__ if isinstance(value := getattr(pygpt, name), type)}


def public() -> Iterator[tuple[str, object]]:
    """Every public call and property: its name and what it is."""
    yield from FUNCTIONS.items()
    for name in pygpt.__all__:
        value = getattr(pygpt, name)
        if isinstance(value, type):
            if name not in PRIVATE:
                yield name, value
            fields = {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
            for attribute in dir(value):
                if not attribute.startswith("_") and attribute not in fields:
                    yield f"{name}.{attribute}", inspect.getattr_static(value, attribute)
        elif callable(value):
            yield name, value


def is_simple(name: str, value: object) -> bool:
    """Properties and methods without arguments of an object that anyone may have: calling them once is all."""
    owner = name.split(".")[0]
    simple = isinstance(value, property) or (
        isinstance(value, types.FunctionType) and len(inspect.signature(value).parameters) == 1
    )
    return simple and owner in ("Model", "ModelConfig", "Tokenizer")


def subject(name: str, good: Good) -> Any:
    return {"Model": good.model, "ModelConfig": good.model.config, "Tokenizer": good.model.tokenizer}[name]


@pytest.fixture
def good(gpt2_folder: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Good:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PYGPT_CACHE", str(tmp_path / "cache"))
    return Good(model, gpt2_folder, tmp_path)


def test_every_public_call_is_known_here() -> None:
    names = {name for name, value in public() if not is_simple(name, value)}
    assert names == CALLS.keys()


@pytest.mark.parametrize("name", [name for name, value in public() if is_simple(name, value)])
def test_what_takes_nothing_works(name: str, good: Good) -> None:
    owner, attribute = name.split(".")
    value = getattr(subject(owner, good), attribute)
    if callable(value):
        value()


def call(name: str, good: Good, argument: str | None = None, wrong: object = None) -> None:
    """The call with its right arguments, or with one of them wrong; streams are read to their end."""
    arguments = CALLS[name](good)
    owner, _, attribute = name.partition(".")
    if name in FUNCTIONS:
        function = FUNCTIONS[name]
    elif not attribute:
        function = getattr(pygpt, name)
    else:
        holder = arguments.pop("self", None) or (good.model if owner == "Model" else getattr(pygpt, owner))
        function = getattr(holder, attribute)
        if not callable(function):
            return
    if argument is not None:
        arguments[argument] = wrong
    result = function(**arguments)
    if isinstance(result, pygpt.Stream):
        result.collect()
    if isinstance(result, pygpt.ReplyStream):
        result.finish()
    if isinstance(result, pygpt.Tokenizer):
        result.decode(result.encode("in the"))


@pytest.mark.parametrize("name", CALLS)
def test_right_values_are_right(name: str, good: Good) -> None:
    if name == "Model.classify":
        with pytest.raises(ValueError, match="no classifier"):
            call(name, good)
    elif name == "Tokenizer.from_gguf":
        with pytest.raises(PygptError, match="a file"):
            call(name, good)
    else:
        call(name, good)


def shown(wrong: object) -> str:
    try:
        return f"{wrong!r:.60}"
    except ValueError:  # Python refuses to write such integers
        return "a huge integer"


def arguments_of(name: str) -> list[str]:
    if name in FUNCTIONS:
        function: Any = FUNCTIONS[name]
    else:
        function = pygpt
        for part in name.split("."):
            function = getattr(function, part)
    try:
        parameters = inspect.signature(function).parameters.values() if callable(function) else ()
    except ValueError:  # the core's own
        return []
    if name == "ModelConfig.with_layers":  # as keywords of one mapping
        return ["attn_scale", "rope"]
    if name == "pretrain":  # the recipe's fields too
        parameters = [*parameters, *inspect.signature(Recipe).parameters.values()]
    return [p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


@pytest.mark.parametrize(("name", "argument"), [(name, a) for name in CALLS for a in arguments_of(name)])
def test_wrong_values_raise_what_they_may(name: str, argument: str, good: Good) -> None:
    found = []
    for wrong in WRONG_SETTINGS if name in TRAINING else WRONG:
        with warnings.catch_warnings(), contextlib.suppress(*ALLOWED):
            warnings.simplefilter("error")
            try:
                call(name, good, argument, wrong)
            except ALLOWED:
                raise
            except Exception as error:
                found.append(f"{argument}={type(wrong).__name__} {shown(wrong)}: {type(error).__name__}: {error}")
    assert found == []
