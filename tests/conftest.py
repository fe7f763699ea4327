"""Tiny models in the Hugging Face layout of GPT-2, made from a seed."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import pygpt
from pygpt import Model

# A shell lets what it runs in the background ignore Ctrl-C, which the processes that tests start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

MERGES = ("Ġ t", "h e", "Ġt he", "i n", "a n", "Ġ a", "o n")
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTES = PRINTABLE + [b for b in range(256) if b not in PRINTABLE]  # the byte of each of the first 256 ids, as in GPT-2
END = "<|endoftext|>"
N_VOCAB = 256 + len(MERGES) + 1


class Vocabulary:
    """The ids of the vocabulary that the tiny models share."""

    size = N_VOCAB
    end_id = N_VOCAB - 1

    @staticmethod
    def byte_ids(text: str) -> list[int]:
        """One id for each UTF-8 byte, never a merged one."""
        return [BYTES.index(b) for b in text.encode()]


@pytest.fixture(scope="session")
def vocab() -> type[Vocabulary]:
    return Vocabulary


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Arguments for `subprocess` with which Python finds the package under test: in the repository it would take the
    source folder, which has no compiled core."""
    environment = {**os.environ, "PYTHONPATH": str(Path(pygpt.__file__).parent.parent)}
    return {"cwd": tmp_path_factory.mktemp("elsewhere"), "env": environment}


def write_tokenizer(folder: Path) -> None:
    """vocab.json and merges.txt: 256 bytes, a few merges, the end-of-text token."""
    symbols = [chr(b) for b in PRINTABLE] + [chr(256 + i) for i in range(256 - len(PRINTABLE))]
    names = [*symbols, *("".join(merge.split()) for merge in MERGES), END]
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")


def write_gpt2(
    folder: Path, tensors: dict[str, np.ndarray], *, n_embd: int, n_layer: int, n_head: int, n_ctx: int
) -> Path:
    """config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": N_VOCAB,
        "n_positions": n_ctx,
        "n_embd": n_embd,
        "n_layer": n_layer,
        "n_head": n_head,
        "n_inner": None,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "bos_token_id": Vocabulary.end_id,
        "eos_token_id": Vocabulary.end_id,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors")
    return folder


def gpt2_tensors(
    rng: np.random.Generator, *, n_embd: int, n_layer: int, n_ctx: int, std: float
) -> dict[str, np.ndarray]:
    """Random weights; matrices are [in, out], as GPT-2 stores them."""

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(0, std, shape).astype(np.float32)

    tensors = {"wte.weight": normal(N_VOCAB, n_embd), "wpe.weight": normal(n_ctx, n_embd)}
    for i in range(n_layer):
        for norm in ("ln_1", "ln_2"):
            tensors[f"h.{i}.{norm}.weight"] = np.ones(n_embd, np.float32)
            tensors[f"h.{i}.{norm}.bias"] = np.zeros(n_embd, np.float32)
        for name, n_in, n_out in (
            ("attn.c_attn", n_embd, 3 * n_embd),
            ("attn.c_proj", n_embd, n_embd),
            ("mlp.c_fc", n_embd, 4 * n_embd),
            ("mlp.c_proj", 4 * n_embd, n_embd),
        ):
            tensors[f"h.{i}.{name}.weight"] = normal(n_in, n_out)
            tensors[f"h.{i}.{name}.bias"] = normal(n_out)
    tensors["ln_f.weight"] = np.ones(n_embd, np.float32)
    tensors["ln_f.bias"] = np.zeros(n_embd, np.float32)
    return tensors


@pytest.fixture
def task_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script of examples/tasks by its name, as Python does when it is run."""
    folder = Path(__file__).resolve().parents[1] / "examples" / "tasks"
    if not folder.is_dir():
        pytest.skip("examples/ is not here: the tests run outside the repository")
    monkeypatch.syspath_prepend(str(folder))
    yield importlib.import_module
    for script in folder.glob("*.py"):
        sys.modules.pop(script.stem, None)


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 with a context of 64 tokens and a byte-level tokenizer."""
    folder = tmp_path_factory.mktemp("gpt2")
    shape = {"n_embd": 32, "n_layer": 2, "n_ctx": 64}
    tensors = gpt2_tensors(np.random.default_rng(0), **shape, std=0.3)
    write_gpt2(folder, tensors, n_head=2, **shape)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def model(gpt2_folder: Path) -> Model:
    return Model.load(gpt2_folder, threads=1)


@pytest.fixture(scope="session")
def scripted_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a model that writes given tokens whatever it reads: after position p, always script[p].

    Its blocks add nothing, its embeddings are unit vectors, and the vector of position p points at the embedding of
    script[p], which the tied head then finds.
    """

    def make(script: Iterable[int], n_layer: int = 1) -> Path:
        script = list(script)
        shape = {"n_embd": N_VOCAB, "n_layer": n_layer, "n_ctx": len(script) + 1}
        tensors = gpt2_tensors(np.random.default_rng(0), **shape, std=0.0)
        tensors["wte.weight"] = np.eye(N_VOCAB, dtype=np.float32)
        tensors["wpe.weight"] = 100 * np.eye(N_VOCAB, dtype=np.float32)[[*script, 0]]
        folder = tmp_path_factory.mktemp("scripted")
        write_gpt2(folder, tensors, n_head=1, **shape)
        write_tokenizer(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def scripted(scripted_folder: Callable[[Iterable[int]], Path]) -> Callable[[Iterable[int]], Model]:
    """The same, loaded."""
    return lambda script: Model.load(scripted_folder(script), threads=1)


CHAT_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'x' %}{{ raise_exception('No x') }}{% endif %}"
    "{{ m.role[0] }}:{% if m.reasoning %}<think>{{ m.reasoning }}</think>{% endif %}{{ m.content }}<|endoftext|>"
    "{% endfor %}{% if add_generation_prompt %}a:{% endif %}"
)


@pytest.fixture(scope="session")
def with_template() -> Callable[..., Path]:
    """Copies a model's folder and gives it a chat template: "u:hi<|endoftext|>a:" for a user's hi."""

    def copy(folder: Path, target: Path, template: str = CHAT_TEMPLATE) -> Path:
        shutil.copytree(folder, target)
        (target / "chat_template.jinja").write_text(template, encoding="utf-8")
        return target

    return copy


@pytest.fixture
def speaker_folder(
    scripted_folder: Callable[[Iterable[int]], Path],
    with_template: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
    vocab: type[Vocabulary],
    model: Model,
) -> Callable[..., Path]:
    """Makes a model with a chat template that says given texts, each after the prompt that stands before it."""

    def make(*turns: tuple[str, str], template: str = CHAT_TEMPLATE) -> Path:
        script = [vocab.end_id] * 400
        for prompt, said in turns:
            n = len(model.tokenizer.encode(prompt, allow_special=True))
            ids = [*vocab.byte_ids(said), vocab.end_id]
            script[n - 1 : n - 1 + len(ids)] = ids
        return with_template(scripted_folder(script), tmp_path_factory.mktemp("speaker") / "m", template)

    return make
