"""OpenVINO as a peer: GPT-2 built with OpenVINO's own operators, in the two forms that its CPU plugin fuses.

Stateful: keys and values live in variables that are read, gathered by `beam_idx` and concatenated with the new ones,
which is what its exporters write. Paged: the same model turned into paged attention while it loads, which is how the
GenAI package runs it. The first decodes faster, the second reads prompts faster.

A format is the weights' one, then what is calculated in: `int8` multiplies in int8 and keeps the rest in float32, which
decodes fastest, `int8-bf16` leaves the precision to the plugin, which reads prompts fastest. All but float32 have the
plugin's default cache of keys and values, 8 bits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from peer_common import N_CTX, int8_rows, read_gpt2

VERSION = f"openvino {ov.get_version().split('-')[0]}"
FORMATS = {
    name + form: bits
    for name, bits in {"float32": 32.0, "bf16": 16.0, "int8": 8.0, "int8-bf16": 8.0}.items()
    for form in ("", "-paged")
}


def hints(weights: str, threads: int) -> dict[str, Any]:
    """The plugin's settings for a format."""
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if "bf16" not in weights:
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    if "float32" in weights:
        settings["KV_CACHE_PRECISION"] = "f32"
    return settings


class StatefulEngine:
    """A compiled model; the cache is the state of its one request."""

    def __init__(self, folder: Path, threads: int, weights: str) -> None:
        self.request = (
            ov.Core().compile_model(folder / "model.xml", "CPU", hints(weights, threads)).create_infer_request()
        )

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Forget everything and read (B, T) tokens; the logits (B, V) after the last."""
        self.request.reset_state()
        self.length = 0
        return self._run(tokens)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token of each sequence (B,); the logits (B, V) after it."""
        return self._run(tokens[:, None])

    def _run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        start, self.length = self.length, self.length + tokens.shape[1]
        inputs = {
            "input_ids": np.ascontiguousarray(tokens, np.int64),
            "position_ids": np.arange(start, self.length, dtype=np.int64),
            "beam_idx": np.arange(len(tokens), dtype=np.int32),
        }
        return self.request.infer(inputs, share_inputs=True, share_outputs=True)[0]


class PagedEngine(StatefulEngine):
    """A compiled model and its cache; the blocks of a sequence stand one after the other."""

    def __init__(self, folder: Path, threads: int, weights: str) -> None:
        from openvino._offline_transformations import paged_attention_transformation

        core = ov.Core()
        graph = core.read_model(folder / "model.xml")
        paged_attention_transformation(graph)
        graph.reshape({"input_ids": [-1], "position_ids": [-1, 1]})
        model = core.compile_model(graph, "CPU", hints(weights, threads))
        self.request = model.create_infer_request()
        self.caches = {port.get_any_name(): port for port in model.inputs if "_cache." in port.get_any_name()}
        # (blocks, n_head, positions in a block, head_dim and, in 8 bits, its scales)
        self.block = self.caches["value_cache.0"].get_partial_shape()[2].get_length()
        self.batch = 0

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Forget everything and read (B, T) tokens; the logits (B, V) after the last."""
        if len(tokens) != self.batch:
            self.batch = len(tokens)
            for name, port in self.caches.items():
                sizes = (dimension.get_length() for dimension in list(port.get_partial_shape())[1:])
                shape = ov.Shape([self.batch * N_CTX // self.block, *sizes])
                self.request.set_tensor(name, ov.Tensor(port.get_element_type(), shape))
        self.length = 0
        return self._run(tokens)

    def _run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        start, self.length = self.length, self.length + tokens.shape[1]
        used = -(-self.length // self.block)
        rows = np.arange(self.batch + 1, dtype=np.int32)
        first_blocks = rows[:-1, None] * (N_CTX // self.block)
        inputs = {
            "input_ids": np.ascontiguousarray(tokens, np.int64).ravel(),
            "position_ids": np.tile(np.arange(start, self.length, dtype=np.int64), self.batch)[:, None],
            "last_rows": np.arange(1, self.batch + 1) * tokens.shape[1] - 1,
            "past_lens": np.full(self.batch, start, np.int32),
            "subsequence_begins": rows * np.int32(tokens.shape[1]),
            "block_indices_begins": rows * np.int32(used),
            "block_indices": (first_blocks + np.arange(used, dtype=np.int32)).ravel(),
            "max_context_len": np.array(self.length, np.int32),
        }
        return self.request.infer(inputs, share_inputs=True, share_outputs=True)[0].reshape(self.batch, -1)


def load(cache: Path, threads: int, weights: str) -> StatefulEngine:
    """The prepared model, ready to run."""
    return (PagedEngine if weights.endswith("-paged") else StatefulEngine)(cache, threads, weights)


def prepare(checkpoint: Path, cache: Path, weights: str) -> None:
    """Write a GPT-2 folder to `cache` as model.xml and model.bin; bf16 multiplies what a file of float16 holds."""
    model = build(checkpoint, int8=weights.startswith("int8"), paged=weights.endswith("-paged"))
    ov.save_model(model, cache / "model.xml", compress_to_fp16=weights.startswith("bf16"))


def build(checkpoint: Path, *, int8: bool, paged: bool) -> ov.Model:
    """The model. paged: with the inputs' names, the mask and the choice of rows that the paged form needs."""
    from openvino import opset13 as op

    shape, weights = read_gpt2(checkpoint)
    n_head, head_dim = shape.n_head, shape.head_dim
    sinks = []

    def ints(*values: int) -> ov.Node:
        return op.constant(np.array(values, np.int64))

    def matrix(weight: NDArray[np.float32]) -> ov.Node:
        if not int8:
            return op.constant(np.ascontiguousarray(weight))
        values, scale = int8_rows(weight)
        return op.multiply(op.convert(op.constant(values), np.float32), op.constant(scale))

    def linear(x: ov.Node, name: str) -> ov.Node:
        product = op.matmul(x, matrix(weights[f"{name}.weight"].T), False, True)  # the plugin's layout
        return op.add(product, op.constant(weights[f"{name}.bias"]))

    def norm(x: ov.Node, name: str) -> ov.Node:
        scaled = op.mvn(x, ints(-1), True, shape.eps, "inside_sqrt")
        scaled = op.multiply(scaled, op.constant(weights[f"{name}.weight"]))
        return op.add(scaled, op.constant(weights[f"{name}.bias"]))

    def cached(x: ov.Node, name: str) -> ov.Node:
        empty = op.broadcast(op.constant(np.float32(0)), op.concat([batch, ints(n_head, 0, head_dim)], 0))
        past = op.read_value(empty, name, ov.Type.f32, ov.PartialShape([-1, n_head, -1, head_dim]))
        full = op.concat([op.gather(past, beams, op.constant(np.int64(0))), x], 2)
        sinks.append(op.assign(full, name))
        return full

    tokens = op.parameter([-1, -1], np.int64)
    positions = op.parameter([-1, -1] if paged else [-1], np.int64)
    beams = op.parameter([-1], np.int32)
    inputs = {"input_ids": tokens, "position_ids": positions, "beam_idx": beams}
    if paged:
        inputs["attention_mask"] = mask = op.parameter([-1, 1, -1, -1], np.float32)
        inputs["last_rows"] = last_rows = op.parameter([-1], np.int64)
    batch = op.gather(op.shape_of(tokens), ints(0), op.constant(np.int64(0)))
    wte = matrix(weights["wte.weight"])
    x = op.add(op.gather(wte, tokens, ints(0)), op.gather(op.constant(weights["wpe.weight"]), positions, ints(0)))
    for i in range(shape.n_layer):
        h = f"h.{i}"
        qkv = op.reshape(linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn"), ints(0, 0, 3 * n_head, head_dim), True)
        heads = op.transpose(qkv, ints(0, 2, 1, 3))
        q, k, v = op.split(heads, op.constant(np.int64(1)), 3).outputs()
        keys, values = cached(k, f"k{i}"), cached(v, f"v{i}")
        masks = (mask,) if paged else ()
        attended = op.scaled_dot_product_attention(q, keys, values, *masks, causal=not paged)
        merged = op.reshape(op.transpose(attended, ints(0, 2, 1, 3)), ints(0, 0, shape.n_embd), True)
        x = op.add(x, linear(merged, f"{h}.attn.c_proj"))
        up = op.gelu(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc"), "tanh")
        x = op.add(x, linear(up, f"{h}.mlp.c_proj"))
    row, axis = (last_rows, 0) if paged else (op.constant(np.int64(-1)), 1)
    final = op.gather(norm(x, "ln_f"), row, op.constant(np.int64(axis)))
    logits = op.result(op.matmul(final, wte, False, True))
    for name, parameter in inputs.items():
        parameter.get_output_tensor(0).set_names({name})
    return ov.Model([logits], sinks, list(inputs.values()), "gpt2")
