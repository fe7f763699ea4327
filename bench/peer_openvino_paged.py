"""OpenVINO as its GenAI package runs it: the model of peer_openvino.py, turned into paged attention while it loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino._offline_transformations import paged_attention_transformation
from peer_openvino import HINTS, VERSION, build

VERSION += " paged"
N_CTX = 1024


class PagedEngine:
    """A compiled model and its cache; the blocks of a sequence stand one after the other."""

    def __init__(self, folder: Path, threads: int) -> None:
        core = ov.Core()
        graph = core.read_model(folder / "model.xml")
        paged_attention_transformation(graph)
        graph.reshape({"input_ids": [-1], "position_ids": [-1, 1]})
        model = core.compile_model(graph, "CPU", {**HINTS, "INFERENCE_NUM_THREADS": threads})
        self.request = model.create_infer_request()
        shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
        self.caches = {name: shape for name, shape in shapes.items() if "_cache." in name}
        self.block = self.caches["key_cache.0"][2].get_length()  # (blocks, n_head, positions in a block, head_dim)
        self.batch = 0

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Forget everything and read (B, T) tokens; the logits (B, V) after the last."""
        if len(tokens) != self.batch:
            self.batch = len(tokens)
            for name, shape in self.caches.items():
                sizes = [self.batch * N_CTX // self.block, *(shape[i].get_length() for i in range(1, 4))]
                self.request.set_tensor(name, ov.Tensor(np.zeros(sizes, np.float32)))
        self.length = 0
        return self._run(tokens)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token of each sequence (B,); the logits (B, V) after it."""
        return self._run(tokens[:, None])

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


def load(cache: Path, threads: int) -> PagedEngine:
    """The prepared model, ready to run."""
    return PagedEngine(cache, threads)


def prepare(checkpoint: Path, cache: Path) -> None:
    """Write a GPT-2 folder to `cache` as model.xml and model.bin, in float32."""
    ov.save_model(build(checkpoint, paged=True), cache / "model.xml", compress_to_fp16=False)
