"""`ModelConfig` and its `LayerConfig`s: every model that pygpt runs is one value of these dataclasses.

The families translate a checkpoint's own configuration into it; the C++ core, the NumPy reference and the trainer are
driven by it and never ask which family a model came from. A field stands twice: here, with its checks, and in the list
of fields in ``csrc/model/config.h``, through which the core reads it by its name.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pygpt._json import shown
from pygpt.errors import ConfigError

Norm = Literal["layer_norm", "rms_norm"]
Activation = Literal["gelu", "gelu_tanh", "silu", "relu"]
NormPlacement = Literal["before_branch", "after_branch", "sandwich", "after_sum"]
Branches = Literal["sequential", "parallel", "parallel_one_norm"]
RopeScalingKind = Literal["linear", "dynamic", "llama3", "yarn", "longrope"]

MAX_LAYERS = 1 << 16
"""Far above every model there is, and few enough to make a list of."""


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
        raise ConfigError(f"{name} must be a positive number, not {shown(value)}")


def _check_at_least(name: str, value: object, least: float) -> None:
    _check_positive(name, value)
    if value < least:  # type: ignore[operator]
        raise ConfigError(f"{name} must be at least {least}, not {value!r}")


def _check_at_least_one(name: str, value: object) -> None:
    """Below 1 a frequency could be beyond every float."""
    _check_at_least(name, value, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched to a longer context than the `original_n_ctx` that a model was trained with.

        linear     all are divided by `factor` (Chen et al. 2023, arXiv:2306.15595)
        llama3     the low ones are divided by `factor`, the high ones kept, those between blended: by the turns that
                   they make in the original context, from `low_freq_factor` to `high_freq_factor` (Llama 3.1's release)
        yarn       the same blend over the pairs' numbers, from the pair that makes `beta_fast` turns to the one that
                   makes `beta_slow`, which are rounded outward if `truncate`; cosines and sines are multiplied by
                   `attention_factor`, 0.1 ln(factor) + 1 where it is None (Peng et al. 2023, arXiv:2309.00071, 3.2-3.4)
        longrope   each is divided by its own of `short_factor`, or of `long_factor` where the context is longer than
                   the original; cosines and sines are multiplied by `attention_factor`, where it is None
                   sqrt(1 + ln(factor) / ln(original_n_ctx)) (Ding et al. 2024, arXiv:2402.13753, section 4)
        dynamic    theta grows so that the longest wave becomes factor n_ctx / original_n_ctx - (factor - 1) times as
                   long ("Dynamic NTK", arXiv:2309.00071, appendix B.3; Hugging Face transformers' formula)

    The last two depend on the context, `n_ctx`, which may be up to factor * original_n_ctx tokens; None: one that is no
    longer than the original. Every position has the frequencies for the whole context, however short its sequence is.
    """

    kind: RopeScalingKind
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_n_ctx: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    n_ctx: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(RopeScalingKind):
            raise ConfigError(f"rope scaling {self.kind!r} is not one of {', '.join(get_args(RopeScalingKind))}")
        _check_at_least_one("rope scaling's factor", self.factor)
        if self.factor > 2**31:
            raise ConfigError(f"rope scaling's factor must be at most 2**31, not {self.factor!r}")
        for name in ("low_freq_factor", "high_freq_factor", "original_n_ctx", "beta_fast", "beta_slow"):
            _check_positive(f"rope scaling's {name}", getattr(self, name))
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            if getattr(self, low) >= getattr(self, high):
                raise ConfigError(
                    f"rope scaling's {low} ({getattr(self, low)}) must be below {high} ({getattr(self, high)})"
                )
        if not isinstance(self.truncate, bool):
            raise ConfigError(f"rope scaling's truncate must be True or False, not {shown(self.truncate)}")
        if self.attention_factor is not None:
            _check_positive("rope scaling's attention_factor", self.attention_factor)
        if self.kind == "longrope":
            _check_at_least("rope scaling's original_n_ctx", self.original_n_ctx, 2)
        for name in ("short_factor", "long_factor"):
            if not isinstance(getattr(self, name), tuple):
                raise ConfigError(f"rope scaling's {name} must be a tuple of numbers, not {shown(getattr(self, name))}")
            for value in getattr(self, name):
                _check_at_least(f"each of rope scaling's {name}", value, 1)
        if self.n_ctx is not None and not (
            self.by_context and isinstance(self.n_ctx, int) and self.n_ctx > self.original_n_ctx
        ):
            raise ConfigError(
                f"rope scaling's n_ctx must be above original_n_ctx ({self.original_n_ctx}) in dynamic and longrope, "
                f"and None in others, not {shown(self.n_ctx)}"
            )

    @property
    def by_context(self) -> bool:
        """Whether the frequencies depend on the context."""
        return self.kind in ("dynamic", "longrope")

    def for_context(self, n_ctx: int) -> RopeScaling:
        """The stretch for a context of n_ctx tokens."""
        return replace(self, n_ctx=n_ctx if self.by_context and n_ctx > self.original_n_ctx else None)

    def stretched(self, theta: float, dim: int) -> tuple[float, ...]:
        """The frequencies that those of `Rope`, theta^(-2i / dim), become: dim/2 of them, each at most 1."""
        if self.kind == "dynamic" and self.n_ctx is not None and dim > 2:  # the one frequency of dim 2 is theta^0
            growth = self.factor * self.n_ctx / self.original_n_ctx - (self.factor - 1.0)
            theta *= growth ** (dim / (dim - 2.0))
        freqs = [theta ** (-2.0 * i / dim) for i in range(dim // 2)]
        if self.kind == "dynamic":
            return tuple(freqs)
        if self.kind == "linear":
            return tuple(f / self.factor for f in freqs)
        if self.kind == "longrope":
            divisors = self.short_factor if self.n_ctx is None else self.long_factor
            return tuple(f / d for f, d in zip(freqs, divisors, strict=True))
        kept = self._kept_by_llama3(freqs) if self.kind == "llama3" else self._kept_by_yarn(theta, dim)
        return tuple(f * keep + f / self.factor * (1.0 - keep) for f, keep in zip(freqs, kept, strict=True))

    def _kept_by_llama3(self, freqs: list[float]) -> list[float]:
        """How much of each frequency is kept: 1 all of it, 0 it is divided."""
        turns = (self.original_n_ctx * f / (2.0 * math.pi) for f in freqs)
        width = self.high_freq_factor - self.low_freq_factor
        return [min(1.0, max(0.0, (t - self.low_freq_factor) / width)) for t in turns]

    def _kept_by_yarn(self, theta: float, dim: int) -> list[float]:
        def pair(turns: float) -> float:
            """The number of the pair that makes so many turns in the original context, if numbers were no integers."""
            return dim * math.log(self.original_n_ctx / (turns * 2.0 * math.pi)) / (2.0 * math.log(theta))

        first, last = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, dim - 1)
        if first == last:
            last += 0.001
        return [1.0 - min(1.0, max(0.0, (i - first) / (last - first))) for i in range(dim // 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of the first `dim` values of each head.

    `interleaved` rotates the pairs (0, 1), (2, 3), ...; otherwise (0, dim/2), (1, dim/2 + 1), ...
    """

    theta: float
    dim: int
    interleaved: bool = False
    scaling: RopeScaling | None = None

    def inv_freq(self) -> tuple[float, ...]:
        """The angle in radians that each of the dim/2 pairs turns by from one position to the next."""
        if self.scaling is not None:
            return self.scaling.stretched(self.theta, self.dim)
        return tuple(self.theta ** (-2.0 * i / self.dim) for i in range(self.dim // 2))

    def attention_factor(self) -> float:
        """What cosines and sines are multiplied by, so that a product of a query and a key grows by its square."""
        s = self.scaling
        if s is None or s.kind not in ("yarn", "longrope"):
            return 1.0
        if s.attention_factor is not None:
            return s.attention_factor
        if s.kind == "yarn":
            return 0.1 * math.log(s.factor) + 1.0
        return math.sqrt(1.0 + math.log(s.factor) / math.log(s.original_n_ctx))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """What may differ from layer to layer."""

    attn_scale: float  # scores are multiplied by this; usually 1 / sqrt(head_dim)
    rope: Rope | None = None
    window: int | None = None  # a token sees itself and window - 1 before it; None: all before it
    score_cap: float | None = None  # scores become cap tanh(score / cap) (Gemma 2, arXiv:2408.00118)
    alibi_slopes: tuple[float, ...] = ()  # a head's scores fall by its slope a position (ALiBi, arXiv:2108.12409)
    sinks: bool = False  # each head has a score without a value that joins its softmax (gpt-oss, arXiv:2508.10925)

    def __post_init__(self) -> None:
        _check_positive("attn_scale", self.attn_scale)
        if self.score_cap is not None:
            _check_positive("score_cap", self.score_cap)
        if self.window is not None and (
            not isinstance(self.window, int) or isinstance(self.window, bool) or not 0 < self.window < 2**31
        ):
            raise ConfigError(f"window must be a positive integer below 2**31 or None, not {self.window!r}")
        if not isinstance(self.sinks, bool):
            raise ConfigError(f"sinks must be True or False, not {self.sinks!r:.80}")
        if not isinstance(self.alibi_slopes, tuple):
            raise ConfigError(f"alibi_slopes must be a tuple of numbers, not {self.alibi_slopes!r:.80}")
        for slope in self.alibi_slopes:
            _check_positive("each of alibi_slopes", slope)
        if not isinstance(self.rope, (Rope, type(None))):
            raise ConfigError(f"rope must be a Rope or None, not {self.rope!r:.80}")
        if self.rope is not None:
            _check_at_least_one("rope.theta", self.rope.theta)

    def repeated(self, n_layer: int) -> tuple[LayerConfig, ...]:
        """The layers of a model in which all are alike. ConfigError unless 1 <= n_layer <= MAX_LAYERS."""
        if not isinstance(n_layer, int) or isinstance(n_layer, bool) or not 1 <= n_layer <= MAX_LAYERS:
            raise ConfigError(f"n_layer must be a positive integer, at most {MAX_LAYERS}, not {n_layer!r}")
        return (self,) * n_layer


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The architecture of a decoder-only transformer, in tokens and values (no units of bytes).

    A block has two branches, attention and MLP, and each adds to the residual stream x what it reads from it.
    `norm_placement` says where the norms stand:

        before_branch   x = x + branch(norm(x))                (GPT-2, Llama)
        after_branch    x = x + norm(branch(x))                (OLMo 2)
        sandwich        x = x + post_norm(branch(norm(x)))     (Gemma 2)
        after_sum       x = norm(x + branch(x))                (GPT-1)

    In a sequential block the MLP reads what attention has been added to; in a parallel one both read the same x
    (GPT-NeoX), with one norm for both, attention's, in parallel_one_norm (GPT-J).

    After the last block come a norm, unless it has just been one (after_sum), and the head.
    """

    n_vocab: int
    n_ctx: int
    n_embd: int
    n_head: int
    n_kv_head: int  # n_head: multi-head; 1: multi-query; between: grouped-query attention
    head_dim: int
    n_inner: int
    norm: Norm
    norm_eps: float
    activation: Activation
    gated_mlp: bool  # down(activation(gate(x)) * up(x)) instead of down(activation(up(x)))
    qkv_bias: bool
    attn_out_bias: bool
    mlp_bias: bool
    learned_positions: bool
    layers: tuple[LayerConfig, ...]  # from the first block to the last
    tied_head: bool = True
    norm_placement: NormPlacement = "before_branch"
    branches: Branches = "sequential"
    sinusoidal_positions: bool = False  # or learned ones, not both
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("n_vocab", "n_ctx", "n_embd", "n_head", "n_kv_head", "head_dim", "n_inner"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
                raise ConfigError(f"{name} must be a positive integer below 2**31, not {value!r}")
        if self.n_head % self.n_kv_head:
            raise ConfigError(f"n_head ({self.n_head}) must be a multiple of n_kv_head ({self.n_kv_head})")
        for name, kinds in (
            ("norm", Norm),
            ("activation", Activation),
            ("norm_placement", NormPlacement),
            ("branches", Branches),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise ConfigError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(kinds))}")
        if (
            self.norm_placement
            not in {
                "sequential": get_args(NormPlacement),
                "parallel": ("before_branch", "after_branch", "sandwich"),
                "parallel_one_norm": ("before_branch", "sandwich"),
            }[self.branches]
        ):
            raise ConfigError(f"norm_placement {self.norm_placement} does not go with branches {self.branches}")
        _check_positive("norm_eps", self.norm_eps)
        if not isinstance(self.layers, tuple) or any(not isinstance(layer, LayerConfig) for layer in self.layers):
            raise ConfigError(f"layers must be a tuple of LayerConfig, not {self.layers!r:.80}")
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise ConfigError(f"layers must be at least 1 and at most {MAX_LAYERS}, not {len(self.layers)}")
        for layer in set(self.layers):
            if (rope := layer.rope) is not None and (not 0 < rope.dim <= self.head_dim or rope.dim % 2):
                raise ConfigError(f"rope.dim must be even and at most head_dim ({self.head_dim}), not {rope.dim}")
            if rope is not None and rope.scaling is not None:
                self._check_scaling(rope, rope.scaling)
            if len(layer.alibi_slopes) not in (0, self.n_head):
                raise ConfigError(
                    f"alibi_slopes must be none or one for each of {self.n_head} heads, not {len(layer.alibi_slopes)}"
                )
        if self.learned_positions and self.sinusoidal_positions:
            raise ConfigError("learned_positions and sinusoidal_positions must not both be true")
        for token in (*self.eos_ids, *(() if self.bos_id is None else (self.bos_id,))):
            if not 0 <= token < self.n_vocab:
                raise ConfigError(f"the special token {token} is outside the vocabulary of {self.n_vocab}")

    def _check_scaling(self, rope: Rope, scaling: RopeScaling) -> None:
        if scaling.kind == "yarn" and rope.theta <= 1:
            raise ConfigError(f"rope.theta must be above 1 in yarn, not {rope.theta}")
        if scaling != scaling.for_context(self.n_ctx):
            raise ConfigError(f"rope scaling's n_ctx ({scaling.n_ctx}) must follow the model's ({self.n_ctx})")
        for name in ("short_factor", "long_factor") if scaling.kind == "longrope" else ():
            if len(getattr(scaling, name)) != rope.dim // 2:
                raise ConfigError(
                    f"rope scaling's {name} must be one for each of {rope.dim // 2} frequencies, "
                    f"not {len(getattr(scaling, name))}"
                )

    @property
    def n_layer(self) -> int:
        """The number of blocks."""
        return len(self.layers)

    @property
    def final_norm(self) -> bool:
        """Whether a norm of its own stands before the head."""
        return self.norm_placement != "after_sum"

    @property
    def max_n_ctx(self) -> int:
        """The longest context that `with_context` gives: this one, or more if the rotary frequencies follow it."""
        scalings = (layer.rope.scaling for layer in self.layers if layer.rope is not None)
        reach = [round(s.factor * s.original_n_ctx) for s in scalings if s is not None and s.by_context]
        return self.n_ctx if self.learned_positions else max(self.n_ctx, min(reach, default=0))

    def with_context(self, n_ctx: int) -> ModelConfig:
        """The same model for a context of n_ctx tokens, 1 to `max_n_ctx`; its positions are the first of this one's.
        TypeError and ValueError for others."""
        if not isinstance(n_ctx, int) or isinstance(n_ctx, bool):
            raise TypeError(f"n_ctx must be an integer, not {n_ctx!r:.80}")
        if not 1 <= n_ctx <= self.max_n_ctx:
            raise ValueError(
                f"n_ctx must be from 1 to {self.max_n_ctx}, the longest context of this model, not {n_ctx}"
            )
        layers = tuple(
            layer
            if layer.rope is None or layer.rope.scaling is None
            else replace(layer, rope=replace(layer.rope, scaling=layer.rope.scaling.for_context(n_ctx)))
            for layer in self.layers
        )
        return replace(self, n_ctx=n_ctx, layers=layers)

    def with_layers(self, **changes: Any) -> ModelConfig:
        """The same model but for these fields of every layer."""
        return replace(self, layers=tuple(replace(layer, **changes) for layer in self.layers))

    def sinusoids(self) -> NDArray[np.float64]:
        """The sinusoidal positions, (n_ctx, n_embd), which are added to the embeddings as they are.

        Column 2i of row t is sin(t / 10000^(2i / n_embd)), column 2i + 1 the cosine of that angle (Vaswani et al. 2017,
        arXiv:1706.03762, section 3.5). With an odd n_embd the last column is a sine.
        """
        freqs = 10000.0 ** (-np.arange(0, self.n_embd, 2) / self.n_embd)
        angle = np.outer(np.arange(self.n_ctx), freqs)
        table = np.empty((self.n_ctx, self.n_embd))
        table[:, 0::2] = np.sin(angle)
        table[:, 1::2] = np.cos(angle[:, : self.n_embd // 2])
        return table

    def for_core(self) -> ModelConfig:
        """The configuration that the core runs: it knows sinusoidal positions as learned ones, whose "pos.weight" is
        `sinusoids`."""
        return replace(self, learned_positions=True, sinusoidal_positions=False) if self.sinusoidal_positions else self

    def tensor_shapes(self) -> dict[str, tuple[int, ...]]:
        """The canonical name and shape of every tensor; matrices are (outputs, inputs). ConfigError for sizes beyond
        any that the core can hold."""
        return {name: shape for name, (shape, *_) in self.tensor_places().items()}

    def tensor_places(self) -> dict[str, tuple[tuple[int, ...], str, int, int]]:
        """The inventory of tensors, which is the core's (``csrc/model/schema.h``): see `_core.tensors`."""
        from pygpt import _core  # here, since whoever needs no tensors needs no core

        try:
            return _core.tensors(self)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def n_params(self) -> int:
        """The number of parameters; a tied head counts once."""
        return sum(math.prod(shape) for shape in self.tensor_shapes().values())
