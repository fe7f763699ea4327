"""ONNX Runtime as a peer: GPT-2 as a graph of its fused operators, with a cache that is written in place.

The graph is built from the checkpoint by hand, since exporters leave out what is fast on the CPU: GroupQueryAttention
on packed queries, keys and values whose cache input and output share one buffer, SkipLayerNormalization that adds the
residual and the bias before it, FastGelu with its bias. Only the last position meets the head.

GroupQueryAttention's tiled form is left off: with it, reading 512 tokens is 10% slower and decoding no faster. Without
prepacking (`session.disable_prepacking`) loading takes a tenth of the time, but reading a prompt is 15% slower.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

VERSION = f"onnxruntime {ort.__version__}"


class OrtEngine:
    """A session and its cache buffers, bound to the graph so that no call allocates or copies them."""

    def __init__(self, folder: Path, threads: int) -> None:
        self.config = json.loads((folder / "config.json").read_text())
        os.environ["ORT_GQA_DISABLE_FLASH_ATTENTION"] = "1"
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = ort.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        self.batch = 0

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Forget everything and read (B, T) tokens; the logits (B, V) after the last."""
        if len(tokens) != self.batch:
            self._bind_cache(len(tokens))
        self.length = 0
        return self._run(tokens)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token of each sequence (B,); the logits (B, V) after it."""
        return self._run(tokens[:, None])

    def _bind_cache(self, batch: int) -> None:
        c = self.config
        shape = (batch, c["n_head"], c["n_positions"], c["n_embd"] // c["n_head"])
        self.cache = [ort.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32)) for _ in range(2 * c["n_layer"])]
        for i, value in enumerate(self.cache):
            name = f"{'kv'[i % 2]}{i // 2}"
            self.binding.bind_ortvalue_input(f"past_{name}", value)
            self.binding.bind_ortvalue_output(f"present_{name}", value)
        self.logits = np.empty((batch, c["vocab_size"]), np.float32)
        self.binding.bind_ortvalue_output("logits", ort.OrtValue.ortvalue_from_numpy(self.logits))
        self.batch = batch

    def _run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        start, self.length = self.length, self.length + tokens.shape[1]
        self.binding.bind_cpu_input("tokens", np.ascontiguousarray(tokens, np.int64))
        self.binding.bind_cpu_input("positions", np.arange(start, self.length, dtype=np.int64))
        self.binding.bind_cpu_input("last_key", np.full(self.batch, self.length - 1, np.int32))
        self.binding.bind_cpu_input("length", np.array(self.length, np.int32))
        self.session.run_with_iobinding(self.binding)
        return self.binding.get_outputs()[-1].numpy()


def load(cache: Path, threads: int) -> OrtEngine:
    """The prepared graph, ready to run."""
    return OrtEngine(cache, threads)


def prepare(checkpoint: Path, cache: Path) -> None:
    """Write the graph of a GPT-2 folder to `cache` (model.onnx and its data)."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper
    from safetensors.numpy import load_file

    c = json.loads((checkpoint / "config.json").read_text())
    weights = {k.removeprefix("transformer."): v for k, v in load_file(checkpoint / "model.safetensors").items()}
    nodes, eps, head_dim = [], c["layer_norm_epsilon"], c["n_embd"] // c["n_head"]

    def node(op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: object) -> None:
        nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))

    def fused(op: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
        node(op, inputs, outputs, "com.microsoft", **attributes)

    node("Gather", ["wte.weight", "tokens"], ["token_rows"])
    node("Gather", ["wpe.weight", "positions"], ["position_rows"])
    node("Add", ["token_rows", "position_rows"], ["x0"])
    node("LayerNormalization", ["x0", "h.0.ln_1.weight", "h.0.ln_1.bias"], ["n0"], epsilon=eps)
    for i in range(c["n_layer"]):
        h, last = f"h.{i}", i == c["n_layer"] - 1
        node("MatMul", [f"n{i}", f"{h}.attn.c_attn.weight"], [f"qkv_{i}"])
        node("Add", [f"qkv_{i}", f"{h}.attn.c_attn.bias"], [f"qkv{i}"])
        fused(
            "GroupQueryAttention",
            [f"qkv{i}", "", "", f"past_k{i}", f"past_v{i}", "last_key", "length"],
            [f"a{i}", f"present_k{i}", f"present_v{i}"],
            num_heads=c["n_head"],
            kv_num_heads=c["n_head"],
            scale=head_dim**-0.5,
        )
        node("MatMul", [f"a{i}", f"{h}.attn.c_proj.weight"], [f"o{i}"])
        norm = [f"{h}.ln_2.weight", f"{h}.ln_2.bias"]
        fused(
            "SkipLayerNormalization",
            [f"x{i}", f"o{i}", *norm, f"{h}.attn.c_proj.bias"],
            [f"m{i}", "", "", f"y{i}"],
            epsilon=eps,
        )
        node("MatMul", [f"m{i}", f"{h}.mlp.c_fc.weight"], [f"u{i}"])
        fused("FastGelu", [f"u{i}", f"{h}.mlp.c_fc.bias"], [f"g{i}"])
        node("MatMul", [f"g{i}", f"{h}.mlp.c_proj.weight"], [f"d{i}"])
        norm = [f"{name}.{part}" for name in ["ln_f" if last else f"h.{i + 1}.ln_1"] for part in ("weight", "bias")]
        fused(
            "SkipLayerNormalization",
            [f"y{i}", f"d{i}", *norm, f"{h}.mlp.c_proj.bias"],
            [f"n{i + 1}", "", "", *([] if last else [f"x{i + 1}"])],
            epsilon=eps,
        )
    node("Gather", [f"n{c['n_layer']}", "minus_one"], ["final"], axis=1)
    node("Gemm", ["final", "wte.weight"], ["logits"], transB=1)

    kv = (["B", c["n_head"], c["n_positions"], head_dim], [f"{kv}{i}" for i in range(c["n_layer"]) for kv in "kv"])
    inputs = [("tokens", T.INT64, ["B", "T"]), ("positions", T.INT64, ["T"]), ("last_key", T.INT32, ["B"])]
    inputs += [("length", T.INT32, []), *((f"past_{name}", T.FLOAT, kv[0]) for name in kv[1])]
    outputs = [*((f"present_{name}", T.FLOAT, kv[0]) for name in kv[1]), ("logits", T.FLOAT, ["B", c["vocab_size"]])]
    weights["minus_one"] = np.array(-1, np.int64)
    graph = helper.make_graph(
        nodes,
        "gpt2",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(*spec) for spec in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    (cache / "model.onnx.data").unlink(missing_ok=True)
    onnx.save(model, cache / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    (cache / "config.json").write_text(json.dumps(c))
