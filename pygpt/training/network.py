"""A GPT for training: the forward pass with a record of what the backward pass needs, and the backward pass.

One for every family, driven by `ModelConfig`, as in `pygpt.reference`; the layers themselves are the functions of
`pygpt.training.functions`, or the same ones on the compiled core.
"""

from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import numpy as np

from pygpt.config import LayerConfig, ModelConfig
from pygpt.errors import ConfigError
from pygpt.training.blocks import Block, Blocks
from pygpt.training.documents import documents
from pygpt.training.dropout import Dropout
from pygpt.training.modules import Modules, Normed
from pygpt.training.parameters import ROWS, FlatTensors, Parameters
from pygpt.training.primitives import Array, Drop, Ids, Logits, Primitives

Rng = np.random.Generator | None

_TRAINED = {"attn_scale", "rope", "window", "score_cap", "alibi_slopes", "sinks"}
"""The fields of a layer that have a backward pass here; of a model it is all of them."""


class Tape(NamedTuple):
    """What `Network.hidden` keeps for `Network.backward`."""

    ids: Ids  # (B, T)
    positions: Ids | None  # (B, T), where documents are kept apart
    apart: tuple[slice, ...] | None  # their rows
    embedded: Array | None  # (N, E), where they are projected
    embed_norm: Normed | None
    dropout: Dropout | None
    drop: Drop | None  # of the embedding
    blocks: list[Block | Array]  # or the stream before the block, (N, C)
    norm: Normed | None


def check_trainable(config: ModelConfig) -> None:
    """ConfigError names what the model has that can be run but not trained."""
    for i, layer in enumerate(config.layers):
        plain = LayerConfig(attn_scale=layer.attn_scale)
        for field in fields(layer):
            value = getattr(layer, field.name)
            if field.name not in _TRAINED and value != getattr(plain, field.name):
                raise ConfigError(f"layer {i} has {field.name} {value!r:.80}, which can be run but not trained")


class Network:
    """Computes a model's loss and its gradients. Holds no parameters and no state but tables of positions."""

    def __init__(
        self, config: ModelConfig, primitives: Primitives, dropout: float = 0.0, gradient_checkpointing: bool = False
    ) -> None:
        """`dropout`: the share of values set to 0 after the embedding, in the attention probabilities and at the end of
        each branch of a block (Srivastava et al. 2014; where GPT-1 and GPT-2 have it), whenever a generator is given.

        `gradient_checkpointing`: of a block the forward pass keeps its input alone, from which the backward pass
        computes the rest again (Chen et al. 2016, arXiv:1604.06174). The gradients are the same bits.

        ConfigError: a layer of a kind that has no backward pass here."""
        check_trainable(config)
        self.config = config
        self.primitives = primitives
        self._dropout, self._checkpoints = dropout, gradient_checkpointing
        self._modules = Modules(config, primitives)
        self._blocks = Blocks(self._modules)
        self._sinusoids: Array | None = None  # (n_ctx, C)

    def loss(self, params: Parameters, ids: Ids, targets: Ids, positions: Ids | None = None) -> tuple[float, int]:
        """The nats of predicting targets (B, T) from ids (B, T), summed, and how many targets that are: those below 0
        do not count. No dropout. `positions`: see `hidden`."""
        hidden, _ = self.hidden(params, ids, record=False, positions=positions)
        if self.config.embed_dim is not None:
            hidden = self._modules.linear(params, hidden, "head_proj")
        nats, _ = self.primitives.cross_entropy(
            hidden, self._head(params), targets.reshape(-1), 1.0, None, self._logits(params, None)
        )
        return nats, int(np.count_nonzero(targets >= 0))

    def loss_and_gradients(
        self,
        params: Parameters,
        grads: FlatTensors,
        ids: Ids,
        targets: Ids,
        scale: float | None = None,
        rng: Rng = None,
        positions: Ids | None = None,
    ) -> tuple[float, int]:
        """As `loss`, and adds to grads the gradient of scale times the sum; scale None: the mean. `grads` are those of
        all parameters, or of some, or of adapters (`Lora.gradients`)."""
        n_targets = int(np.count_nonzero(targets >= 0))
        hidden, tape = self.hidden(params, ids, rng, positions=positions)
        factor = 1.0 / max(n_targets, 1) if scale is None else scale
        nats, dhidden = self.head_backward(params, grads, hidden, targets, factor)
        del hidden
        self.backward(params, grads, tape, dhidden)
        return nats, n_targets

    # The head.

    def head_backward(
        self, params: Parameters, grads: FlatTensors, hidden: Array, targets: Ids, scale: float
    ) -> tuple[float, Array]:
        """The nats of the targets (B, T) given hidden states (N, C), summed; the gradient of scale times the sum is
        added to the head's, and returned for the hidden states."""
        read = hidden if self.config.embed_dim is None else self._modules.linear(params, hidden, "head_proj")
        nats, dread = self.primitives.cross_entropy(
            read,
            self._head(params),
            targets.reshape(-1),
            scale,
            _of_last(grads, self._head_name, self._head(params)),
            self._logits(params, grads),
        )
        assert dread is not None
        if self.config.embed_dim is not None:
            dread = self._modules.linear_backward(params, grads, dread, lambda: hidden, "head_proj")
        return nats, dread

    def _head(self, params: Parameters) -> Array:
        """The matrix that makes logits, (V, E)."""
        return params.tensors[self._head_name]

    @property
    def _head_name(self) -> str:
        return "embed.weight" if self.config.tied_head else "head.weight"

    def _logits(self, params: Parameters, grads: FlatTensors | None) -> Logits:
        bias = params.tensors.get("head.bias")
        dbias = None if grads is None or bias is None else _of_last(grads, "head.bias", bias)
        return Logits(self.config.logit_scale, self.config.logit_cap or 0.0, bias, dbias)

    # From ids to the states that the head reads.

    def hidden(
        self, params: Parameters, ids: Ids, rng: Rng = None, record: bool = True, positions: Ids | None = None
    ) -> tuple[Array, Tape]:
        """The states after the last norm, (N, C), for ids (B, T), and what `backward` needs. With a generator there is
        dropout. Without `record` the tape is empty and the memory free again.

        `positions` (B, T): of each token in its own document, where several stand side by side in a sequence; each then
        has the states that it has alone (`pygpt.training.documents`). None: a sequence is one document."""
        n_batch, n_token = ids.shape
        apart = None if positions is None else documents(positions)
        x: Array = params.tensors["embed.weight"][ids.reshape(-1)]  # (N, E)
        if self.config.embed_scale != 1.0:
            x *= self.config.embed_scale
        embedded, embed_norm = None, None
        if self.config.embed_dim is not None:
            x, embedded = self._modules.linear(params, x, "embed_proj"), x
        self._add_positions(params, x.reshape(n_batch, n_token, -1), positions)
        if self.config.embed_norm:
            x, embed_norm = self._modules.norm(params, x, "embed_norm")
        dropout = None if rng is None or self._dropout == 0.0 else Dropout(self._dropout, rng)
        drop = None if dropout is None else dropout.at(0)
        if drop is not None:
            x = self.primitives.dropout(x, drop)
        blocks: list[Block | Array] = []
        for layer in range(self.config.n_layer):
            before = x
            x, block = self._blocks.forward(params, x, n_batch, layer, dropout, apart)
            if record:
                blocks.append(before if self._checkpoints else block)
        norm = None
        if self.config.final_norm:
            x, norm = self._modules.norm(params, x, "norm")
        return x, Tape(ids, positions, apart, embedded, embed_norm, dropout, drop, blocks, norm)

    def _add_positions(self, params: Parameters, x: Array, positions: Ids | None) -> None:
        """To x (B, T, C), in place."""
        rows = slice(x.shape[1]) if positions is None else positions
        if self.config.learned_positions:
            x += params.tensors["pos.weight"][rows]
        if self.config.sinusoidal_positions:
            if self._sinusoids is None or self._sinusoids.dtype != x.dtype:
                self._sinusoids = self.config.sinusoids().astype(x.dtype)
            x += self._sinusoids[rows]

    def backward(self, params: Parameters, grads: FlatTensors, tape: Tape, dhidden: Array) -> None:
        """Add to grads the gradients that follow from dhidden (N, C), the hidden states' own. Uses up the tape."""
        dx = dhidden
        if tape.norm is not None:
            dx = self._modules.norm_backward(params, grads, dx, tape.norm, "norm")
        for layer in reversed(range(self.config.n_layer)):
            block = tape.blocks.pop()
            if isinstance(block, np.ndarray):
                _, block = self._blocks.forward(params, block, len(tape.ids), layer, tape.dropout, tape.apart)
            dx = self._blocks.backward(params, grads, dx, block, layer)
        if tape.drop is not None:
            dx = self.primitives.dropout(dx, tape.drop)
        if tape.embed_norm is not None:
            dx = self._modules.norm_backward(params, grads, dx, tape.embed_norm, "embed_norm")
        if self.config.learned_positions and "pos.weight" in grads.tensors:
            n_batch, n_token = tape.ids.shape
            dpos = grads.tensors["pos.weight"]
            if tape.positions is None:
                dpos[:n_token] += dx.reshape(n_batch, n_token, -1).sum(axis=0)
            else:
                self.primitives.embedding_backward(dx, tape.positions.reshape(-1), dpos)
        embedded = tape.embedded
        if embedded is not None:
            dx = self._modules.linear_backward(params, grads, dx, lambda: embedded, "embed_proj")
        if self.config.embed_scale != 1.0:
            dx = dx * dx.dtype.type(self.config.embed_scale)
        ids, rows = tape.ids.reshape(-1), _of_last(grads, "embed.weight", params.tensors["embed.weight"])
        if n_frozen := self.config.n_vocab - len(rows):
            trained = np.flatnonzero(ids >= n_frozen)
            dx, ids = dx[trained], ids[trained] - np.int32(n_frozen)
        if len(ids):
            self.primitives.embedding_backward(dx, ids, rows)


def _of_last(grads: FlatTensors, name: str, tensor: Array) -> Array:
    """The gradient of a tensor of rows of tokens: of all of them, of the last ones, or of none."""
    found = grads.tensors.get(name)
    return grads.of(name + ROWS, tensor[:0]) if found is None else found
