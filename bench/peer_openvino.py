"""OpenVINO as a peer: GPT-2 as a stateful model, in the form that its CPU plugin fuses into attention with a cache.

The model is built with OpenVINO's own operators from the checkpoint. Keys and values live in variables that are read,
gathered by `beam_idx` and concatenated with the new ones, which is what its exporters write and its CPU plugin looks
for. Weights, activations and the cache are float32; the defaults would be bfloat16 where the CPU has it, and 8 bits.
This form decodes faster than the paged one of peer_openvino_paged.py, which reads prompts faster.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray

VERSION = f"openvino {ov.get_version().split('-')[0]}"
HINTS = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "PERFORMANCE_HINT": "LATENCY"}


class OpenVinoEngine:
    """A compiled model; the cache is the state of its one request."""

    def __init__(self, folder: Path, threads: int) -> None:
        model = ov.Core().compile_model(folder / "model.xml", "CPU", {**HINTS, "INFERENCE_NUM_THREADS": threads})
        self.request = model.create_infer_request()

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


def load(cache: Path, threads: int) -> OpenVinoEngine:
    """The prepared model, ready to run."""
    return OpenVinoEngine(cache, threads)


def prepare(checkpoint: Path, cache: Path) -> None:
    """Write a GPT-2 folder to `cache` as model.xml and model.bin, in float32."""
    ov.save_model(build(checkpoint, paged=False), cache / "model.xml", compress_to_fp16=False)


def build(checkpoint: Path, *, paged: bool) -> ov.Model:
    """The model. paged: with the inputs' names, the mask and the choice of rows that peer_openvino_paged.py needs."""
    from openvino import opset13 as op
    from safetensors.numpy import load_file

    c = json.loads((checkpoint / "config.json").read_text())
    weights = {k.removeprefix("transformer."): v for k, v in load_file(checkpoint / "model.safetensors").items()}
    n_head, head_dim = c["n_head"], c["n_embd"] // c["n_head"]
    sinks = []

    def ints(*values: int) -> ov.Node:
        return op.constant(np.array(values, np.int64))

    def linear(x: ov.Node, name: str) -> ov.Node:
        weight = np.ascontiguousarray(weights[f"{name}.weight"].T)  # the plugin's layout: (outputs, inputs)
        return op.add(op.matmul(x, op.constant(weight), False, True), op.constant(weights[f"{name}.bias"]))

    def norm(x: ov.Node, name: str) -> ov.Node:
        scaled = op.mvn(x, ints(-1), True, c["layer_norm_epsilon"], "inside_sqrt")
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
    wte = op.constant(weights["wte.weight"])
    x = op.add(op.gather(wte, tokens, ints(0)), op.gather(op.constant(weights["wpe.weight"]), positions, ints(0)))
    for i in range(c["n_layer"]):
        h = f"h.{i}"
        qkv = op.reshape(linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn"), ints(0, 0, 3 * n_head, head_dim), True)
        heads = op.transpose(qkv, ints(0, 2, 1, 3))
        q, k, v = op.split(heads, op.constant(np.int64(1)), 3).outputs()
        keys, values = cached(k, f"k{i}"), cached(v, f"v{i}")
        if paged:
            attended = op.scaled_dot_product_attention(q, keys, values, mask)
        else:
            attended = op.scaled_dot_product_attention(q, keys, values, causal=True)
        merged = op.reshape(op.transpose(attended, ints(0, 2, 1, 3)), ints(0, 0, c["n_embd"]), True)
        x = op.add(x, linear(merged, f"{h}.attn.c_proj"))
        up = op.gelu(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc"), "tanh")
        x = op.add(x, linear(up, f"{h}.mlp.c_proj"))
    row, axis = (last_rows, 0) if paged else (op.constant(np.int64(-1)), 1)
    final = op.gather(norm(x, "ln_f"), row, op.constant(np.int64(axis)))
    logits = op.result(op.matmul(final, wte, False, True))
    for name, parameter in inputs.items():
        parameter.get_output_tensor(0).set_names({name})
    return ov.Model([logits], sinks, list(inputs.values()), "gpt2")
