"""What int8 costs in accuracy: formats simulated in NumPy, and the format that pygpt runs, beside float32.

    python bench/accuracy.py SmolLM2-135M-Instruct.Q4_1.gguf TEXTS                            the table of formats
    python bench/accuracy.py SmolLM2-135M-Instruct.Q4_1.gguf TEXTS --tokens 50000 --core int8 --format "32, 32: Q8_0"

TEXTS is a folder with the files of MIXTURE. Windows of 1024 tokens, or the model's context where that is less, are cut
at even distances from each file in turn. All logits of a window are compared with those of pygpt's float32: the mean
Kullback-Leibler divergence of the next token's distribution, the rise of the mean loss, both in nats, and the share of
positions with the same likeliest token. +- is the standard error of the mean over windows; only the windows differ
from run to run, so ratios of two formats' divergences are much surer than each.

A simulated format rounds the weights and the inputs of every linear layer, of the head and of the embedding, and keys
and values to float16, then computes in float32 with pygpt's NumPy reference.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import pygpt
from pygpt import checkpoint, reference
from pygpt.engine import check_options, of_arrays

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Logits = Callable[[Ids], Floats]

MIXTURE = [
    "state_of_the_union.txt",
    "austen/prideprejudice.txt",
    "moby_dick.txt",
    "world_english_bible.txt",
    "paradise_lost.txt",
    "shakespeare/hamlet.txt",
    "alice.txt",
]
CHUNK = 8  # windows whose float32 logits are kept at a time
ROW = 1 << 30  # a group as long as the row


@dataclass(frozen=True)
class Format:
    """Symmetric int8: a scale = absmax / 127 for each group of neighbours along the inputs of a matrix."""

    weights: int = 128  # values in a group; ROW: one scale per output channel
    inputs: int = 128  # ROW: one scale per token; 0: inputs stay float32
    rotation: int = 128  # the block of the Hadamard matrix that both sides are multiplied by before; 0: none
    scales: str = "bfloat16"  # of the weights; those of inputs are float32
    digits: int = 1  # of the inputs; 2: x = s (128 high + low)
    signs: bool = False  # flip the signs of random inputs before the rotation
    search: bool = False  # choose the weights' scales by the squared error
    lookup: bool = True  # the embedding's look-up reads the head's int8 rows


Q8_0 = "32, 32: Q8_0"
FORMATS = {
    Q8_0: Format(32, 32, 0, "float16"),
    "128, 128, Hadamard 128: pygpt": Format(),
    "... weights alone rounded": Format(inputs=0),
    "... two digits": Format(digits=2),
    "... float32 scales": Format(scales="float32"),
    "... float32 look-up": Format(lookup=False),
    "... scales by squared error": Format(search=True),
    "... random signs first": Format(signs=True),
    "128, 128": Format(rotation=0),
    "256, 256, Hadamard 256": Format(256, 256, 256),
    "128, 128, Hadamard 256": Format(rotation=256),
    "64, 128, Hadamard 128": Format(weights=64),
    "64, 64, Hadamard 128": Format(64, 64),
    "64, 64, Hadamard 64": Format(64, 64, 64),
    "32, 128, Hadamard 128": Format(weights=32),
    "row, row": Format(ROW, ROW, 0),
}


def blocks(k: int, block: int) -> list[int]:
    """The sizes of the rotation's blocks; the last is the smallest power of two from 64 on that holds the rest."""
    whole, rest = divmod(k, block)
    return [block] * whole + [min(block, max(64, 1 << (rest - 1).bit_length()))] * (rest > 0)


@functools.cache
def hadamard(n: int) -> Floats:
    """The orthonormal one, (n, n), its own inverse."""
    h = np.ones((1, 1), np.float32)
    while len(h) < n:
        h = np.block([[h, h], [h, -h]])
    unit: Floats = h / np.float32(math.sqrt(n))
    return unit


def rotated(x: Floats, sizes: list[int]) -> Floats:
    """Blocks of the last axis times the Hadamard matrix of their size; zeros fill the last block."""
    out = np.zeros((*x.shape[:-1], sum(sizes)), np.float32)
    out[..., : x.shape[-1]] = x
    whole = sizes.count(sizes[0]) * sizes[0]
    for part, size in ((out[..., :whole], sizes[0]), (out[..., whole:], sizes[-1])):
        part[...] = (part.reshape(-1, size) @ hadamard(size)).reshape(part.shape)
    return out


def as_stored(scale: Floats, kind: str) -> Floats:
    """Scales as they are kept; bfloat16 is rounded up, so that no value leaves [-127, 127]."""
    if kind == "bfloat16":
        up: Floats = ((scale.view(np.uint32) + np.uint32(0xFFFF)) & np.uint32(0xFFFF0000)).view(np.float32)
        return up
    return scale.astype(np.float16).astype(np.float32) if kind == "float16" else scale


def rounded(x: Floats, group: int, kind: str = "float32", largest: int = 127, search: bool = False) -> Floats:
    """x with each group of its last axis as integers up to `largest` times a scale; the last group may be shorter."""
    k = x.shape[-1]
    group = min(group, k)
    whole = k // group * group
    out = np.empty_like(x)
    for part, into, size in ((x[..., :whole], out[..., :whole], group), (x[..., whole:], out[..., whole:], k - whole)):
        if not part.size:
            continue
        v = part.reshape(-1, size)
        exact = np.abs(v).max(axis=-1, keepdims=True) / np.float32(largest)
        exact[exact == 0] = 1
        scale = searched(v, exact, kind) if search else as_stored(exact, kind)
        # Q8_0 divides by the scale before it is rounded to float16.
        q = np.rint(v / (exact if kind == "float16" else scale))
        into[...] = (np.clip(q, -largest, largest, out=q) * scale).reshape(part.shape)
    return out


def searched(v: Floats, exact: Floats, kind: str) -> Floats:
    """For each row of v, which of some scales up to `exact` leaves the least squared error in int8."""
    best, least = exact, np.full_like(exact, np.inf)
    for share in np.linspace(0.75, 1, 11, dtype=np.float32):
        scale = as_stored(exact * share, kind)
        error = np.square(np.clip(np.rint(v / scale), -127, 127) * scale - v).sum(axis=-1, keepdims=True)
        best = np.where(error < least, scale, best)
        least = np.minimum(error, least)
    return best


class Simulated:
    """The model of a checkpoint in a format; called with token ids (T,), it gives the logits (T, V)."""

    def __init__(self, config: pygpt.ModelConfig, tensors: Mapping[str, Floats], form: Format) -> None:
        self.config, self.format = config, form
        self.tensors = dict(tensors)
        self.matrices = {
            name.removesuffix(".weight"): rounded(self._turned(w), form.weights, form.scales, search=form.search)
            for name, w in tensors.items()
            if is_matrix(name, w)
        }
        if form.lookup:
            self.tensors["embed.weight"] = self._turned_back(self.matrices["embed"], config.n_embd)
        self._last: tuple[Floats, Floats] | None = None

    def __call__(self, ids: Ids) -> Floats:
        attention = reference.causal_attention

        def with_float16_cache(q: Any, k: Any, v: Any, layer: Any, sinks: Any = None) -> Any:
            k, v = (x.astype(np.float16).astype(np.float32) for x in (k, v))
            return attention(q, k, v, layer, sinks)

        with (
            mock.patch.object(reference, "linear", self._linear),
            mock.patch.object(reference, "causal_attention", with_float16_cache),
        ):
            return reference.forward(self.config, self.tensors, ids, dtype=np.float32)

    def _signs(self, k: int) -> Floats:
        return np.where(self.format.signs & (np.random.default_rng(k).random(k) < 0.5), -1, 1).astype(np.float32)

    def _turned(self, x: Floats) -> Floats:
        k = x.shape[-1]
        return rotated(x * self._signs(k), blocks(k, self.format.rotation)) if self.format.rotation else x

    def _turned_back(self, x: Floats, k: int) -> Floats:
        if not self.format.rotation:
            return x
        return rotated(x, blocks(k, self.format.rotation))[..., :k] * self._signs(k)

    def _inputs(self, x: Floats) -> Floats:
        """What a matrix multiplies for x (T, k); queries, keys and values share theirs, as do gate and up."""
        if self._last is None or self._last[0] is not x:
            turned = self._turned(x)
            if self.format.inputs:
                largest = 127 if self.format.digits == 1 else 127 * 128
                turned = rounded(turned, self.format.inputs, largest=largest)
            self._last = x, turned
        return self._last[1]

    def _linear(self, x: Floats, tensors: Mapping[str, Floats], name: str) -> Floats:
        y: Floats = self._inputs(x) @ self.matrices[name].T
        return y + tensors[f"{name}.bias"] if f"{name}.bias" in tensors else y

    def bytes_per_weight(self) -> float:
        """Of the matrices: padding and scales included."""
        kept = weights = 0.0
        for name, matrix in self.matrices.items():
            n, k = self.tensors[f"{name}.weight"].shape
            groups = math.ceil(matrix.shape[1] / self.format.weights)
            kept += n * (matrix.shape[1] + groups * (4 if self.format.scales == "float32" else 2))
            weights += n * k
        return kept / weights


def is_matrix(name: str, w: Floats) -> bool:
    return w.ndim == 2 and name != "pos.weight"


def off_grid(w: Floats) -> Floats:
    """w (n, k), each value moved by a random amount of up to half a step of Q8_0.

    The GGUF of SmolLM2 holds Q8_0 and Q4_1 already: in Q8_0 the former is free and the latter cheap. A checkpoint
    that was trained in floating point has no such grid.
    """
    step = np.abs(w.reshape(-1, 32)).max(axis=-1, keepdims=True) / np.float32(127)
    noise = np.random.default_rng(0).random((len(step), 32), np.float32) - np.float32(0.5)
    moved: Floats = w + (step * noise).reshape(w.shape)
    return moved


def core_logits(config: pygpt.ModelConfig, tensors: Mapping[str, Floats], weights: Any, kv: Any) -> Logits:
    """pygpt's own, with weights and a cache of these formats."""
    made = of_arrays(config, tensors, weights, kv, *check_options(None, None, None, None, None))
    engine = made.engine
    return lambda ids: engine.forward([(engine.session(), ids.astype(np.int32))], output="all")[0]


def windows(tokenizer: pygpt.Tokenizer, folder: Path, size: int, tokens: int) -> Iterator[Ids]:
    """At least `tokens` tokens in windows of `size`, from each file of MIXTURE in turn, from the start of a line on."""
    each = math.ceil(tokens / size / len(MIXTURE))
    texts = [(folder / name).read_text(encoding="utf-8") for name in MIXTURE]
    for i in range(each):
        for text in texts:
            start = text.index("\n", int(len(text) * (i + 0.5) / each)) + 1
            ids = tokenizer.encode(text[start : start + 8 * size])[:size]
            if len(ids) < size:
                raise SystemExit(f"a text is too short for {each} windows of {size} tokens")
            yield np.array(ids)


def log_softmax(logits: Floats) -> Floats:
    shifted: Floats = logits - logits.max(axis=-1, keepdims=True)
    normal: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normal


def compare(expected: Floats, logits: Floats, ids: Ids) -> tuple[float, float, float]:
    """Of one window, given float32's log-probabilities (T, V): divergence, rise of the loss, share of equal choices."""
    found, position = log_softmax(logits), np.arange(len(ids) - 1)
    divergence = np.einsum("tv,tv->t", np.exp(expected), expected - found).mean()
    rise = (expected[position, ids[1:]] - found[position, ids[1:]]).mean()
    return float(divergence), float(rise), float((expected.argmax(-1) == found.argmax(-1)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint, or tiny")
    parser.add_argument("texts", type=Path, help="the folder of the texts")
    parser.add_argument("--tokens", type=int, default=7 * 1024, help="at least so many")
    parser.add_argument("--format", action="append", choices=[*FORMATS, "none"], help="simulate only these")
    parser.add_argument("--core", action="append", default=[], help="measure pygpt with these weights as well")
    parser.add_argument("--kv", action="append", help="and with caches of these formats; default: float16")
    parser.add_argument("--off-grid", action="store_true", help="first move the weights off the grid of the file")
    args = parser.parse_args()
    config, lazy, tokenizer = checkpoint.read(checkpoint.locate(args.model))
    assert tokenizer is not None
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in lazy.items()}
    cut = list(windows(tokenizer, args.texts, min(1024, config.n_ctx), args.tokens))
    if args.off_grid:
        tensors = {name: off_grid(w) if is_matrix(name, w) else w for name, w in tensors.items()}
    exact = core_logits(config, tensors, "float32", "float32")
    core = {
        f"pygpt {weights}, {kv} cache": core_logits(config, tensors, weights, kv)
        for weights in args.core
        for kv in args.kv or ["float16"]
    }
    results: dict[str, list[tuple[float, float, float]]] = {}
    size: dict[str, float] = {}
    loss = []
    for at in range(0, len(cut), CHUNK):
        chunk = cut[at : at + CHUNK]
        expected = [log_softmax(exact(ids)) for ids in chunk]
        loss += [-e[np.arange(len(ids) - 1), ids[1:]].mean() for e, ids in zip(expected, chunk, strict=True)]
        for name in [*core, *(name for name in args.format or FORMATS if name != "none")]:
            model: Logits
            if name in core:
                model = core[name]
            else:
                model = simulated = Simulated(config, tensors, FORMATS[name])
                size[name] = simulated.bytes_per_weight()
            new = [compare(e, model(ids), ids) for e, ids in zip(expected, chunk, strict=True)]
            results.setdefault(name, []).extend(new)
            print(f"{at + len(chunk)} windows: {name} {np.mean(results[name], axis=0)}", flush=True)
    print(f"\n{sum(map(len, cut))} tokens in windows of {len(cut[0])}; float32's loss {np.mean(loss):.4f}\n")
    print("| format | bytes | KL | of Q8_0's | loss | top 1 |\n|---|---|---|---|---|---|")
    base = np.mean([r[0] for r in results[Q8_0]]) if Q8_0 in results else math.nan
    for name, rows in results.items():
        mean, error = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1) / math.sqrt(len(rows))
        print(
            f"| {name} | {size.get(name, math.nan):.3f} | {mean[0]:.2e} +-{error[0]:.0e} | {mean[0] / base:.2f} "
            f"| {mean[1]:+.4f} +-{error[1]:.4f} | {mean[2]:.4f} |"
        )


if __name__ == "__main__":
    main()
