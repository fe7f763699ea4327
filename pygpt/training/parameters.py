"""All values of a model that training changes, in one array, with a view for each tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pygpt.config import ModelConfig
from pygpt.training.primitives import Array

ROWS = ".rows"  # behind a tensor's name: those of the last tokens alone


class Adapter(NamedTuple):
    """A low-rank change of a frozen matrix, scale B A, and the arrays that its gradients are added to."""

    a: Array  # (rank, I)
    b: Array  # (O, rank)
    da: Array
    db: Array
    scale: float


class FlatTensors:
    """One flat array, so that the optimiser, clipping and checkpoints each take one pass over it, and a view of it for
    each tensor. Gradients and moments are kept in the same form.

    Matrices come first, embeddings among them: weight decay is for these. Behind `n_decayed` values stand the vectors:
    the norms' gains and all biases.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], dtype: type[np.floating[Any]] = np.float32) -> None:
        """All zero."""
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        vectors = [name for name, shape in shapes.items() if len(shape) == 1]
        self.flat: Array = np.zeros(sum(map(math.prod, shapes.values())), dtype)
        """All values."""
        self.n_decayed = sum(math.prod(shapes[name]) for name in matrices)
        """How many values at the beginning of `flat` are matrices'."""
        self.tensors: dict[str, Array] = {}
        """A view for each name."""
        self.adapters: dict[str, Adapter] = {}
        """Of gradients: those of low-rank changes, by the frozen matrix's name."""
        self._starts: dict[str, int] = {}
        self._stacked: dict[tuple[str, ...], Array | None] = {}
        at = 0
        for name in (*matrices, *vectors):
            self._starts[name] = at
            size = math.prod(shapes[name])
            self.tensors[name] = self.flat[at : at + size].reshape(shapes[name])
            at += size

    def views(self, flat: Array) -> dict[str, Array]:
        """The tensors of another array of the same form, such as gradients."""
        return {
            name: flat[self._starts[name] : self._starts[name] + tensor.size].reshape(tensor.shape)
            for name, tensor in self.tensors.items()
        }

    def stacked(self, names: tuple[str, ...]) -> Array | None:
        """Neighbours, such as a layer's q, k and v, as one tensor: a view of their rows one after the other. None where
        none of them is here: a model without these biases, or gradients of a frozen matrix; adapters have their own."""
        if names not in self._stacked:
            parts = [self.tensors[name] for name in names if name in self.tensors]
            assert len(parts) in (0, len(names)), names  # the others' gradients would be lost
            start, size = self._starts.get(names[0], 0), sum(part.size for part in parts)
            self._stacked[names] = self.flat[start : start + size].reshape(-1, *parts[0].shape[1:]) if parts else None
        return self._stacked[names]

    def of(self, name: str, like: Array) -> Array:
        """A tensor to add a gradient to; of a frozen one, an array of the size of `like` that nobody reads."""
        tensor = self.tensors.get(name)
        return np.zeros_like(like) if tensor is None else tensor

    def fill(self, tensors: Mapping[str, ArrayLike]) -> None:
        """Copy a checkpoint's tensors. ValueError: one is missing, unknown, or of another shape."""
        if odd := sorted(tensors.keys() ^ self.tensors.keys()):
            raise ValueError(f"tensor {odd[0]} is {'missing' if odd[0] in self.tensors else 'not part of this model'}")
        for name, tensor in tensors.items():
            values = np.asarray(tensor, self.flat.dtype)
            if values.shape != self.tensors[name].shape:
                raise ValueError(f"tensor {name} must have the shape {self.tensors[name].shape}, not {values.shape}")
            self.tensors[name][...] = values


class Parameters(FlatTensors):
    """The tensors of ``config.tensor_shapes()``."""

    def __init__(
        self,
        config: ModelConfig,
        dtype: type[np.floating[Any]] = np.float32,
        extra: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """All zero. `extra`: tensors that are trained with the model but are no part of it, such as a classifier's."""
        self.config = config
        super().__init__({**config.tensor_shapes(), **(extra or {})}, dtype)

    def initialise(self, seed: int) -> None:
        """The start of training: N(0, 0.02) for matrices, 1 for norms' gains and 0 for biases (Radford et al. 2018).

        The matrices whose results are added to the residual stream are divided by sqrt(2 n_layer), so that the stream
        does not grow with depth (Radford et al. 2019, section 2.3).
        """
        generator = np.random.Generator(np.random.Philox(seed))
        residual = 1.0 / math.sqrt(2.0 * self.config.n_layer)
        for name, tensor in self.tensors.items():
            if tensor.ndim == 2:
                tensor[...] = generator.standard_normal(tensor.shape, np.float32)
                tensor *= 0.02 * (residual if name.endswith(("attn.out.weight", "mlp.down.weight")) else 1.0)
            else:
                tensor[...] = 1.0 if name.endswith("norm.weight") else 0.0
