"""llama.cpp as a peer, through the C interface that llama-cpp-python carries: GPT-2 as a GGUF file of float32."""

from __future__ import annotations

import json
from pathlib import Path

import llama_cpp as api
import numpy as np
from numpy.typing import NDArray

VERSION = f"llama-cpp-python {api.__version__}"
MAX_BATCH = 8


class LlamaEngine:
    """A model and its context; sequence i of a batch is the context's sequence i."""

    def __init__(self, folder: Path, threads: int) -> None:
        api.llama_backend_init()
        self.log = api.llama_log_callback(lambda level, text, data: None)  # kept alive: the library holds a pointer
        api.llama_log_set(self.log, None)
        self.model = api.llama_model_load_from_file(
            str(folder / "model.gguf").encode(), api.llama_model_default_params()
        )
        shape = json.loads((folder / "config.json").read_text())
        self.n_vocab, self.n_ctx = shape["vocab_size"], shape["n_positions"]
        self.threads, self.batch, self.context = threads, 0, None

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Forget everything and read (B, T) tokens; the logits (B, V) after the last."""
        if len(tokens) != self.batch:
            self._make_context(len(tokens))
        api.llama_memory_clear(api.llama_get_memory(self.context), True)
        self.length = 0
        return self._run(tokens)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token of each sequence (B,); the logits (B, V) after it."""
        return self._run(tokens[:, None])

    def _make_context(self, batch: int) -> None:
        if self.context is not None:
            api.llama_free(self.context)
        params = api.llama_context_default_params()
        params.n_ctx, params.n_seq_max = self.n_ctx * batch, batch
        params.n_batch = self.n_ctx * batch
        params.n_threads = params.n_threads_batch = self.threads
        params.type_k = params.type_v = api.GGML_TYPE_F32
        self.context = api.llama_init_from_model(self.model, params)
        self.tokens = api.llama_batch_init(params.n_batch, 0, 1)
        self.batch = batch

    def _run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        b, last = self.tokens, []
        n_rows, n_new = tokens.shape
        b.n_tokens = n_rows * n_new
        for at, token in enumerate(tokens.ravel().tolist()):
            row, i = divmod(at, n_new)
            b.token[at], b.pos[at] = token, self.length + i
            b.n_seq_id[at], b.seq_id[at][0] = 1, row
            b.logits[at] = i == n_new - 1
            if b.logits[at]:
                last.append(at)
        self.length += n_new
        if api.llama_decode(self.context, b):
            raise RuntimeError(f"llama_decode failed on {n_rows} x {n_new} tokens")
        rows = (api.llama_get_logits_ith(self.context, at) for at in last)
        return np.stack([np.ctypeslib.as_array(row, (self.n_vocab,)) for row in rows])


def load(cache: Path, threads: int) -> LlamaEngine:
    """The prepared file, ready to run."""
    return LlamaEngine(cache, threads)


def prepare(checkpoint: Path, cache: Path) -> None:
    """Write a GPT-2 folder to `cache` as model.gguf, in float32 and without a tokenizer."""
    import gguf
    from safetensors.numpy import load_file

    c = json.loads((checkpoint / "config.json").read_text())
    writer = gguf.GGUFWriter(cache / "model.gguf", "gpt2")
    writer.add_block_count(c["n_layer"])
    writer.add_context_length(c["n_positions"])
    writer.add_embedding_length(c["n_embd"])
    writer.add_feed_forward_length(c["n_inner"] or 4 * c["n_embd"])
    writer.add_head_count(c["n_head"])
    writer.add_layer_norm_eps(c["layer_norm_epsilon"])
    writer.add_vocab_size(c["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    parts = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"}
    parts |= {"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    whole = {"wte.weight": "token_embd.weight", "wpe.weight": "position_embd.weight"}
    whole |= {"ln_f.weight": "output_norm.weight", "ln_f.bias": "output_norm.bias"}
    for key, tensor in load_file(checkpoint / "model.safetensors").items():
        name = key.removeprefix("transformer.")
        if name not in whole:
            _, layer, rest = name.split(".", 2)
            part, kind = rest.rsplit(".", 1)
            name, tensor = f"blk.{layer}.{parts[part]}.{kind}", tensor.T if tensor.ndim == 2 else tensor
        writer.add_tensor(whole.get(name, name), np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (cache / "config.json").write_text(json.dumps(c))
