"""`ModelConfig` and its `LayerConfig`s: every model that pygpt runs is one value of these dataclasses.

The families translate a checkpoint's own configuration into it; the C++ core, the NumPy reference and the trainer are
driven by it and never ask which family a model came from. A field stands twice: here, with its checks, and in the list
of fields in ``csrc/model/config.h``, through which the core reads it by its name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pygpt._checks import check_at_least, check_positive
from pygpt._json import shown
from pygpt.errors import ConfigError
from pygpt.rope import Rope, RopeScaling

__all__ = ["MAX_LAYERS", "Experts", "LayerConfig", "ModelConfig", "Rope", "RopeScaling"]

Norm = Literal["layer_norm", "rms_norm"]
Activation = Literal["gelu", "gelu_tanh", "silu", "relu", "swiglu_clamped"]
NormPlacement = Literal["before_branch", "after_branch", "sandwich", "after_sum"]
Branches = Literal["sequential", "parallel", "parallel_one_norm"]
QkNorm = Literal["head", "whole"]

MAX_LAYERS = 1 << 16
"""Far above every model there is, and few enough to make a list of."""


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Several MLPs in the place of one, of which each token runs those few that a router chooses for it.

    The router gives each expert a score; the `n_used` of the highest scores run (of equal ones the first), and their
    outputs are added up, each times its share of a softmax: over the chosen where `normalized` (Mixtral,
    arXiv:2401.04088; gpt-oss, arXiv:2508.10925), else over all (Qwen1.5-MoE). A shared expert runs for every token
    (DeepSeekMoE, arXiv:2401.06066), times the logistic function of a score of its own where it has a gate.
    """

    n_expert: int
    n_used: int
    n_inner: int  # the width of each expert, as ModelConfig's is a dense MLP's
    normalized: bool = True
    router_bias: bool = False
    shared_inner: int | None = None  # the shared expert's width; None: there is none
    shared_gate: bool = False

    def __post_init__(self) -> None:
        for name in ("n_expert", "n_used", "n_inner", "shared_inner"):
            value = getattr(self, name)
            if (value is not None or name != "shared_inner") and not _is_size(value):
                raise ConfigError(f"experts.{name} must be a positive integer below 2**31, not {value!r:.80}")
        for name in ("normalized", "router_bias", "shared_gate"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"experts.{name} must be True or False, not {getattr(self, name)!r:.80}")
        if self.n_used > self.n_expert:
            raise ConfigError(f"experts.n_used ({self.n_used}) must be at most n_expert ({self.n_expert})")
        if self.shared_gate and self.shared_inner is None:
            raise ConfigError("experts.shared_gate must be False where there is no shared expert")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerConfig:
    """What may differ from layer to layer."""

    attn_scale: float  # scores are multiplied by this; usually 1 / sqrt(head_dim)
    rope: Rope | None = None
    window: int | None = None  # a token sees itself and window - 1 before it; None: all before it
    score_cap: float | None = None  # scores become cap tanh(score / cap) (Gemma 2, arXiv:2408.00118)
    alibi_slopes: tuple[float, ...] = ()  # a head's scores fall by its slope a position (ALiBi, arXiv:2108.12409)
    sinks: bool = False  # each head has a score without a value that joins its softmax (gpt-oss, arXiv:2508.10925)
    experts: Experts | None = None  # instead of one MLP

    def __post_init__(self) -> None:
        check_positive("attn_scale", self.attn_scale)
        if self.score_cap is not None:
            check_positive("score_cap", self.score_cap)
        if self.window is not None and not _is_size(self.window):
            raise ConfigError(f"window must be a positive integer below 2**31 or None, not {self.window!r}")
        if not isinstance(self.sinks, bool):
            raise ConfigError(f"sinks must be True or False, not {self.sinks!r:.80}")
        if not isinstance(self.alibi_slopes, tuple):
            raise ConfigError(f"alibi_slopes must be a tuple of numbers, not {self.alibi_slopes!r:.80}")
        for slope in self.alibi_slopes:
            check_positive("each of alibi_slopes", slope)
        if not isinstance(self.rope, (Rope, type(None))):
            raise ConfigError(f"rope must be a Rope or None, not {self.rope!r:.80}")
        if self.rope is not None:
            check_at_least("rope.theta", self.rope.theta, 1)  # below it a frequency could be beyond every float
        if not isinstance(self.experts, (Experts, type(None))):
            raise ConfigError(f"experts must be Experts or None, not {self.experts!r:.80}")

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

    After the last block come a norm, unless it has just been one (after_sum), and the head. What the first block reads
    are the embeddings: scaled, projected to n_embd if they are not as wide, with positions added, normed. The head goes
    back the same way: a projection to the embeddings' width, the matrix, its bias; and then scale and cap.

    `qk_norm`, an RMS norm of queries and keys before they turn, takes each head alone, with one weight for all of them
    (Qwen3, arXiv:2505.09388), or the whole width (OLMo 2, arXiv:2501.00656).

    The activation swiglu_clamped goes with a gate: of g = min(gate(x), 7) and u = up(x), clamped to -7 ... 7, it makes
    g logistic(1.702 g) (u + 1) (gpt-oss, arXiv:2508.10925).
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
    embed_dim: int | None = None  # width of the embeddings; None: n_embd (OPT 350M has both, arXiv:2205.01068)
    embed_scale: float = 1.0  # embeddings are multiplied by this (Gemma, arXiv:2403.08295)
    embed_norm: bool = False  # BLOOM, arXiv:2211.05100
    qk_norm: QkNorm | None = None
    branch_scale: float = 1.0  # what a branch adds to x is multiplied by this (Granite's residual_multiplier)
    head_bias: bool = False  # of a tied head as well (GPT-J)
    logit_scale: float = 1.0  # logits are multiplied by this (Granite's 1 / logits_scaling)
    logit_cap: float | None = None  # logits become cap tanh(logit / cap) (Gemma 2, arXiv:2408.00118)
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        sizes = ("n_vocab", "n_ctx", "n_embd", "n_head", "n_kv_head", "head_dim", "n_inner")
        for name in sizes if self.embed_dim is None else (*sizes, "embed_dim"):
            if not _is_size(value := getattr(self, name)):
                raise ConfigError(f"{name} must be a positive integer below 2**31, not {value!r}")
        if self.n_head % self.n_kv_head:
            raise ConfigError(f"n_head ({self.n_head}) must be a multiple of n_kv_head ({self.n_kv_head})")
        for name in ("norm_eps", "embed_scale", "branch_scale", "logit_scale"):
            check_positive(name, getattr(self, name))
        if self.logit_cap is not None:
            check_positive("logit_cap", self.logit_cap)
        self._check_choices()
        self._check_layers()
        if self.learned_positions and self.sinusoidal_positions:
            raise ConfigError("learned_positions and sinusoidal_positions must not both be true")
        for token in (*self.eos_ids, *(() if self.bos_id is None else (self.bos_id,))):
            if not 0 <= token < self.n_vocab:
                raise ConfigError(f"the special token {token} is outside the vocabulary of {self.n_vocab}")

    def _check_choices(self) -> None:
        for name, kinds in (
            ("norm", Norm),
            ("activation", Activation),
            ("norm_placement", NormPlacement),
            ("branches", Branches),
            *(() if self.qk_norm is None else (("qk_norm", QkNorm),)),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise ConfigError(f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(kinds))}")
        for name in ("embed_norm", "head_bias"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} must be True or False, not {shown(getattr(self, name))}")
        if self.activation == "swiglu_clamped" and not self.gated_mlp:
            raise ConfigError("activation swiglu_clamped is that of a gate and needs gated_mlp")
        if (
            self.norm_placement
            not in {
                "sequential": get_args(NormPlacement),
                "parallel": ("before_branch", "after_branch", "sandwich"),
                "parallel_one_norm": ("before_branch", "sandwich"),
            }[self.branches]
        ):
            raise ConfigError(f"norm_placement {self.norm_placement} does not go with branches {self.branches}")

    def _check_layers(self) -> None:
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
    def embed_width(self) -> int:
        """The width of the embeddings."""
        return self.n_embd if self.embed_dim is None else self.embed_dim

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

    def summary(self) -> str:
        """The layers as a table to print: what each gives for T tokens and how many parameters it has."""
        from pygpt.summary import summary  # here, since few ask

        return summary(self)
