"""How a GGUF file says that rotary frequencies are stretched: metadata, or tensors, as the table rope_scaling of a
config.json says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt.checkpoint.gguf_keys import Metadata
from pygpt.checkpoint.tensor import Stored
from pygpt.config import Rope, RopeScaling
from pygpt.errors import CheckpointError, ConfigError

_Table = dict[str, tuple[object, str]]  # key of config.json -> value, and what the file calls it
_SCALING = "rope.scaling."
_FACTORS = (_SCALING + "factor", "rope.scale_linear")  # the second is the older


class RopeTensors(NamedTuple):
    """A divisor for each frequency, (rotated values / 2,) float32: Llama 3's, and longrope's two."""

    freqs: Stored | None
    short: Stored | None
    long: Stored | None

    @classmethod
    def taken_from(cls, stored: dict[str, Stored]) -> RopeTensors:
        """Takes them out of a file's tensors: they are no parameters."""
        names = ("rope_freqs", "rope_factors_short", "rope_factors_long")
        return cls(*(stored.pop(f"{name}.weight", None) for name in names))


def rope_scaling(metadata: Metadata, tensors: RopeTensors, given: Mapping[str, object]) -> _Table:
    """The table, empty where nothing is stretched; `given` is what is known of config.json so far.

    As in llama.cpp, the kind is linear where none is named, the factor has an older name, 0 is no factor, and under the
    kind "none" a factor counts for nothing.
    """
    kind = metadata.peek(_SCALING + "type")
    factor = _factor(metadata)
    if tensors.freqs is not None:
        return _by_divisors(metadata, tensors.freqs, given)
    if tensors.short is not None or tensors.long is not None or kind == "longrope":
        return _longrope(metadata, tensors)
    if kind == "yarn":
        return _yarn(metadata)
    metadata.own(_SCALING + "original_context_length")  # which nothing else depends on
    if kind == "none" or (kind is None and factor in (None, 0)):
        for key in _FACTORS:
            metadata.own(key)
        metadata.own(_SCALING + "type")
        return {}
    return _kind(metadata, "linear" if kind is None else kind)


def _kind(metadata: Metadata, kind: object) -> _Table:
    """What every kind has."""
    name = next((key for key in _FACTORS if metadata.peek(key) is not None), _FACTORS[0])
    return {
        "rope_type": (kind, metadata.name(_SCALING + "type")),
        "factor": (metadata.peek(name), metadata.name(name)),
    }


def _factor(metadata: Metadata) -> object:
    given = {key: value for key in _FACTORS if (value := metadata.peek(key)) is not None}
    for key, value in given.items():
        if type(value) not in (int, float):
            raise metadata.error(key, "a number")
    if len(set(given.values())) == 2:
        raise metadata.error(_FACTORS[1], f"{given[_FACTORS[0]]!r}, as {_FACTORS[0]} is")
    if len(given) == 2:
        metadata.own(_FACTORS[1])
    return next(iter(given.values()), None)


def _original(metadata: Metadata) -> tuple[object, str]:
    """The context before the stretch: the whole one where the file does not say."""
    name = _SCALING + "original_context_length"
    value = metadata.peek(name)
    return metadata.peek("context_length") if value is None else value, metadata.name(name)


def _yarn(metadata: Metadata) -> _Table:
    """YaRN (Peng et al. 2023, arXiv:2309.00071), which multiplies cosines and sines by 0.1 ln(factor) + 1.

    Where the config.json says another factor, the converter writes it as yarn_attn_factor. attn_factor comes on top.
    """
    table = _kind(metadata, "yarn") | {"original_max_position_embeddings": _original(metadata)}
    for key in ("beta_fast", "beta_slow"):
        name = f"{_SCALING}yarn_{key}"
        if (value := metadata.peek(name)) is not None:
            table[key] = value, metadata.name(name)
    factor = table["factor"][0]
    usual = 0.1 * math.log(factor) + 1 if isinstance(factor, (int, float)) and factor >= 1 else 1.0
    own, more = metadata.own(_SCALING + "yarn_attn_factor"), metadata.own(_SCALING + "attn_factor")
    if own not in (None, 1) and more not in (None, 1):
        raise metadata.error(_SCALING + "attn_factor", "1, because yarn_attn_factor is not")
    if own not in (None, 1):  # 1 is llama.cpp's own word for the usual one
        table |= _unless_usual(metadata.name(_SCALING + "yarn_attn_factor"), own, usual)
    elif more not in (None, 1):
        product = more * usual if isinstance(more, float) else more
        table["attention_factor"] = product, metadata.name(_SCALING + "attn_factor")
    return table


def _longrope(metadata: Metadata, tensors: RopeTensors) -> _Table:
    """LongRoPE (Ding et al. 2024, arXiv:2402.13753): one list of divisors up to the original context, one beyond."""
    if tensors.short is None or tensors.long is None:
        raise ConfigError(f"{metadata.file}: longrope needs rope_factors_short.weight and rope_factors_long.weight")
    metadata.own(_SCALING + "type")  # which the converter leaves out for Phi-3
    table = _kind(metadata, "longrope") | {"original_max_position_embeddings": _original(metadata)}
    if table["factor"][0] in (None, 0):
        metadata.own(_FACTORS[0])
        metadata.own(_FACTORS[1])
        del table["factor"]
    for key, tensor in {"short_factor": tensors.short, "long_factor": tensors.long}.items():
        table[key] = [float(str(divisor)) for divisor in _divisors(tensor)], tensor.name
    attention = metadata.own(_SCALING + "attn_factor")
    original, n_ctx = _original(metadata)[0], metadata.peek("context_length")
    if isinstance(original, int) and isinstance(n_ctx, int) and 1 < original <= n_ctx:
        usual = math.sqrt(1 + math.log(n_ctx / original) / math.log(original))
        table |= _unless_usual(metadata.name(_SCALING + "attn_factor"), 1.0 if attention is None else attention, usual)
    return table


def _divisors(tensor: Stored) -> NDArray[np.float32]:
    if len(tensor.shape) != 1 or tensor.kind != "float32":
        raise CheckpointError(f"{tensor.file}: {tensor.name} has shape {list(tensor.shape)} and does not fit the heads")
    return tensor.read().astype(np.float32)


def _by_divisors(metadata: Metadata, tensor: Stored, given: Mapping[str, object]) -> _Table:
    """Divisors for every context: of Llama 3's schedule GGUF keeps nothing else.

    Where they are those of Llama 3.1's release with the greatest of them as its factor, they are that schedule, which
    knows them to more digits. Others are a longrope whose two lists are one.
    """
    theta, dim, n_ctx = given.get("rope_theta"), given.get("rotary_dim"), metadata.peek("context_length")
    divisors = _divisors(tensor)
    if not isinstance(dim, int) or divisors.shape != (dim // 2,):
        raise CheckpointError(f"{tensor.file}: {tensor.name} has shape {list(tensor.shape)} and does not fit the heads")
    table: dict[str, object] = {"rope_type": "longrope", "original_max_position_embeddings": n_ctx}
    table["short_factor"] = table["long_factor"] = [float(str(divisor)) for divisor in divisors]
    factor = float(divisors.max())
    if isinstance(theta, (int, float)) and theta >= 1 and 1 <= factor < 2**31:
        scaling = RopeScaling(kind="llama3", factor=factor)
        plain, scaled = Rope(theta=theta, dim=dim), Rope(theta=theta, dim=dim, scaling=scaling)
        if np.allclose(divisors.astype(np.float64), np.divide(plain.inv_freq(), scaled.inv_freq()), rtol=1e-4):
            table = {"rope_type": "llama3", "factor": factor, "low_freq_factor": scaling.low_freq_factor}
            table["high_freq_factor"] = scaling.high_freq_factor
            table["original_max_position_embeddings"] = scaling.original_n_ctx
    return {key: (value, tensor.name) for key, value in table.items()}


def _unless_usual(name: str, value: object, usual: float) -> _Table:
    """An attention factor, left out where it is what its kind makes of the other numbers, to more digits."""
    if isinstance(value, float) and abs(value - usual) <= 2e-7 * usual:
        return {}
    return {"attention_factor": (value, name)}
