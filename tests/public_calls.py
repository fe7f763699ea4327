"""The arguments of every public call: what `tests/test_wrong_types.py` then makes wrong, one after the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pygpt
from pygpt import CancelToken, Model, checkpoint


class Deaf:
    """A listener."""

    def on_pieces(self, pieces: object) -> None:
        pass

    def on_error(self, error: object) -> None:
        pass


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
        more = {"speculate": None, "draft": self.model, "prefix": self.model.session()}
        return {"prompt": "in the", **options, **more}

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

    def asynchronous(self) -> pygpt.AsyncModel:
        return pygpt.AsyncModel(self.model)

    def scheduler(self) -> pygpt.Scheduler:
        return pygpt.Scheduler(self.model)

    def submit(self) -> dict[str, Any]:
        options = {"params": pygpt.SamplingParams(), "cancel": CancelToken(), "max_tokens": 2, "client": "me"}
        return {"self": self.scheduler(), "prompt": "in the", "listener": Deaf(), **options}

    def ticket(self) -> pygpt.Ticket:
        return self.scheduler().submit("a", listener=Deaf())

    def training(self) -> dict[str, Any]:
        (self.tmp / "text.txt").write_text("the cat sat on the mat. " * 40, encoding="utf-8")
        out = self.tmp / f"run{len(list(self.tmp.iterdir()))}"
        return {"data": self.tmp / "text.txt", "out": out, "steps": 1, "batch": 1, "threads": 1}

    def pretrain(self) -> dict[str, Any]:
        return {**self.training(), "tokenizer": "char", "n_layer": 1, "n_head": 1, "n_embd": 8, "n_ctx": 16}

    def finetune(self) -> dict[str, Any]:
        return {"model": self.folder, **self.training()}

    def task(self) -> dict[str, Any]:
        (self.tmp / "task.jsonl").write_text('{"context": "in", "continuation": "the"}', encoding="utf-8")
        options = {"limit": 1, "max_tokens": 2, "confidence": 0.9, "progress": None}
        return {"model": self.model, "tasks": "task", "data": self.tmp, **options}

    def fetched(self) -> dict[str, Any]:
        folder = self.tmp / "hub" / "models--org--name" / "snapshots" / "0"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.gguf").write_text("1", encoding="utf-8")
        return {"name": "org/name"}

    def saved_session(self) -> Path:
        session = self.model.session()
        session.append([1, 2])
        session.save(self.tmp / "session")
        return self.tmp / "session"

    def traced(self) -> pygpt.Trace:
        return self.model.trace("in the", attention=True)

    def forward(self) -> dict[str, Any]:
        return {"config": self.model.config, "tensors": self.tensors(), "ids": [1, 2], "dtype": np.float64}


def without(arguments: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in arguments.items() if name not in names}


TICKET = ("cancel", "n_cached", "n_prompt", "seed", "turn")
REPLY_STREAM = ("cancel", "close", "finish", "n_read", "reply", "speculation")
# The arguments of each public call; of a method also the object, unless it is the model, and of a property nothing.
CALLS: dict[str, Callable[[Good], dict[str, Any]]] = {
    "Model.load": lambda g: {"source": g.folder, "threads": 1, "progress": lambda done, total: None},
    "Model.from_tensors": lambda g: {"config": g.model.config, "tensors": g.tensors(), "threads": 1},
    "Model.generate": lambda g: {**g.generate(), "progress": None},
    "Model.stream": Good.generate,
    "Model.render": Good.render,
    "Model.chat": lambda g: {**g.chat(), "progress": None},
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
    "Model.trace": lambda g: {**g.prompt(), "layers": [0], "attention": True, "top": 2, "patch": {}},
    "Site": lambda g: {"name": "heads", "layer": 0, "index": 1, "tokens": 0},
    "Candidates": lambda g: dict.fromkeys(f.name for f in dataclasses.fields(pygpt.Candidates)),
    "Trace": lambda g: dict.fromkeys(f.name for f in dataclasses.fields(pygpt.Trace)),
    "Trace.lens": lambda g: {"self": g.traced(), "top": 2},
    "Trace.plot_attention": lambda g: {"self": g.traced(), "layer": 0, "head": 0},
    "Trace.plot_lens": lambda g: {"self": g.traced()},
    "Trace.plot_surprisal": lambda g: {"self": g.traced()},
    "Trace.html": lambda g: {"self": g.traced(), "model": "m", "top": 2},
    "Trace.with_model": lambda g: {"self": g.traced(), "model": g.model},
    "Trace.lens_logits": lambda g: {"self": g.traced(), "layer": 0},
    "Model.embed": lambda g: {"text": "in the"},
    "Model.classify": lambda g: {"item": "in the"},
    "Model.score": Good.prompt,
    "Model.perplexity": lambda g: {"prompt": [1] * 70, "stride": 30},
    "Model.loglikelihood": lambda g: {"pairs": [("in", " the")], "progress": None},
    "Likelihood": lambda g: {"logprob": 0.0, "n_tokens": 1, "is_greedy": True},
    "Estimate": lambda g: {"value": 0.5, "low": 0.0, "high": 1.0, "n": 1},
    "TaskResult": lambda g: dict.fromkeys((f.name for f in dataclasses.fields(pygpt.TaskResult)), 0),
    "TaskResult.summary": lambda g: {"self": pygpt.TaskResult("a", {}, 1, 0.0, ())},
    "evaluate": Good.task,
    "Model.save": lambda g: {"path": g.tmp / "saved"},
    "Session.append": lambda g: {"self": g.model.session(), "ids": [1, 2]},
    "Session.fork": lambda g: {"self": g.model.session()},
    "Session.truncate": lambda g: {"self": g.model.session(), "length": 0},
    "Session.save": lambda g: {"self": g.model.session(), "path": g.tmp / "s"},
    "Session.tokens": lambda g: {"self": g.model.session()},
    "Model.load_session": lambda g: {"path": g.saved_session()},
    "Session.length": lambda g: {"self": g.model.session()},
    "Stream.cancel": lambda g: {"self": g.model.stream("a")},
    "Stream.collect": lambda g: {"self": g.model.stream("a")},
    "Stream.seed": lambda g: {"self": g.model.stream("a")},
    "Stream.speculation": lambda g: {"self": g.model.stream("a")},
    "Stream.seeds": lambda g: {"self": g.model.stream("a")},
    "AsyncModel": lambda g: {"model": g.model},
    "AsyncModel.load": lambda g: {"source": g.folder, "threads": 1},
    **{
        f"AsyncModel.{name}": lambda g: {"self": g.asynchronous(), **without(g.submit(), "self", "listener", "cancel")}
        for name in ("stream", "generate")
    },
    **{
        f"AsyncModel.{name}": (
            lambda g: {
                "self": g.asynchronous(),
                **without(g.submit(), "self", "listener", "cancel", "prompt"),
                **g.render(),
            }
        )
        for name in ("stream_chat", "chat")
    },
    "AsyncModel.embed": lambda g: {"self": g.asynchronous(), "text": "in the", "client": "me"},
    "AsyncModel.score": lambda g: {"self": g.asynchronous(), "prompt": "in the", "client": "me"},
    **{f"AsyncModel.{name}": lambda g: {"self": g.asynchronous()} for name in ("close", "model", "scheduler")},
    **{
        f"AsyncStream.{name}": lambda g: {"self": g.asynchronous().stream("a", max_tokens=2)}
        for name in ("cancel", "collect", "seed")
    },
    "Scheduler": lambda g: {"model": g.model, "max_running": 2},
    "Scheduler.submit": Good.submit,
    "Scheduler.submit_chat": lambda g: {**without(g.submit(), "prompt"), **g.render()},
    "Scheduler.submit_read": lambda g: {
        **without(g.submit(), "params", "max_tokens", "listener"),
        "output": "logprobs",
        "n_top": 2,
    },
    "Scheduler.stream": lambda g: without(g.submit(), "listener"),
    "Scheduler.generate": lambda g: without(g.submit(), "listener"),
    "Scheduler.stream_chat": lambda g: {**without(g.submit(), "prompt", "listener"), **g.render()},
    "Scheduler.chat": lambda g: {**without(g.submit(), "prompt", "listener"), **g.render()},
    "Scheduler.close": lambda g: {"self": g.scheduler()},
    "Scheduler.save_prefixes": lambda g: {"self": g.scheduler(), "path": g.tmp / "p"},
    "Scheduler.load_prefixes": lambda g: {"self": g.scheduler(), "path": g.saved_session()},
    "Scheduler.model": lambda g: {"self": g.scheduler()},
    "Scheduler.stats": lambda g: {"self": g.scheduler()},
    "SchedulerStats": lambda g: dict.fromkeys((f.name for f in dataclasses.fields(pygpt.SchedulerStats)), 0),
    **{
        f"Ticket.{name}": (lambda g: {"self": g.ticket()})
        for name in ("cancel", "n_cached", "n_prompt", "seed", "turn")
    },
    "CancelToken": lambda g: {},
    "CancelToken.cancel": lambda g: {"self": CancelToken()},
    "CancelToken.cancelled": lambda g: {"self": CancelToken()},
    "CancelToken.set": lambda g: {"self": CancelToken()},
    "CancelToken.is_set": lambda g: {"self": CancelToken()},
    "SamplingParams": lambda g: {},
    "Completion": lambda g: {"text": "", "tokens": (), "finish_reason": "stop", "logprobs": None, "seed": 0},
    "Piece": lambda g: {"text": "", "token": 0, "index": 0, "finish_reason": None, "logprob": None},
    "Speculation": lambda g: {},
    "ToolCall": lambda g: {"name": "f", "arguments": "{}"},
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
    "Tokenizer.with_chat_template": lambda g: {"self": g.model.tokenizer, "template": "{{ messages }}"},
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
    "reference.trace": lambda g: {**g.forward(), "layers": [0], "attention": True, "patch": {}},
    "registry.on_disk": lambda g: {},
    "registry.pull": lambda g: {"name": str(g.folder), "progress": lambda done, total: None},
    "registry.remove": Good.fetched,
}
