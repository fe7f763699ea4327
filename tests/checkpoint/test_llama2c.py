"""llama2.c's files: a real model, word for word what its own documentation says, and every version of the format."""

from __future__ import annotations

import itertools
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt import Model, Tokenizer, checkpoint, reference
from pygpt.checkpoint.llama2c import is_llama2c, read_pieces
from pygpt.errors import CheckpointError

DATA = Path(__file__).parents[1] / "data" / "stories260K"
WEIGHTS, PIECES = DATA / "stories260K.bin", DATA / "tok512.bin"
GREEDY = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, \
red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to play with \
your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she said, "I'm sorry, mom. I didn't know what to do." Her mom said, "Don't worry, \
Lily. We can help you."""  # llama2.c's doc/stories260K.md: ./run stories260K.bin -z tok512.bin -t 0.0, 256 steps


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(WEIGHTS, weights="float32")


def test_word_for_word(model: Model) -> None:
    done = model.generate([1], temperature=0, max_tokens=256)
    assert done.text.lstrip(" ") == GREEDY


def test_log_probabilities_are_the_originals(model: Model) -> None:
    """Those of transformers' Llama in float64 (tests/make_real_goldens.py), within 5e-4 nats."""
    golden = np.load(DATA.parent / "real" / "stories260k.npz")
    assert np.abs(model.score(golden["ids"].tolist()) - golden["log_probs"]).max() <= 5e-4


def test_a_folder_and_a_prompt(model: Model) -> None:
    assert repr(Model.load(DATA).config) == repr(model.config)
    done = model.generate("Once upon a time, there was a little girl named", temperature=0, max_tokens=5)
    assert done.text == " Lily. She loved"


def test_the_reference_agrees(model: Model) -> None:
    config, tensors, _ = checkpoint.read(WEIGHTS)
    ids = model.tokenizer.encode(GREEDY)[:200]
    expected = reference.forward(config, tensors, ids, dtype=np.float64)
    assert np.abs(model.logits(ids) - expected).max() < 1e-5 * np.abs(expected).max()


def test_it_ends_where_run_c_does(model: Model) -> None:
    assert (model.config.bos_id, model.config.eos_ids) == (1, (1, 2))


# --- the tokenizer -------------------------------------------------------------------------------------------------


def as_run_c(text: str) -> list[int]:
    """run.c's encode(): one character after the other, then the best pair again and again."""
    pieces, scores = read_pieces(PIECES)
    ids = {piece: i for i, piece in reversed(list(enumerate(pieces)))}
    tokens = [1, ids[b" "]] if text else [1]
    for c in text:
        raw = c.encode()
        tokens += [ids[raw]] if raw in ids else [b + 3 for b in raw]
    while True:
        pairs = ((pieces[a] + pieces[b], i) for i, (a, b) in enumerate(itertools.pairwise(tokens)))
        best = max(((scores[ids[p]], -i) for p, i in pairs if p in ids), default=None)
        if best is None:
            return tokens
        i = -best[1]
        tokens[i : i + 2] = [ids[pieces[tokens[i]] + pieces[tokens[i + 1]]]]


@pytest.mark.parametrize("text", [GREEDY, "", " ", "  two  spaces ", "é 漢字 🙂", "It's 12:30!\n\n\tTab"])
def test_ids_as_run_c(model: Model, text: str) -> None:
    assert model.tokenizer.encode(text) == as_run_c(text)
    assert model.tokenizer.decode(model.tokenizer.encode(text, add_special=False)) == text


@given(st.text(st.sampled_from("Onceupatimhrwslgd, .'\"\n éあ"), max_size=40))
@settings(deadline=None, max_examples=100)
def test_ids_as_run_c_of_any_text(text: str) -> None:
    pieces, scores = read_pieces(PIECES)
    tokenizer = Tokenizer.from_pieces(pieces, scores, bos_id=1, eos_id=2, source="tok512.bin")
    assert tokenizer.encode(text) == as_run_c(text)


def write_pieces(path: Path, pieces: list[tuple[float, bytes]]) -> None:
    longest = max((len(piece) for _, piece in pieces), default=0)
    entries = b"".join(struct.pack("<fI", score, len(piece)) + piece for score, piece in pieces)
    path.write_bytes(struct.pack("<I", longest) + entries)


def test_which_tokenizer(tmp_path: Path) -> None:
    shutil.copy(WEIGHTS, tmp_path)
    assert checkpoint.read(tmp_path)[2] is None
    write_pieces(tmp_path / "tokenizer.bin", [(0.0, b"a")])
    with pytest.raises(CheckpointError, match=r"has 512 tokens, but beside it is tokenizer\.bin with 1$"):
        checkpoint.read(tmp_path)
    shutil.copy(PIECES, tmp_path)
    tokenizer = checkpoint.read(tmp_path)[2]
    assert tokenizer is not None
    assert tokenizer.encode("the", add_special=False) == as_run_c("the")[1:]


@pytest.mark.parametrize("data", [b"", b"\1\0", b"\1\0\0\0abc", struct.pack("<IfI", 1, 0.0, 2) + b"ab"])
def test_damaged_tokenizers(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "tok.bin").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"tok\.bin: not a tokenizer of llama2\.c"):
        read_pieces(tmp_path / "tok.bin")


# --- versions of the file ------------------------------------------------------------------------------------------


def tensors_of(path: Path) -> dict[str, Any]:
    return {name: np.asarray(tensor) for name, tensor in checkpoint.read(path)[1].items()}


def interleaved(rows: Any) -> Any:
    """The order that llama2.c stores the rows of q and k in: pairs of a head as neighbours; heads are 8 wide."""
    return rows.reshape(-1, 2, 4, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def write(path: Path, tensors: Mapping[str, Any], version: int, group: int = 16) -> None:
    """export.py's versions 1 and 2, and run.c's first format (0), untied where there is a head."""
    shared = "head.weight" not in tensors
    sizes = [64, 172, 5, 8, 4, 512, 512]

    def layers(name: str) -> list[Any]:
        found = [tensors[f"blocks.{i}.{name}.weight"] for i in range(5)]
        return [interleaved(a) for a in found] if name in ("attn.q", "attn.k") else found

    attention = [a for name in ("q", "k", "v", "out") for a in layers(f"attn.{name}")]
    mlp = [a for name in ("gate", "down", "up") for a in layers(f"mlp.{name}")]
    norms = layers("attn_norm"), layers("mlp_norm"), [tensors["norm.weight"]]
    embed, head = [tensors["embed.weight"]], [] if shared else [tensors["head.weight"]]
    if version:
        header = struct.pack("<4si7iBi", b"24ka", version, *sizes, shared, group).ljust(256, b"\0")
        order = [*norms[0], *norms[1], *norms[2], *embed, *attention, *mlp, *head]
    else:
        header = struct.pack("<7i", *sizes[:5], sizes[5] if shared else -sizes[5], sizes[6])
        order = [*embed, *norms[0], *attention, *norms[1], *mlp, *norms[2], np.zeros((2, 512, 4), np.float32), *head]
    data = b""
    for a in order:
        if version < 2 or a.ndim == 1:
            data += np.ascontiguousarray(a, "<f4").tobytes()
            continue
        groups = np.ascontiguousarray(a).reshape(-1, group)
        scales = (np.abs(groups).max(axis=1, keepdims=True) / 127).astype("<f4")
        data += np.round(groups / scales).astype(np.int8).tobytes() + scales.tobytes()
    path.write_bytes(header + data)


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("untied", [False, True])
def test_versions_in_float32(tmp_path: Path, version: int, untied: bool) -> None:
    expected = tensors_of(WEIGHTS)
    if untied:
        expected["head.weight"] = 2 * expected["embed.weight"]
    write(tmp_path / "model.bin", expected, version)
    config, got, _ = checkpoint.read(tmp_path)
    assert config.tied_head == (not untied)
    assert got.keys() == expected.keys()
    for name, tensor in got.items():
        np.testing.assert_array_equal(np.asarray(tensor), expected[name])
    if version == 0 and not untied:  # but for the tables of angles, which nobody reads
        assert len((tmp_path / "model.bin").read_bytes()) == WEIGHTS.stat().st_size


@pytest.mark.parametrize("group", [16, 64])
def test_the_version_in_int8(tmp_path: Path, group: int) -> None:
    expected = tensors_of(WEIGHTS)
    write(tmp_path / "model.bin", expected, 2, group)
    _, got, _ = checkpoint.read(tmp_path / "model.bin")
    for name, tensor in got.items():
        values = np.asarray(tensor)
        step = np.abs(expected[name]).max() / 127
        assert np.abs(values - expected[name]).max() <= (0.51 * step if values.ndim == 2 else 0), name


def header(*sizes: int, size: int = 2000) -> bytes:
    return struct.pack("<7i", *sizes).ljust(size, b"\0")


@pytest.mark.parametrize(
    "data",
    [
        header(64, 172, 5, 8, 4, 512, 512),  # shorter than its sizes say
        header(2**31 - 1, 2**31 - 1, 65_000, 1, 1, 2**31 - 1, 2**31 - 1),
        header(64, 172, 2**31 - 1, 8, 4, 512, 512),
        header(64, 172, 5, 0, 4, 512, 512),
        header(64, 172, 5, 8, 3, 512, 512),
        header(64, 172, 5, 8, -4, 512, 512),
        b"",
        b"24ka",
        struct.pack("<4si7iBi", b"24ka", 3, 64, 172, 5, 8, 4, 512, 512, 1, 64).ljust(256, b"\0"),
        struct.pack("<4si7iBi", b"24ka", 2, 64, 172, 5, 8, 4, 512, 512, 1, 0).ljust(256, b"\0"),
        struct.pack("<4si7iBi", b"24ka", 1, 64, 172, 5, 8, 4, 512, 512, 1, 0).ljust(256, b"\0"),
        # groups that do not make up a matrix, in a file of just the bytes that whole groups would take
        struct.pack("<4si7iBi", b"24ka", 2, 64, 96, 1, 4, 4, 32, 16, 1, 48).ljust(256 + 4 * 3 * 64 + 39_936, b"\0"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    assert is_llama2c(path) == data.startswith(b"24ka")
    with pytest.raises(CheckpointError, match=r"model\.bin: (not a whole file of llama2\.c|expected a \.safetensors)"):
        checkpoint.read(path)
