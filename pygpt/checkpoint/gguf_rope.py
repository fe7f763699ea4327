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
    metadata.own(_SCALING + "finetuned")  # whether the model was trained with it
    if tensors.freqs is not None:
        return _llama3(tensors.freqs, given)
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
    own, more = _SCALING + "yarn_attn_factor", _SCALING + "attn_factor"
    if metadata.peek(own) not in (None, 1):
        table["attention_factor"] = metadata.peek(own), metadata.name(own)
    else:
        metadata.own(own)  # llama.cpp's own word for the usual one
    factor, extra = table["factor"][0], metadata.peek(more)
    if extra not in (None, 1):
        if not isinstance(factor, (int, float)) or not isinstance(extra, float) or "attention_factor" in table:
            raise metadata.error(more, "1, or a number where yarn_attn_factor is 1")
        table["attention_factor"] = extra * (0.1 * math.log(max(factor, 1)) + 1), metadata.name(more)
    return table


def _longrope(metadata: Metadata, tensors: RopeTensors) -> _Table:
    """LongRoPE (Ding et al. 2024, arXiv:2402.13753): one list of divisors up to the original context, one beyond."""
    if tensors.short is None or tensors.long is None:
        raise ConfigError(f"{metadata.file}: longrope needs rope_factors_short.weight and rope_factors_long.weight")
    metadata.own(_SCALING + "type")  # which the converter leaves out for Phi-3
    table = _kind(metadata, "longrope") | {"original_max_position_embeddings": _original(metadata)}
    if table["factor"][0] in (None, 0):
        metadata.own(_FACTORS[0])
        del table["factor"]
    for key, tensor in {"short_factor": tensors.short, "long_factor": tensors.long}.items():
        table[key] = [float(str(divisor)) for divisor in _divisors(tensor)], tensor.name
    attention = metadata.peek(_SCALING + "attn_factor")
    table["attention_factor"] = 1.0 if attention is None else attention, metadata.name(_SCALING + "attn_factor")
    return table


def _divisors(tensor: Stored) -> NDArray[np.float32]:
    if len(tensor.shape) != 1 or tensor.kind != "float32":
        raise CheckpointError(f"{tensor.file}: {tensor.name} has shape {list(tensor.shape)} and does not fit the heads")
    return tensor.read().astype(np.float32)


def _llama3(tensor: Stored, given: Mapping[str, object]) -> _Table:
    """Llama 3's schedule, of which GGUF keeps only the divisor of each frequency.

    The factor is the greatest divisor; the rest of the schedule is Llama 3.1's, and is compared with the divisors.
    """
    theta, dim = given.get("rope_theta", 10000.0), given.get("rotary_dim")
    divisors = _divisors(tensor).astype(np.float64)
    if not isinstance(dim, int) or divisors.shape != (dim // 2,):
        raise CheckpointError(f"{tensor.file}: {tensor.name} has shape {list(tensor.shape)} and does not fit the heads")
    factor = float(divisors.max())
    if isinstance(theta, (int, float)) and theta >= 1 and np.isfinite(factor) and factor >= 1:
        plain = Rope(theta=theta, dim=dim)
        scaled = Rope(theta=theta, dim=dim, scaling=(scaling := RopeScaling(kind="llama3", factor=factor)))
        if np.allclose(divisors, np.divide(plain.inv_freq(), scaled.inv_freq()), rtol=1e-4):
            table = {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": scaling.low_freq_factor,
                "high_freq_factor": scaling.high_freq_factor,
                "original_max_position_embeddings": scaling.original_n_ctx,
            }
            return {key: (value, tensor.name) for key, value in table.items()}
    raise ConfigError(f"{tensor.file}: {tensor.name} is not the schedule of Llama 3.1 (factors 1 and 4, context 8192)")
