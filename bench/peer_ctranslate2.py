"""CTranslate2 as a peer: GPT-2 through its own model specification, which is what its converter fills in.

Its generator runs a whole greedy generation in one call, so the seconds of each step are taken in its callback.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import ctranslate2 as ct2
import numpy as np
from numpy.typing import NDArray
from peer_common import read_gpt2

if TYPE_CHECKING:
    from ctranslate2.specs.common_spec import LayerNormSpec, LinearSpec

VERSION = f"ctranslate2 {ct2.__version__}"
FORMATS = {"int8": 8.0, "float32": 32.0}


class CTranslate2Engine:
    """A generator; token i is written as the string i."""

    def __init__(self, folder: Path, threads: int, weights: str) -> None:
        self.generator = ct2.Generator(str(folder), compute_type=weights, intra_threads=threads)

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """The logits (B, V) after (B, T) tokens."""
        return np.array(self.generator.forward_batch([[str(t) for t in row] for row in tokens]))[:, -1]

    def generate(self, tokens: NDArray[np.int64], steps: int) -> tuple[float, float, NDArray[np.int64]]:
        """Seconds of reading (B, T) tokens, seconds of `steps` greedy steps after them, and the tokens chosen."""
        chosen: list[tuple[float, int]] = []
        prompts = [[str(t) for t in row] for row in tokens]
        begin = time.perf_counter()
        self.generator.generate_batch(
            prompts,
            max_length=steps + 1,
            min_length=steps + 1,
            include_prompt_in_result=False,
            callback=lambda step: chosen.append((time.perf_counter(), step.token_id)) or False,
        )
        times = [at for at, _ in chosen[len(tokens) - 1 :: len(tokens)]]
        ids = np.array([token for _, token in chosen]).reshape(steps + 1, -1).T
        return times[0] - begin, times[-1] - times[0], ids


load = CTranslate2Engine


def prepare(checkpoint: Path, cache: Path, weights: str) -> None:
    """Write CTranslate2's model of a GPT-2 folder to `cache`."""
    # Not above: these modules import torch where it is installed, which the generator does without.
    from ctranslate2.specs import TransformerDecoderModelSpec
    from ctranslate2.specs.common_spec import Activation

    shape, tensors = read_gpt2(checkpoint)

    def linear(spec: LinearSpec, name: str) -> None:
        spec.weight, spec.bias = np.ascontiguousarray(tensors[f"{name}.weight"].T), tensors[f"{name}.bias"]

    def norm(spec: LayerNormSpec, name: str) -> None:
        spec.gamma, spec.beta = tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    spec = TransformerDecoderModelSpec.from_config(shape.n_layer, shape.n_head, activation=Activation.GELUTanh)
    spec.decoder.scale_embeddings = False
    spec.decoder.embeddings.weight = spec.decoder.projection.weight = tensors["wte.weight"]
    spec.decoder.position_encodings.encodings = tensors["wpe.weight"]
    norm(spec.decoder.layer_norm, "ln_f")
    for i, layer in enumerate(spec.decoder.layer):
        norm(layer.self_attention.layer_norm, f"h.{i}.ln_1")
        linear(layer.self_attention.linear[0], f"h.{i}.attn.c_attn")
        linear(layer.self_attention.linear[1], f"h.{i}.attn.c_proj")
        norm(layer.ffn.layer_norm, f"h.{i}.ln_2")
        linear(layer.ffn.linear_0, f"h.{i}.mlp.c_fc")
        linear(layer.ffn.linear_1, f"h.{i}.mlp.c_proj")
    spec.register_vocabulary([str(i) for i in range(shape.n_vocab)])
    last = str(shape.n_vocab - 1)
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = last
    spec.validate()
    spec.optimize(quantization=weights)
    spec.save(str(cache))
