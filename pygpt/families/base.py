"""What a family is: how to read its configuration, and where each canonical tensor lies in its checkpoints.

Named tuples here and in `pygpt.checkpoint`, because making a dataclass takes five times as long, at each import.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

from pygpt._json import shown
from pygpt.config import Activation, ModelConfig
from pygpt.errors import ConfigError
from pygpt.families.keys import Known

ACTIVATIONS: dict[str, Activation] = {  # the names that config.json uses
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
}
ACTIVATION_NAMES: dict[Activation, str] = {
    "gelu": "gelu", "gelu_tanh": "gelu_new", "silu": "silu", "relu": "relu",
    "swiglu_clamped": "swiglu_clamped",  # which no config.json names
}  # fmt: skip


MAX_HEADS = 1 << 16
"""Far above every model there is, and few enough to make a list of."""


def token_settings(config: ModelConfig) -> dict[str, object]:
    """The special tokens as every config.json has them."""
    eos = config.eos_ids[0] if len(config.eos_ids) == 1 else list(config.eos_ids) or None
    return {"bos_token_id": config.bos_id, "eos_token_id": eos}


def special_tokens(s: Settings, n_vocab: int) -> dict[str, Any]:
    """The fields of `ModelConfig` that say which tokens begin and end a text."""
    bos = s.token_ids("bos_token_id", n_vocab)
    return {"bos_id": bos[0] if bos else None, "eos_ids": s.token_ids("eos_token_id", n_vocab)}


def divided_width(s: Settings, n_embd: str, n_head: str) -> int:
    """The width of a head where the heads share the model's evenly; the arguments are keys."""
    if s.integer(n_embd) % s.integer(n_head):
        raise s.error(n_embd, f"a multiple of {s.name(n_head)} ({s.integer(n_head)})")
    return s.integer(n_embd) // s.integer(n_head)


def alibi_slopes(n_head: int, steepest: float = 8.0) -> tuple[float, ...]:
    """The slopes of ALiBi (Press et al. 2022, arXiv:2108.12409): of n heads, n a power of 2, head i = 1 ... n has
    2^(-steepest i / n). Any other number takes every second slope of the next power of 2, then the ones between."""
    if n_head > MAX_HEADS:
        raise ConfigError(f"n_head must be at most {MAX_HEADS} with ALiBi, not {n_head}")
    n = 1 << (n_head - 1).bit_length()
    slopes = [2.0 ** (-steepest * i / n) for i in range(1, n + 1)]
    return tuple(slopes if n == n_head else (slopes[1::2] + slopes[::2])[:n_head])


def _is_positive(value: object) -> TypeGuard[float]:
    """Whether it is a finite number above 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


class Settings:
    """A checkpoint's own configuration: typed look-ups whose errors name the file and the key.

    `names` gives the key as the file spells it, where that differs from the key that the family asks for ("a.b": b of
    the nested table a); `prefix` precedes all others (the path to a nested table). Which keys were asked for is kept:
    `rest` gives the others, none of which may be passed over without a reason.
    """

    def __init__(
        self, values: Mapping[str, object], file: str, names: Mapping[str, str] | None = None, prefix: str = ""
    ) -> None:
        self.values, self.file, self._names, self._prefix = values, file, names or {}, prefix
        self._asked: set[str] = set()
        self._tables: list[Settings] = []

    def fill(self, **defaults: object) -> None:
        """Give keys that the file lacks a value; null in the file stays null."""
        self.values = {**defaults, **self.values}

    def has(self, key: str) -> bool:
        """True where the key is present and not null."""
        return self.get(key) is not None

    def get(self, key: str) -> object:
        """The value as it stands in the file; None where there is none."""
        self._asked.add(key)
        return self.values.get(key)

    def name(self, key: str) -> str:
        """The key as the file spells it."""
        return self._names.get(key, self._prefix + key)

    def rest(self) -> dict[str, object]:
        """What stands in the file and was never asked for, nested tables included, under the file's names."""
        rest = {self.name(key): value for key, value in self.values.items() if key not in self._asked}
        for table in self._tables:
            rest |= table.rest()
        return rest

    def asked(self) -> set[str]:
        """What was asked for, as `rest` names it."""
        return {self.name(key) for key in self._asked}.union(*(table.asked() for table in self._tables))

    def error(self, key: str, allowed: str) -> ConfigError:
        """The error for a value that pygpt cannot run."""
        return ConfigError(f"{self.file}: {self.name(key)} is {shown(self.values.get(key))}, but must be {allowed}")

    def require(self, key: str, allowed: object, text: str | None = None) -> None:
        """ConfigError unless the key is absent, null or `allowed`, which `text` describes."""
        if self.has(key) and self.values[key] != allowed:
            raise self.error(key, text or shown(allowed))

    def _get(self, key: str, default: object) -> object:
        value = self.get(key)
        if value is not None:
            return value
        if default is None:
            raise ConfigError(f"{self.file} lacks the key {self.name(key)!r}")
        return default

    def integer(self, key: str, default: int | None = None) -> int:
        """A positive integer; a key without a default must be there."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise self.error(key, "a positive integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self._get(key, default)
        if not _is_positive(value):
            raise self.error(key, "a positive number")
        return float(value)

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        """So many finite numbers above 0; the key must be there."""
        value = self._get(key, None)
        if not isinstance(value, list) or len(value) != length or not all(map(_is_positive, value)):
            raise self.error(key, f"a list of {length} positive numbers")
        return tuple(map(float, value))

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def activation(self, key: str, default: str, names: Mapping[str, Activation] = ACTIVATIONS) -> Activation:
        """One of `names`."""
        value = self._get(key, default)
        if not isinstance(value, str) or value not in names:
            raise self.error(key, f"one of {', '.join(names)}")
        return names[value]

    def table(self, key: str) -> Settings | None:
        """A nested table, or None where there is none."""
        value = self.get(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.error(key, "a table of settings")
        names = {name.removeprefix(f"{key}."): n for name, n in self._names.items() if name.startswith(f"{key}.")}
        self._tables.append(Settings(values=value, file=self.file, names=names, prefix=f"{self.name(key)}."))
        return self._tables[-1]

    def token_ids(self, key: str, n_vocab: int) -> tuple[int, ...]:
        """Token ids, given as one integer or a list. An id outside the vocabulary can never occur and is dropped:
        transformers writes GPT-2's 50256 into the configuration of any small model."""
        value = self.get(key)
        given = [] if value is None else value if isinstance(value, list) else [value]
        ids = [i for i in given if isinstance(i, int) and not isinstance(i, bool)]
        if len(ids) != len(given):
            raise self.error(key, "a token id or a list of them")
        return tuple(dict.fromkeys(i for i in ids if 0 <= i < n_vocab))


class Sizes(NamedTuple):
    """What is chosen for a new model; the rest is its family's."""

    n_vocab: int
    n_ctx: int
    n_layer: int
    n_head: int
    n_embd: int
    n_kv_head: int | None = None  # n_head
    bos_id: int | None = None
    eos_id: int | None = None

    @property
    def head_dim(self) -> int:
        """The width of a head. ValueError where the heads do not share n_embd evenly."""
        if self.n_head < 1 or self.n_embd % self.n_head:
            raise ValueError(f"the width ({self.n_embd}) must be a multiple of the number of heads ({self.n_head})")
        return self.n_embd // self.n_head


def gpt_settings(sizes: Sizes, name: str) -> dict[str, object]:
    """The config.json of a new GPT-1 or GPT-2: they spell sizes alike, and the rest are defaults."""
    if sizes.head_dim and sizes.n_kv_head not in (None, sizes.n_head):
        raise ValueError(
            f"key and value heads must be as many as heads ({sizes.n_head}) in {name}, not {sizes.n_kv_head}"
        )
    return {
        "vocab_size": sizes.n_vocab,
        "n_positions": sizes.n_ctx,
        "n_embd": sizes.n_embd,
        "n_layer": sizes.n_layer,
        "n_head": sizes.n_head,
        "bos_token_id": sizes.bos_id,
        "eos_token_id": sizes.eos_id,
    }


class Source(NamedTuple):
    """Where one canonical module (a linear, a norm, an embedding) lies in a checkpoint.

    `module` is the stored name without ``.weight`` or ``.bias``; ``{i}`` stands for the layer. Modules that share a
    stored name are sections of its outputs, one after the other, in the order in which `sources` names them: a fused
    q, k, v. `groups` names a size of `ModelConfig`: the outputs are that many groups, each with an equal share of every
    section. A key/value head's queries, key and value together are groups of "n_kv_head"; rows of a gate and of what it
    gates, in turn, groups of "n_inner".

    ``{e}`` stands for the expert. Where an expert's module has no ``{e}``, the tensor holds those of all experts, one
    after the other along a first axis. `ends` are what the stored names end in for a canonical weight and bias.
    """

    module: str
    also: str | None = None  # another name for it, in files of another version
    transposed: bool = False  # the matrix is stored (inputs, outputs), as GPT-2's Conv1D does
    groups: str | None = None
    interleaved: bool = False  # each head's rows are in the order of interleaved rotary (GGUF's llama)
    skip: int = 0  # rows that stand before all others and are never read (OPT's positions)
    minus_one: bool = False  # the weight is stored with 1 taken off (Gemma's norms)
    zero_bias: bool = False  # a bias that is not stored is 0 (MPT's norms)
    ends: Mapping[str, str] = MappingProxyType({})  # "." and the canonical end, where it is not here


def fused_qkv(module: str, transposed: bool = False, groups: str | None = None) -> dict[str, Source]:
    """Queries, keys and values of a block that are stored as one module."""
    return {f"blocks.{{i}}.attn.{name}": Source(module, transposed=transposed, groups=groups) for name in "qkv"}


class Gguf(NamedTuple):
    """The same family in GGUF files.

    `keys` gives, for a config.json key, the metadata key after "<architecture>."; "a.b" is b of the table a. Those that
    many families have are known (`pygpt/checkpoint/gguf_settings.py`). `unsaid` gives the config.json keys that such
    files leave out, as they follow from the architecture, from what the file does say, or from the names of its
    tensors; what the metadata says wins.
    """

    architecture: str  # general.architecture
    sources: Mapping[str, Source]
    keys: Mapping[str, str] = MappingProxyType({})
    unsaid: Callable[[Settings, Collection[str]], dict[str, object]] = lambda _, __: {}
    experts: bool = False  # files of this architecture with experts, where those without are another family's


class Own(NamedTuple):
    """A checkpoint in the form of the program that trained it."""

    settings: Mapping[str, object]  # as `Family.config` reads them
    tensors: Mapping[str, object]  # by their stored names


class Family(NamedTuple):
    """One family of models, as data.

    `settings` is the inverse of `config`: the config.json of a configuration, as far as the family's keys can say it;
    reading it back shows whether they can. `new` gives the config.json of a new model, for `config` to read; ValueError
    for sizes that the family cannot have. Keys of `sources` are canonical modules, with ``{i}`` for the layer, and
    `variant` gives those that differ for a configuration. `ignored` are regular expressions for stored names (without
    the prefix) that carry no parameters. `harmless` are the keys of config.json that `config` does not ask for and need
    not, beside those of all families (`keys.CONFIG`).
    `layouts` are other places where the tensors of some modules may lie: a file that holds one of these has them all.
    `own` takes the table that `torch.save` wrote and config.json beside it, and gives None for what is none of the
    family's own program; ConfigError, without the file's name, where something is missing.
    """

    name: str  # among pygpt's own words: --arch
    model_types: tuple[str, ...]  # among Hugging Face's
    config: Callable[[Settings], ModelConfig]
    settings: Callable[[ModelConfig], dict[str, object]]
    new: Callable[[Sizes], dict[str, object]] | None  # None: pygpt makes no new ones
    prefix: str  # of the stored names, where the checkpoint is of the model with its head
    sources: Mapping[str, Source]
    ignored: tuple[str, ...]
    harmless: Mapping[str, Known]
    gguf: Gguf | None  # None: GGUF has no such architecture
    variant: Callable[[ModelConfig], Mapping[str, Source]] = lambda _: {}
    layouts: tuple[Mapping[str, Source], ...] = ()
    own: Callable[[Mapping[str, object], Mapping[str, object]], Own | None] = lambda table, beside: None

    def sources_of(self, config: ModelConfig, names: Collection[str] = ()) -> Mapping[str, Source]:
        """Where this configuration's tensors lie, in a file that holds tensors of these names."""
        sources = {**self.sources, **self.variant(config)}
        for layout in self.layouts:
            stems = "|".join(
                re.escape(source.module).replace(r"\{i\}", r"\d+") + re.escape(source.ends.get("weight", ".weight"))
                for source in layout.values()
            )
            if any(re.fullmatch(f"(?:{re.escape(self.prefix)})?(?:{stems})", name) for name in names):
                sources |= layout
        return sources
