"""llama.cpp as a peer, through the C interface that llama-cpp-python carries: a GGUF file as it is, or as the library
quantises it (again).

`float32` keeps keys and values in float32, the others in llama.cpp's default, float16, or, with `-fa`, in its Q8_0 and
with flash attention. Like its own tool, the 4-bit quantiser gives the head 6 bits. `LLAMA_CPP_LIB_PATH` names the
folder of another build of the library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp as api
import numpy as np
from numpy.typing import NDArray
from peer_common import N_CTX, Shape, UnsuitableError, Weights, link, read

INFO = api.llama_print_system_info().decode()
BUILD = next((isa for isa in ("AMX_INT8", "AVX512_VNNI", "AVX512", "AVX2") if f"{isa} = 1" in INFO), "portable")
VERSION = f"llama.cpp {api.__version__} {BUILD}"
FORMATS = {"file": 0.0, "file-fa": 0.0, "q8_0": 8.5, "q8_0-fa": 8.5, "q4_0": 4.5, "float32": 32.0}
FILE_TYPES = {"q8_0": api.LLAMA_FTYPE_MOSTLY_Q8_0, "q4_0": api.LLAMA_FTYPE_MOSTLY_Q4_0}


class LlamaEngine:
    """A model and its context; sequence i of a batch is the context's sequence i."""

    def __init__(self, folder: Path, threads: int, weights: str) -> None:
        api.llama_backend_init()
        silence()
        path = str(folder / "model.gguf").encode()
        self.model = api.llama_model_load_from_file(path, api.llama_model_default_params())
        self.n_vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.threads, self.batch, self.context = threads, 0, None
        self.exact, self.flash = weights == "float32", weights.endswith("-fa")

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
        params.n_ctx, params.n_batch, params.n_seq_max = N_CTX * batch, N_CTX * batch, batch
        params.n_threads = params.n_threads_batch = self.threads
        if self.exact:
            params.type_k = params.type_v = api.GGML_TYPE_F32
        if self.flash:
            params.type_k = params.type_v = api.GGML_TYPE_Q8_0
            params.flash_attn_type = api.LLAMA_FLASH_ATTN_TYPE_ENABLED
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


load = LlamaEngine


@api.llama_log_callback
def _no_log(level: int, text: bytes, data: Any) -> None:
    """Says nothing."""


def silence() -> None:
    """Stop the library's messages; the library keeps the pointer, so the callback is the module's."""
    api.llama_log_set(_no_log, None)


def prepare(checkpoint: Path, cache: Path, weights: str) -> None:
    """Write `cache`/model.gguf, without a tokenizer where the checkpoint is no GGUF file itself."""
    weights = weights.removesuffix("-fa")
    if checkpoint.is_dir() and weights == "float32":
        return write(*read(checkpoint), cache / "model.gguf")
    if checkpoint.is_file() and weights == "file":
        return link(checkpoint, cache)
    if weights not in FILE_TYPES:
        raise UnsuitableError(f"{checkpoint.name} cannot be had as {weights}")
    silence()
    whole = checkpoint
    if checkpoint.is_dir():
        write(*read(checkpoint), whole := cache / "float32.gguf")
    params = api.llama_model_quantize_default_params()
    params.ftype, params.allow_requantize = FILE_TYPES[weights], True
    if api.llama_model_quantize(str(whole).encode(), str(cache / "model.gguf").encode(), params):
        raise RuntimeError(f"llama_model_quantize failed on {whole}")
    (cache / "float32.gguf").unlink(missing_ok=True)
    return None


def write(shape: Shape, tensors: Weights, path: Path) -> None:
    """A GGUF file of float32."""
    import gguf

    writer = gguf.GGUFWriter(path, "llama" if shape.theta else "gpt2")
    writer.add_block_count(shape.n_layer)
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_inner)
    writer.add_head_count(shape.n_head)
    writer.add_vocab_size(shape.n_vocab)
    writer.add_tokenizer_model("no_vocab")
    if shape.theta:
        writer.add_head_count_kv(shape.n_kv_head)
        writer.add_layer_norm_rms_eps(shape.eps)
        writer.add_rope_freq_base(shape.theta)
        writer.add_rope_dimension_count(shape.head_dim)
    else:
        writer.add_layer_norm_eps(shape.eps)
    for name, tensor in (llama if shape.theta else gpt2)(shape, tensors).items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gpt2(shape: Shape, tensors: Weights) -> Weights:
    """GPT-2's tensors under GGUF's names, matrices as (outputs, inputs)."""
    whole = {"wte": "token_embd", "wpe": "position_embd", "ln_f": "output_norm"}
    parts = {"ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"}
    parts |= {"ln_2": "ffn_norm", "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
    renamed = {}
    for name, tensor in tensors.items():
        part, kind = name.rsplit(".", 1)
        if part in whole:
            renamed[f"{whole[part]}.{kind}"] = tensor
        else:
            _, layer, part = part.split(".", 2)
            renamed[f"blk.{layer}.{parts[part]}.{kind}"] = tensor.T
    return renamed


def llama(shape: Shape, tensors: Weights) -> Weights:
    """Llama's tensors under GGUF's names; rotated pairs stand side by side in GGUF, half a head apart in the source."""
    whole = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    parts = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    parts |= {f"self_attn.{x}_proj": f"attn_{'output' if x == 'o' else x}" for x in "qkvo"}
    parts |= {f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")}
    renamed = {}
    for name, tensor in tensors.items():
        if name in whole:
            renamed[whole[name]] = tensor
            continue
        _, layer, part = name.removesuffix(".weight").split(".", 2)
        if part in ("self_attn.q_proj", "self_attn.k_proj"):
            halves = tensor.reshape(-1, 2, shape.head_dim // 2, shape.n_embd)
            tensor = halves.swapaxes(1, 2).reshape(tensor.shape)
        renamed[f"blk.{layer}.{parts[part]}.weight"] = tensor
    return renamed
