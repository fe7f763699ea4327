"""ONNX Runtime as a peer: GPT-2 as a graph of its fused operators, with a cache that is written in place.

The graph is built from the checkpoint by hand, since exporters leave out what is fast on the CPU: GroupQueryAttention
on packed queries, keys and values whose cache input and output share one buffer, SkipLayerNormalization that adds the
residual and the bias before it, FastGelu with its bias. Only the last position meets the head.

`int8` is its dynamic quantisation, weights with a scale a channel and activations with one a matrix; `int4` is
MatMulNBits in blocks of 32, multiplied in int8.

GroupQueryAttention's tiled form is left off: with it, reading 512 tokens is 10% slower and decoding no faster. Without
prepacking (`session.disable_prepacking`) loading takes a tenth of the time, but reading a prompt is 15% slower.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from peer_common import N_CTX, Shape, Weights, int8_rows, read_gpt2

VERSION = f"onnxruntime {ort.__version__}"
FORMATS = {"int8": 8.0, "int4": 5.0, "float32": 32.0}
BLOCK = 32


class OrtEngine:
    """A session and its cache buffers, bound to the graph so that no call allocates or copies them."""

    def __init__(self, folder: Path, threads: int, weights: str) -> None:
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
            self._bind_buffers(len(tokens))
        self.length = 0
        return self._run(tokens)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token of each sequence (B,); the logits (B, V) after it."""
        return self._run(tokens[:, None])

    def _bind_buffers(self, batch: int) -> None:
        self.cache = []
        for past in (port for port in self.session.get_inputs() if port.name.startswith("past_")):
            value = ort.OrtValue.ortvalue_from_numpy(np.zeros((batch, *past.shape[1:]), np.float32))
            self.cache.append(value)
            self.binding.bind_ortvalue_input(past.name, value)
            self.binding.bind_ortvalue_output(past.name.replace("past", "present"), value)
        self.logits = np.empty((batch, self.session.get_outputs()[-1].shape[1]), np.float32)
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


load = OrtEngine


class Graph:
    """Nodes and constants; `product` and `rows` write a weight matrix in the format."""

    def __init__(self, constants: dict[str, NDArray[Any]], weights: str) -> None:
        from onnx import helper

        self.make, self.nodes, self.constants, self.weights = helper.make_node, [], constants, weights

    def node(self, op: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
        """An operator of ONNX."""
        self.nodes.append(self.make(op, inputs, outputs, **attributes))

    def fused(self, op: str, inputs: list[str], outputs: list[str], **attributes: object) -> None:
        """An operator of ONNX Runtime's own."""
        self.nodes.append(self.make(op, inputs, outputs, domain="com.microsoft", **attributes))

    def product(self, x: str, weight: str, out: str) -> None:
        """out = x @ weight, for an (inputs, outputs) matrix, which is replaced by its quantised form."""
        if self.weights == "float32":
            return self.node("MatMul", [x, weight], [out])
        matrix = self.constants.pop(weight)
        if self.weights == "int8":
            values, scale = int8_rows(np.ascontiguousarray(matrix.T))
            self.constants[f"{weight}.int8"] = np.ascontiguousarray(values.T)
            self.constants[f"{weight}.scale"] = scale[:, 0]
            return self.fused("DynamicQuantizeMatMul", [x, f"{weight}.int8", f"{weight}.scale"], [out])
        from onnxruntime.capi._pybind_state import quantize_matmul_4bits

        k, n = matrix.shape
        packed = np.zeros((n, k // BLOCK, BLOCK // 2), np.uint8)
        scales = np.zeros((n, k // BLOCK), np.float32)
        zeros = np.zeros((n, -(-k // BLOCK // 2)), np.uint8)
        quantize_matmul_4bits(packed, np.ascontiguousarray(matrix), scales.ravel(), zeros.ravel(), BLOCK, n, k, True)
        self.constants[f"{weight}.int4"], self.constants[f"{weight}.scale"] = packed, scales
        inputs = [x, f"{weight}.int4", f"{weight}.scale"]
        return self.fused("MatMulNBits", inputs, [out], K=k, N=n, bits=4, block_size=BLOCK, accuracy_level=4)

    def rows(self, weight: str, indices: str, out: str) -> None:
        """out = weight[indices]; quantised, in int8."""
        if self.weights == "float32":
            return self.node("Gather", [weight, indices], [out])
        values, scale = int8_rows(self.constants[weight])
        self.constants[f"{weight}.row"], self.constants[f"{weight}.row_scale"] = values, scale
        self.node("Gather", [f"{weight}.row", indices], ["row_int8"])
        self.node("Gather", [f"{weight}.row_scale", indices], ["row_scale"])
        self.node("Cast", ["row_int8"], ["row"], to=1)
        return self.node("Mul", ["row", "row_scale"], [out])

    def head(self, x: str, weight: str, out: str) -> None:
        """out = x @ weight.T."""
        if self.weights == "float32":
            return self.node("Gemm", [x, weight], [out], transB=1)
        self.constants["head"] = self.constants.pop(weight).T
        return self.product(x, "head", out)


def prepare(checkpoint: Path, cache: Path, weights: str) -> None:
    """Write the graph of a GPT-2 folder to `cache` (model.onnx and its data)."""
    import onnx
    from onnx import TensorProto as T
    from onnx import helper

    shape, tensors = read_gpt2(checkpoint)
    g = build(shape, tensors, weights)
    kv = (["B", shape.n_head, N_CTX, shape.head_dim], [f"{kv}{i}" for i in range(shape.n_layer) for kv in "kv"])
    inputs = [("tokens", T.INT64, ["B", "T"]), ("positions", T.INT64, ["T"]), ("last_key", T.INT32, ["B"])]
    inputs += [("length", T.INT32, []), *((f"past_{name}", T.FLOAT, kv[0]) for name in kv[1])]
    outputs = [*((f"present_{name}", T.FLOAT, kv[0]) for name in kv[1]), ("logits", T.FLOAT, ["B", shape.n_vocab])]
    graph = helper.make_graph(
        g.nodes,
        "gpt2",
        [helper.make_tensor_value_info(*spec) for spec in inputs],
        [helper.make_tensor_value_info(*spec) for spec in outputs],
        [onnx.numpy_helper.from_array(value, name) for name, value in g.constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, cache / "model.onnx", save_as_external_data=True, location="model.onnx.data")


def build(shape: Shape, tensors: Weights, weights: str) -> Graph:
    """The nodes of GPT-2, and the constants that they need."""
    g = Graph({**tensors, "minus_one": np.array(-1, np.int64)}, weights)
    g.rows("wte.weight", "tokens", "token_rows")
    g.node("Gather", ["wpe.weight", "positions"], ["position_rows"])
    g.node("Add", ["token_rows", "position_rows"], ["x0"])
    g.node("LayerNormalization", ["x0", "h.0.ln_1.weight", "h.0.ln_1.bias"], ["n0"], epsilon=shape.eps)

    def skip_norm(x: str, skip: str, bias: str, norm: str, outputs: list[str]) -> None:
        inputs = [x, skip, f"{norm}.weight", f"{norm}.bias", bias]
        g.fused("SkipLayerNormalization", inputs, [outputs[0], "", "", *outputs[1:]], epsilon=shape.eps)

    for i in range(shape.n_layer):
        h, last = f"h.{i}", i == shape.n_layer - 1
        g.product(f"n{i}", f"{h}.attn.c_attn.weight", f"qkv_{i}")
        g.node("Add", [f"qkv_{i}", f"{h}.attn.c_attn.bias"], [f"qkv{i}"])
        g.fused(
            "GroupQueryAttention",
            [f"qkv{i}", "", "", f"past_k{i}", f"past_v{i}", "last_key", "length"],
            [f"a{i}", f"present_k{i}", f"present_v{i}"],
            num_heads=shape.n_head,
            kv_num_heads=shape.n_head,
            scale=shape.head_dim**-0.5,
        )
        g.product(f"a{i}", f"{h}.attn.c_proj.weight", f"o{i}")
        skip_norm(f"x{i}", f"o{i}", f"{h}.attn.c_proj.bias", f"{h}.ln_2", [f"m{i}", f"y{i}"])
        g.product(f"m{i}", f"{h}.mlp.c_fc.weight", f"u{i}")
        g.fused("FastGelu", [f"u{i}", f"{h}.mlp.c_fc.bias"], [f"g{i}"])
        g.product(f"g{i}", f"{h}.mlp.c_proj.weight", f"d{i}")
        norm = "ln_f" if last else f"h.{i + 1}.ln_1"
        skip_norm(f"y{i}", f"d{i}", f"{h}.mlp.c_proj.bias", norm, [f"n{i + 1}", *([] if last else [f"x{i + 1}"])])
    g.node("Gather", [f"n{shape.n_layer}", "minus_one"], ["final"], axis=1)
    g.head("final", "wte.weight", "logits")
    return g
