"""Sessions on disk: they go on to the same bits on any instruction set, and no damaged or foreign file is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from pygpt import Model, _core
from pygpt.errors import CheckpointError
from pygpt.generation import cache_file
from pygpt.generation.session import Session, load_session


def new_session(cores: Any, name: str, *formats: str, **options: Any) -> Session:
    engine = cores.engine(name, *formats, **options)
    return Session(engine, cores.configs[name], engine.session(), np.empty(0, np.int32))


def load(cores: Any, path: Path, name: str, *formats: str, **options: Any) -> Session:
    return load_session(path, cores.engine(name, *formats, **options), cores.configs[name])


@pytest.mark.parametrize("name", ["gpt2", "windows"])
@pytest.mark.parametrize("n", [1, 64, 130, 650])
def test_a_loaded_session_goes_on(cores: Any, tmp_path: Path, name: str, n: int, formats: tuple[str, str]) -> None:
    session = new_session(cores, name, *formats)
    session.append(cores.ids(name, n))
    session.save(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    loaded = load(cores, tmp_path / "s", name, *formats)
    assert loaded.tokens.tolist() == cores.ids(name, n).tolist()
    other, more = loaded.fork(), cores.ids(name, 40, 2)
    expected = session.append(more)
    assert cores.same(loaded.append(more), expected)
    assert cores.same(other.append(more), expected)
    loaded.truncate(n)
    assert cores.same(loaded.append(more), expected)


@pytest.mark.parametrize(
    ("name", "kv"), [("windows", "float32"), ("windows", "float16"), ("windows", "int8"), ("interleaved", "int8")]
)
def test_the_file_is_the_same_on_every_instruction_set(cores: Any, tmp_path: Path, name: str, kv: str) -> None:
    """And whatever lay in the memory before: nothing of another text is in it."""
    files = []
    for isa in _core.isa_names():
        session = new_session(cores, name, "int8", kv, isa=isa, threads=1)
        session.append(cores.ids(name, 400, 7))
        session.truncate(330)
        session.truncate(0)
        session.append(cores.ids(name, 330))
        session.save(tmp_path / isa)
        files.append((tmp_path / isa).read_bytes())
        assert load(cores, tmp_path / isa, name, "int8", kv).length == 330
    assert all(file == files[0] for file in files)


def test_tokens_follow_the_session(model: Model, tmp_path: Path) -> None:
    session = model.session()
    assert session.tokens.shape == (0,)
    session.save(tmp_path / "empty")
    assert model.load_session(tmp_path / "empty").length == 0
    session.append([1, 2, 3])
    fork = session.fork()
    session.append([4])
    with pytest.raises(ValueError, match="outside the vocabulary"):
        session.append([1000])
    session.truncate(2)
    fork.append([9])
    assert (session.tokens.tolist(), fork.tokens.tolist()) == ([1, 2], [1, 2, 3, 9])
    fork.tokens[0] = 5  # a copy
    assert fork.tokens.tolist() == [1, 2, 3, 9]
    fork.save(tmp_path / "empty")  # in the place of what is there
    assert model.load_session(tmp_path / "empty").tokens.tolist() == [1, 2, 3, 9]


def test_a_file_of_another_model_is_refused(cores: Any, tmp_path: Path) -> None:
    session = new_session(cores, "llama", "int8", "float16")
    session.append(cores.ids("llama", 128))
    session.save(tmp_path / "s")
    for name, formats, message in (
        ("scaled", ("int8", "float16"), "of a model of another configuration"),
        ("llama", ("float32", "float16"), "of a model with other weights"),
        ("llama", ("int8", "int8"), "its keys and values are in the format 'float16', and the model's in 'int8'"),
    ):
        with pytest.raises(CheckpointError, match=message):
            load(cores, tmp_path / "s", name, *formats)
    tensors = load_file(tmp_path / "s")
    with safe_open(tmp_path / "s", "np") as file:
        metadata = file.metadata()
    for key, value, message in (
        ("format", "pt", "no session that pygpt saved"),
        ("version", "2", "of version '2' of this kind of file, and this pygpt reads '3'"),
        ("pygpt", "0.0.1", "written by pygpt '0.0.1', whose results may differ"),
        ("more", "x", "damaged: check 'more' in its metadata; delete it to begin anew"),
    ):
        save_file(tensors, tmp_path / "t", {**metadata, key: value})
        with pytest.raises(CheckpointError, match=message):
            load(cores, tmp_path / "t", "llama", "int8", "float16")
    sequence = (session.tokens, session._core)
    engine = cores.engine("llama", "int8", "float16")
    cache_file.write(tmp_path / "two", engine, cores.configs["llama"], [sequence, sequence])
    assert (tmp_path / "two").stat().st_size < 1.1 * (tmp_path / "s").stat().st_size + 4096  # the pages once
    with pytest.raises(CheckpointError, match="holds 2 sessions"):
        load(cores, tmp_path / "two", "llama", "int8", "float16")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load(cores, tmp_path / "none", "llama", "int8", "float16")
    with pytest.raises(OSError, match=f"No such file or directory: '{tmp_path}/none/s'$"):
        session.save(tmp_path / "none" / "s")


def rewrite(path: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    """Change a file's tensors, and give it the checksum of these."""
    tensors = load_file(path)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
    change(tensors)
    checksum = 0
    for name in sorted(tensors):
        checksum = cache_file._add(checksum, name, tensors[name])
    save_file(tensors, path, {**metadata, "checksum": f"{checksum:016x}"})


def test_a_page_of_another_layout_is_refused(cores: Any, tmp_path: Path) -> None:
    """Version 1 had also a first layer of biased keys that turn in int8: such a page is not read as another layer's."""
    session = new_session(cores, "interleaved", "int8", "int8")
    session.append(cores.ids("interleaved", 130))
    session.save(tmp_path / "s")
    older = 64 * 2 * 3 * 2 * (16 + 4)  # positions, layers, heads, keys and values, their numbers and scales
    assert load_file(tmp_path / "s")["page.0"].size > older
    rewrite(tmp_path / "s", lambda t: t.update({n: a[:older] for n, a in t.items() if n.startswith("page.")}))
    with pytest.raises(CheckpointError, match=rf"damaged: {older} bytes are no page of class 0.*delete it to begin"):
        load(cores, tmp_path / "s", "interleaved", "int8", "int8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"tokens.0": t["tokens.0"] + 1000}), "outside the vocabulary"),
        (lambda t: t.update({"tokens.0": t["tokens.0"][:-10]}), "not the pages of a sequence of 120 tokens"),
        (lambda t: t.update({"tokens.0": np.zeros(1000, np.int32)}), "context does not hold 1000 tokens"),
        (lambda t: t.update({"tokens.0": t["tokens.0"].astype(np.int64)}), "'tokens.0' should not be there"),
        (lambda t: t.update({"more": t["tokens.0"]}), "'more' should not be there"),
        (lambda t: t.pop("tokens.0"), "holds 0 sessions"),
        (lambda t: t.pop("pages.0.0"), "not the pages of a sequence"),
        (lambda t: t.pop("page.1"), "page.1"),
        (lambda t: t.update({"page.1": t["page.1"][:-1]}), "bytes are no page of class"),
        (lambda t: t["pages.0.0"].fill(99), "page.99"),
        (lambda t: t["pages.0.0"].fill(-2), "page.-2"),
        (lambda t: t["pages.0.0"].fill(-1), "not the pages of a sequence"),
        (lambda t: t.update({"pages.0.0": np.full(2**20, -1, np.int32)}), "not the pages of a sequence"),
    ],
)
def test_a_hostile_file_is_refused(
    cores: Any, tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], message: str
) -> None:
    session = new_session(cores, "windows", "int8", "int8")
    session.append(cores.ids("windows", 130))
    session.save(tmp_path / "s")
    rewrite(tmp_path / "s", change)
    with pytest.raises(CheckpointError, match=message):
        load(cores, tmp_path / "s", "windows", "int8", "int8")


def test_no_damage_is_overlooked(cores: Any, tmp_path: Path) -> None:
    """Bits that are flipped, bytes that are changed, files that are cut or grew."""
    session = new_session(cores, "windows", "int8", "int8")
    session.append(cores.ids("windows", 70))
    session.save(tmp_path / "s")
    good, rng = (tmp_path / "s").read_bytes(), np.random.default_rng(0)
    header = 8 + int.from_bytes(good[:8], "little")
    places = [*rng.integers(0, header, 400), *rng.integers(header, len(good), 200)]
    damaged = [good[:n] for n in (0, 7, 8, 9, header - 1, header, header + 5, len(good) - 1)] + [good + b"\0"]
    for place in places:
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(bad))
    more = cores.ids("windows", 3, 2)
    for data in damaged:
        (tmp_path / "s").write_bytes(data)
        with pytest.raises(CheckpointError):
            load(cores, tmp_path / "s", "windows", "int8", "int8")
    (tmp_path / "s").write_bytes(good)
    assert cores.same(load(cores, tmp_path / "s", "windows", "int8", "int8").append(more), session.append(more))


def test_the_hash_is_the_published_one() -> None:
    """https://github.com/Cyan4973/xxHash: values of its specification's reference."""

    def xxh64(text: bytes, seed: int = 0) -> int:
        return _core.xxh64(np.frombuffer(text, np.uint8), seed)

    assert xxh64(b"") == 0xEF46DB3751D8E999
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    assert len({xxh64(bytes(n), seed) for n in range(100) for seed in (0, 1)}) == 200
    with pytest.raises(ValueError, match="C-contiguous"):
        _core.xxh64(np.zeros((4, 4))[:, ::2])


def test_a_fingerprint_is_of_the_weights(cores: Any) -> None:
    fingerprint = cores.engine("llama", "int8", "int8").fingerprint()
    assert fingerprint == cores.engine("llama", "int8", "float16").fingerprint()
    assert fingerprint == cores.engine("llama", "int8", "int8", isa="scalar", threads=1).fingerprint()
    others = [cores.engine(name, "int8", "int8").fingerprint() for name in ("gpt2", "windows", "sandwich")]
    assert fingerprint not in others


def test_pages_that_do_not_fit_are_refused(cores: Any) -> None:
    engine = cores.engine("windows", "int8", "int8")
    session = engine.session()
    engine.forward([(session, cores.ids("windows", 130))])
    pages = session.pages()
    assert engine.restore(130, pages).length == 130
    assert engine.restore(0, [[] for _ in pages]).length == 0
    page = pages[0][0]
    assert page is not None
    assert not page.array().flags.writeable
    for length, wrong in ((-1, pages), (129, pages[:-1]), (200, pages), (130, [[None] * 3] * 4), (701, pages)):
        with pytest.raises(ValueError, match=r"not the pages of a sequence|must not be negative|does not hold 701"):
            engine.restore(length, wrong)
    with pytest.raises(ValueError, match="no page of class 9"):
        engine.page(9, page.array())
    with pytest.raises(ValueError, match="contents must be a C-contiguous array of uint8"):
        engine.page(0, page.array().view(np.int8))
    engine.forward([(session, cores.ids("windows", 5))])  # the page that is held is not written to
    held = [np.array(p.array()) for of_class in pages for p in of_class if p is not None]
    engine.forward([(session, cores.ids("windows", 80))])
    now = [p.array() for of_class in pages for p in of_class if p is not None]
    assert all(np.array_equal(a, b) for a, b in zip(held, now, strict=True))
