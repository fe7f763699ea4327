"""Documents side by side in one sequence, as if each stood alone: attention within each, positions from 0 in each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pygpt.training.dropout import of_rows
from pygpt.training.primitives import Array, Heads, Ids, Primitives


def documents(positions: Ids) -> tuple[slice, ...]:
    """The rows of each document, given the position of each token in its own, (B, T): from 0 on, and 0 at the start of
    each of the B sequences. ValueError for other ones."""
    flat = positions.reshape(-1)
    starts = np.flatnonzero(flat == 0)
    if not positions.size or np.any(positions[:, 0] != 0):
        raise ValueError("positions must be 0 at the start of each sequence")
    ends = np.append(starts[1:], len(flat))
    if np.any(flat != np.arange(len(flat)) - np.repeat(starts, ends - starts)):
        raise ValueError("positions must count each document's tokens from 0")
    return tuple(slice(int(a), int(b)) for a, b in zip(starts, ends, strict=True))


def attention(primitives: Primitives, qkv: Array, heads: Heads, apart: tuple[slice, ...] | None) -> tuple[Array, Array]:
    """`primitives.attention` within each of the documents whose rows are given; None: within whole sequences. The same
    bits as for a document alone, whatever stands beside it."""
    if apart is None:
        return primitives.attention(qkv, heads)
    outs = []
    lse = np.empty((heads.n_batch, heads.n_head, len(qkv) // heads.n_batch), qkv.dtype)
    for rows, of_lse, alone in _each(heads, apart, lse):
        out, of_lse[...] = primitives.attention(qkv[rows], alone)
        outs.append(out)
    return np.concatenate(outs), lse


def attention_backward(
    primitives: Primitives,
    dout: Array,
    qkv: Array,
    out: Array,
    lse: Array,
    heads: Heads,
    apart: tuple[slice, ...] | None,
) -> Array:
    """The backward pass of `attention`, with its arguments and what it returned."""
    if apart is None:
        return primitives.attention_backward(dout, qkv, out, lse, heads)
    return np.concatenate(
        [
            primitives.attention_backward(dout[rows], qkv[rows], out[rows], np.ascontiguousarray(of_lse), alone)
            for rows, of_lse, alone in _each(heads, apart, lse)
        ]
    )


def _each(heads: Heads, apart: tuple[slice, ...], lse: Array) -> Iterator[tuple[slice, Array, Heads]]:
    """Of each document: its rows, its part of lse (1, H, t), and its heads, with the mask of its rows."""
    n_token = lse.shape[2]
    for rows in apart:
        b, start = divmod(rows.start, n_token)
        columns = slice(start, start + rows.stop - rows.start)
        drop = None if heads.drop is None else of_rows(heads.drop, b * heads.n_head, start)
        yield rows, lse[b : b + 1, :, columns], heads._replace(n_batch=1, drop=drop)
