"""The C++ core as Python sees it. Private: use `pygpt.Model`."""

from collections.abc import Mapping, Sequence, Set
from mmap import mmap
from typing import ClassVar, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from pygpt.config import ModelConfig
from pygpt.training.primitives import Drop, Heads

_Floats: TypeAlias = NDArray[np.float32]
_Maybe: TypeAlias = _Floats | None
_Batch: TypeAlias = Sequence[tuple[Session, NDArray[np.int32]]]
_Record: TypeAlias = tuple[str, int, _Floats]
_Patch: TypeAlias = tuple[str, int, int, NDArray[np.int32], _Floats]
_Output: TypeAlias = Literal["none", "last", "all", "hidden"]

def config_fields() -> dict[str, list[str]]:
    """The fields of each class of `pygpt.config` that the core reads."""

def tensors(config: ModelConfig) -> dict[str, tuple[tuple[int, ...], str, int, int]]:
    """The canonical tensors of a model by name: the shape, the name of the packed tensor that holds it, and among the
    channels of that the first and the step from 16 rows to the next. ValueError for sizes that the core cannot hold."""

class CancelFlag:
    """Set from any thread: the sequence of a forward pass that was given it is cancelled."""

    def __init__(self) -> None: ...
    def set(self) -> None: ...
    def is_set(self) -> bool: ...

class EngineBuilder:
    """Packs tensors one at a time, so that no second copy of the model is ever in memory. One thread at a time."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        weights: Literal["float32", "bfloat16", "int8"],
        kv: Literal["float32", "float16", "int8"],
        threads: int,
        isa: str | None,
        threads_backend: str | None = None,
    ) -> None:
        """Raises ValueError for an ISA or a backend that is unknown or that this machine cannot run."""

    def add(
        self,
        name: str,
        array: NDArray[np.generic],
        dtype: str,
        *,
        file: tuple[int, int] | None = None,
    ) -> None:
        """Pack one canonical tensor. `array` may have any strides and holds float32, float16, or bfloat16 as uint16; or
        `dtype` is one of `block_formats`, and it holds a matrix's rows of blocks, (n, bytes of a row) uint8. `file`: an
        open file's descriptor and the offset of the array's first value, if the array is a view of one; a matrix is
        then read from there, and not from the array. ValueError: unknown name, wrong shape or dtype, a tensor given
        twice, or a file that cannot be read."""

    def packed(self, blocks: Set[str] = ...) -> dict[str, tuple[str, tuple[int, ...]]]:
        """What `adopt` wants: (dtype, shape) by name. dtype is float32, bfloat16, int8 or uint8 (MXFP4). `blocks` are
        the matrices that are in MXFP4; ValueError where their rows are not whole blocks."""

    def cache_bytes(self, length: int) -> int:
        """Memory of the keys and values of a sequence of this length: of layers with a window, those that a later token
        may still see, or that a truncated session would."""

    def adopt(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Take packed tensors as they are, instead of `add`; bfloat16 as uint16. The engine keeps the matrices' arrays.
        ValueError: not just the tensors that `packed` lists, or a scale that is negative or not finite."""

    def build(self) -> Engine:
        """The finished engine; the builder is empty afterwards. ValueError names tensors that were not given."""

class Engine:
    """Packed weights and everything that runs them: immutable, usable from any number of threads at once."""

    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    @property
    def threads_backend(self) -> str: ...
    @property
    def weight_bytes(self) -> int: ...
    @property
    def kv(self) -> str:
        """The format of cached keys and values."""

    @property
    def kv_bytes_per_token(self) -> int:
        """In all layers; those with a window hold a token only until it is out of sight."""

    def cache_bytes(self, length: int) -> int:
        """Memory of the keys and values of a sequence of this length, from 0 to n_ctx: as of an `EngineBuilder`."""

    @staticmethod
    def held_bytes(sessions: Sequence[Session]) -> int:
        """Memory of all keys and values that these sessions hold; what they share counts once. ValueError: one is in
        use by another thread."""

    def tensors(self) -> dict[str, tuple[str, NDArray[np.generic]]]:
        """The packed weights, (dtype, array) by name, as `EngineBuilder.packed` describes them: read-only views, which
        keep the engine alive."""

    def fingerprint(self) -> int:
        """A hash of all packed weights, at the speed of memory when it is first asked for. The GIL is released."""

    def session(self) -> Session: ...
    def page(self, page_class: int, contents: NDArray[np.uint8]) -> Page:
        """A new page of a class, with the (bytes,) that `Page.array` gave. ValueError: not as many, or no class."""

    def restore(self, length: int, pages: Sequence[Sequence[Page | None]]) -> Session:
        """A session of `length` tokens that shares these pages, as `Session.pages` lists them. ValueError: they are not
        those of a sequence of this length."""

    @overload
    def forward(
        self,
        batch: _Batch,
        *,
        output: _Output | Sequence[_Output] = "last",
        cancel: None = None,
        tentative: int | Sequence[int] = 0,
    ) -> list[_Floats]: ...
    @overload
    def forward(
        self,
        batch: _Batch,
        *,
        output: _Output | Sequence[_Output] = "last",
        cancel: CancelFlag | Sequence[CancelFlag | None],
        tentative: int | Sequence[int] = 0,
    ) -> list[_Floats | None]:
        """Append each sequence's tokens to its session and compute, for each: "last": logits of its last token
        (n_vocab,); "all": logits of all its new tokens (T, n_vocab); "hidden": states after the final norm (T, n_embd);
        "none": nothing, (0, n_vocab). The last `tentative` of the tokens, at most 256, join the session by
        `Session.keep` only. `output`, `cancel` and `tentative` are one for all sequences, or a list of one for each.
        A sequence whose flag is set meanwhile gives None and its session stays as it was; the others are as if they had
        been alone. The GIL is released; Ctrl-C, and flags once those of all sequences are set, stop the computation
        within one layer and leave every session as it was.
        ValueError: no tokens, fewer than are tentative, one outside the vocabulary, a session twice or of another
        engine.
        ContextOverflowError: more tokens than n_ctx. Cancelled: all sequences. KeyboardInterrupt."""

    def score(
        self, batch: Sequence[tuple[Session, NDArray[np.int32], int, NDArray[np.int32]]]
    ) -> list[tuple[_Floats, NDArray[np.bool_]]]:
        """Append each sequence's tokens to its session; of its new tokens after the one numbered `first`, and of those
        that may follow the last: the log-probability, that of log_softmax of the logits before it, which are never
        whole in memory, and whether it is the likeliest of all, the first of equal ones. (T - 1 - first + n_following,)
        each. The GIL and errors are as in `forward`. ValueError also: `first` is none of the new tokens."""

    def trace(self, tokens: NDArray[np.int32], records: Sequence[_Record], patches: Sequence[_Patch]) -> _Floats:
        """The logits (T, n_vocab) of a sequence. Each record's array (T, width) is filled with what is at its site and
        layer; of each patch, columns from its third field on of the positions whose row (T,) is not -1 are replaced."""

    def read_out(self, states: _Floats) -> _Floats:
        """The logits (n, n_vocab) of states (n, n_embd) as the last block leaves them."""

    def log_softmax(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-probabilities over the last axis, the same bits on every machine; (V,) or (T, V)."""

class Session:
    """The key-value cache of one sequence. It belongs to one caller at a time."""

    @property
    def length(self) -> int: ...
    def fork(self) -> Session:
        """A second session with the same tokens; full pages are shared, and never written again while they are."""

    def truncate(self, length: int) -> None:
        """Forget all tokens from position `length` on. ValueError unless 0 <= length <= self.length. Layers with a
        window give back what no later token sees: then ValueError too for a length that is more than 256 below the
        greatest, unless it is 0 or what its next token sees is still there."""

    def keep(self, n: int) -> None:
        """Take in the next n of the tokens that the last `Engine.forward` with this session computed as tentative ones.
        ValueError: there are not so many, also after `truncate`."""

    def pages(self) -> list[list[Page | None]]:
        """The pages of each class of layers by index; None: no later token sees it. What lies behind the last token of
        the last ones is arbitrary."""

    def page_bytes(self) -> dict[int, int]:
        """The size of each of its pages, by the address."""

    def clear_rest(self) -> None:
        """Make what lies behind the last token zeros, as of a sequence that was never longer."""

class Page:
    """Keys and values of 64 positions of a class of layers, the same bytes on every instruction set. No session writes
    to it as long as this object is there."""

    @property
    def address(self) -> int:
        """The same for all objects of one page."""

    @property
    def nbytes(self) -> int: ...
    def array(self) -> NDArray[np.uint8]:
        """A read-only view, (nbytes,)."""

class Sampler:
    """How `draw` chooses the next token of a sequence from its logits. Immutable. (seed, sequence, position) is the
    counter of a Philox generator (Salmon et al. 2011), so a draw depends on nothing drawn before it."""

    options: ClassVar[tuple[str, ...]]
    """The names of its options: fields of `pygpt.SamplingParams`, which says what they mean and checks them."""

    def __init__(self, **options: float | Mapping[int, float] | None) -> None:
        """All of `options`, by name. Temperature 0 is greedy (ties: the lowest id). TypeError: one more, or less."""

def draw(
    engine: Engine,
    draws: Sequence[tuple[Sampler, NDArray[np.float32], NDArray[np.int32], int, int, int, NDArray[np.uint32] | None]],
) -> list[int]:
    """A token id for each of several draws, which the engine's threads share: (sampler, logits, history, sequence,
    position, n_prompt, mask). `history` holds the ids that repetition_penalty applies to; the first `n_prompt` of them
    do not count for presence_penalty and frequency_penalty. `mask` ((n_vocab + 31) // 32,) has a bit a token, from each
    word's lowest on: 0 forbids it. Logits of +infinity share all of the probability. ValueError: a logit that is NaN,
    an id in `history` that has no logit, or a mask that forbids all."""

class TrainingKernels:
    """The primitives of `pygpt.training.functions` in float32. Results go to arrays that the caller brings, all
    C-contiguous; results are the same bits for any number of threads and on every ISA. ValueError: an array that is not
    as the call needs it, an ISA that is unknown or that this machine cannot run."""

    def __init__(self, *, threads: int, isa: str | None, precision: Literal["float32", "bfloat16"]) -> None:
        """`precision` is that of the factors of linear and linear_backward; "bfloat16" needs AVX512_BF16 and gives the
        same bits on equal machines only."""

    @property
    def isa(self) -> str: ...
    @property
    def threads(self) -> int: ...
    def linear(self, x: _Floats, weight: _Floats, bias: _Floats | None, y: _Floats) -> None: ...
    def linear_backward(  # adds to dweight and dbias; a frozen weight has no dweight and needs no x
        self, dy: _Floats, x: _Maybe, weight: _Floats, dweight: _Maybe, dbias: _Maybe, dx: _Floats
    ) -> None: ...
    def dropout(self, x: _Floats, plus: _Maybe, drop: Drop | None, y: _Floats) -> None: ...  # y may be x or plus
    def norm(self, x: _Floats, weight: _Floats, bias: _Floats | None, eps: float, y: _Floats, stats: _Floats) -> None:
        """Layer norm, or RMS norm where bias is None."""

    def norm_backward(
        self,
        dy: _Floats,
        x: _Floats,
        weight: _Floats,
        stats: _Floats,
        dweight: _Floats,
        dbias: _Floats | None,
        dx: _Floats,
    ) -> None:
        """Adds to dweight and dbias."""

    def activation(self, name: str, x: _Floats, y: _Floats) -> None: ...
    def activation_backward(self, name: str, dy: _Floats, x: _Floats, dx: _Floats) -> None: ...
    def gated_activation(self, name: str, gate_up: _Floats, y: _Floats) -> None: ...
    def gated_activation_backward(self, name: str, dy: _Floats, gate_up: _Floats, dgate_up: _Floats) -> None: ...
    def rope(
        self, qkv: _Floats, n_heads: int, head_dim: int, cos: _Floats, sin: _Floats, interleaved: bool, inverse: bool
    ) -> None: ...
    def attention(self, qkv: _Floats, heads: Heads, out: _Floats, lse: _Floats) -> None: ...
    def attention_backward(
        self, dout: _Floats, qkv: _Floats, out: _Floats, lse: _Floats, heads: Heads, dqkv: _Floats
    ) -> None: ...
    def embedding_backward(self, dx: _Floats, ids: NDArray[np.int32], dweight: _Floats) -> None: ...
    def cross_entropy_rows(
        self,
        products: _Floats,
        targets: NDArray[np.int32],
        scale: float,
        gradient: bool,
        logit_scale: float,
        logit_cap: float,
    ) -> float:
        """The nats of the targets >= 0, of logits that are the products, scaled and capped. With `gradient`, the
        products become the gradient of scale times that sum."""

    def sum_of_squares(self, x: _Floats) -> float: ...
    def adamw(
        self,
        params: _Floats,
        grads: _Floats,
        m: _Floats | NDArray[np.uint16],
        v: _Floats,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        step: int,
        grad_scale: float,
    ) -> None: ...

def cpu_features() -> dict[str, bool]:
    """Each feature that the core asks about, and whether both the CPU and the operating system support it."""

def isa_names() -> list[str]:
    """The kernel tables this machine can run, best first."""

def select_isa(name: str | None) -> str:
    """The table that `name`, else PYGPT_ISA, else the machine chooses. ValueError: unknown, or cannot run here."""

def threads_backends() -> list[str]:
    """The backends of threads that can be used here, "own" or "openmp", the default first."""

def select_threads_backend(name: str | None) -> str:
    """The backend that `name`, else PYGPT_THREADS_BACKEND names, else the default. ValueError: unknown, or it cannot be
    used here."""

def block_formats() -> dict[str, tuple[int, int]]:
    """The types of quantised tensors in GGUF files, by ggml's names: how many values a block has, in how many bytes."""

def split_strings(data: bytes | mmap | NDArray[np.uint8], begin: int, count: int) -> tuple[list[bytes], int]:
    """The strings from byte `begin` on, each behind its length as a little-endian uint64, and where they end.
    ValueError where one does not end in `data`."""

def xxh64(data: NDArray[np.generic], seed: int = 0) -> int:
    """XXH64 of an array's bytes. The GIL is released. ValueError: not C-contiguous."""

def dequantize(name: str, blocks: NDArray[np.uint8]) -> _Floats:
    """Blocks, (n, bytes) contiguous -> (n, values)."""

def usable_cores() -> tuple[int, str]:
    """How many physical cores this process may use, and why: "affinity", "cgroup quota", ..."""

def available_memory() -> int | None:
    """Bytes that this process can still get before the system or a control group has to end it, free swap included;
    None where nobody says."""

def build_info() -> dict[str, str]:
    """version, compiler."""
