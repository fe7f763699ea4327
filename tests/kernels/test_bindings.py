"""The edges of the core's Python interface: tensors in any layout, wrong tensors, the choice of instruction set."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import LayerConfig, ModelConfig

CONFIG = ModelConfig(
    n_vocab=37, n_ctx=20, n_embd=24, n_head=3, n_kv_head=1, head_dim=8, n_inner=19, norm="layer_norm",
    norm_eps=1e-5, activation="silu", gated_mlp=True, qkv_bias=True, attn_out_bias=True, mlp_bias=True,
    learned_positions=True, layers=(LayerConfig(attn_scale=0.3),), tied_head=False,
)  # fmt: skip
IDS = np.arange(12, dtype=np.int32)
Array = NDArray[np.float32]


def tensors() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in CONFIG.tensor_shapes().items()}


def new_builder() -> _core.EngineBuilder:
    return _core.EngineBuilder(CONFIG, weights="float32", kv="float32", threads=2, isa=None)


def logits(arrays: dict[str, tuple[NDArray[np.generic], str]]) -> Array:
    builder = new_builder()
    for name, (array, dtype) in arrays.items():
        builder.add(name, array, dtype)  # type: ignore[arg-type]
    engine = builder.build()
    return engine.forward([(engine.session(), IDS)], output="all")[0]


def reversed_memory(a: Array) -> Array:
    """The same values, stored back to front."""
    flip = (slice(None, None, -1),) * a.ndim
    view: Array = np.ascontiguousarray(a[flip])[flip]
    return view


def every_other(a: Array) -> Array:
    """The same values with a stranger between each two."""
    wide = np.full([2 * n for n in a.shape], 1e9, np.float32)
    view: Array = wide[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


@pytest.mark.parametrize("layout", [np.asfortranarray, reversed_memory, every_other])
def test_strides_do_not_matter(layout) -> None:  # type: ignore[no-untyped-def]
    expected = logits({name: (a, "float32") for name, a in tensors().items()})
    assert np.isfinite(expected).all()
    views = {name: (layout(a), "float32") for name, a in tensors().items()}
    assert np.array_equal(logits(views), expected)


def test_halves_and_bfloat16s_are_their_float32_values() -> None:
    halves = {name: a.astype(np.float16) for name, a in tensors().items()}
    expected = logits({name: (a.astype(np.float32), "float32") for name, a in halves.items()})
    assert np.array_equal(logits({name: (a, "float16") for name, a in halves.items()}), expected)
    bits = {name: (a.view(np.uint32) >> 16).astype(np.uint16) for name, a in tensors().items()}
    values = {name: (a.astype(np.uint32) << 16).view(np.float32) for name, a in bits.items()}
    expected = logits({name: (a, "float32") for name, a in values.items()})
    assert np.array_equal(logits({name: (a, "bfloat16") for name, a in bits.items()}), expected)


@pytest.mark.parametrize(
    ("name", "array", "dtype", "message"),
    [
        ("embed.bias", np.zeros(37, np.float32), "float32", "no tensor 'embed.bias'"),
        ("embed.weight", np.zeros((24, 37), np.float32), "float32", r"shape \(37, 24\), not \(24, 37\)"),
        ("norm.weight", np.zeros(25, np.float32), "float32", r"shape \(24,\), not \(25,\)"),
        ("norm.weight", np.zeros(24, np.float64), "float32", "array of float32, not float64"),
        ("norm.weight", np.zeros(24, np.float16), "bfloat16", "array of uint16, not float16"),
        ("norm.weight", np.zeros(24, ">f4"), "float32", "array of float32, not >f4"),
        ("norm.weight", np.zeros(24, np.float32), "int8", "int8.*'float32', 'float16', 'bfloat16'"),
        ("norm.weight", np.zeros((1, 1, 24), np.float32), "float32", "1 or 2 dimensions, not 3"),
        ("norm.weight", np.array(1, np.float32), "float32", "1 or 2 dimensions, not 0"),
    ],
)
def test_wrong_tensors_are_named(name: str, array: NDArray[np.generic], dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        new_builder().add(name, array, dtype)  # type: ignore[arg-type]


def test_strides_of_part_of_an_element_are_refused() -> None:
    records = np.zeros(24, np.dtype([("a", np.float32), ("b", np.uint8)]))
    with pytest.raises(ValueError, match="strides"):
        new_builder().add("norm.weight", records["a"], "float32")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system itself refuses")
def test_a_matrix_larger_than_the_memory_is_refused() -> None:
    """The system would grant it, and kill the process later."""
    config = dataclasses.replace(CONFIG, n_vocab=2**24, n_embd=2**18)  # 16 TiB
    builder = _core.EngineBuilder(config, weights="float32", kv="float32", threads=1, isa=None)
    embedding = np.broadcast_to(np.float32(1), (config.n_vocab, config.n_embd))
    with pytest.raises(MemoryError, match=r"^16777216 MiB of memory are needed, and \d+ MiB are available$"):
        builder.add("embed.weight", embedding, "float32")


def test_each_tensor_comes_once() -> None:
    builder = new_builder()
    with pytest.raises(ValueError, match=r"tensors are missing, first of them 'blocks\.0\.attn\.k\.bias'"):
        builder.build()
    builder = new_builder()
    for name, array in tensors().items():
        builder.add(name, array, "float32")
    with pytest.raises(ValueError, match=r"'norm\.weight' was given twice"):
        builder.add("norm.weight", np.zeros(24, np.float32), "float32")
    builder.build()
    with pytest.raises(ValueError, match="built already"):
        builder.build()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("weights", "int4", "'float32', 'bfloat16'"),
        ("kv", "bfloat16", "'float32', 'float16', 'int8'"),
        ("threads", 0, "at least 1"),
        ("threads", 1025, "at most 1024"),
        ("isa", "z80", "scalar"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(argument: str, value: object, message: str) -> None:
    arguments: dict[str, object] = {"weights": "float32", "kv": "float32", "threads": 1, "isa": None}
    with pytest.raises(ValueError, match=f"{argument}.*{message}"):
        _core.EngineBuilder(CONFIG, **{**arguments, argument: value})  # type: ignore[arg-type]


def test_a_head_too_wide_for_an_int8_cache_is_refused() -> None:
    wide = dataclasses.replace(CONFIG, head_dim=1040, layers=(LayerConfig(attn_scale=0.1),) * len(CONFIG.layers))
    with pytest.raises(ValueError, match=r"kv='int8' takes heads of up to 1024 values, not 1040"):
        _core.EngineBuilder(wide.for_core(), weights="float32", kv="int8", threads=1, isa=None)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_head": 1 << 16, "n_kv_head": 1, "head_dim": 1 << 16}, r"n_head \* head_dim .* not 4294967296"),
        ({"n_head": 1 << 16, "n_kv_head": 1 << 16, "head_dim": 1 << 15}, r"n_head \* head_dim .* not 2147483648"),
        ({"n_inner": 1 << 30}, "n_inner .* not 1073741824"),
        ({"n_inner": 2**31 - 1}, "n_inner .* not 2147483647"),
        ({"n_vocab": 2**31 - 1}, "n_vocab .* not 2147483647"),
        ({"n_ctx": 1 << 17, "n_embd": 1 << 17}, r"n_ctx \* n_embd .* not 17179869184"),
    ],
)
def test_sizes_that_overflow_are_refused(sizes: dict[str, int], message: str) -> None:
    config = dataclasses.replace(CONFIG, **sizes)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        _core.EngineBuilder(config, weights="float32", kv="float32", threads=1, isa=None)


def test_what_no_memory_holds_is_a_memory_error() -> None:
    config = dataclasses.replace(CONFIG, n_vocab=1 << 24, n_embd=1 << 24, n_ctx=1)  # 1 PiB for the embedding alone
    builder = _core.EngineBuilder(config, weights="float32", kv="float32", threads=1, isa=None)
    with pytest.raises(MemoryError):
        builder.add("embed.weight", np.broadcast_to(np.float32(0), (1 << 24, 1 << 24)), "float32")


def test_a_builder_takes_one_call_at_a_time() -> None:
    config = dataclasses.replace(CONFIG, n_vocab=1 << 20)
    builder = _core.EngineBuilder(config, weights="bfloat16", kv="float32", threads=2, isa=None)
    large, start = np.zeros((config.n_vocab, config.n_embd), np.float32), threading.Barrier(2)

    def add(_: int) -> str:
        start.wait()
        try:
            builder.add("embed.weight", large, "float32")
        except ValueError as error:
            return str(error)
        return "added"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(add, range(2))) == ["added", "tensor 'embed.weight' was given twice"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_builder_in_use_does_not_hang_a_forked_child() -> None:
    builder, busy, forked = new_builder(), threading.Event(), threading.Event()

    class Waiting(dict[str, Any]):
        def __getitem__(self, name: str) -> Any:
            busy.set()
            forked.wait()
            return super().__getitem__(name)

    def adopt() -> None:
        with pytest.raises(ValueError, match="contiguous array"):
            builder.adopt(arrays)

    arrays, thread = Waiting(dict.fromkeys(builder.packed(), None)), threading.Thread(target=adopt)
    thread.start()
    assert busy.wait(10)
    pid = os.fork()
    if pid == 0:
        try:
            builder.packed()
        except ValueError as error:
            os._exit(0 if "in use" in str(error) else 1)
        os._exit(2)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "embed.weight" in builder.packed()


def test_nothing_is_no_session() -> None:
    builder = new_builder()
    for name, array in tensors().items():
        builder.add(name, array, "float32")
    engine = builder.build()
    with pytest.raises((TypeError, ValueError)):
        engine.forward([(None, IDS)])  # type: ignore[list-item]
    with pytest.raises((TypeError, ValueError)):
        engine.forward([(engine.session(), None)])  # type: ignore[list-item]
    with pytest.raises((TypeError, ValueError)):
        engine.forward([(engine.session(), IDS.astype(np.float64))])  # type: ignore[list-item]
    with pytest.raises((TypeError, ValueError)):
        engine.forward([engine.session()])  # type: ignore[list-item]


def test_the_instruction_set_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYGPT_ISA", raising=False)
    names = _core.isa_names()
    assert names[-1] == "scalar"
    assert _core.select_isa(None) == names[0]
    for name in names:
        assert _core.select_isa(name) == name
        monkeypatch.setenv("PYGPT_ISA", name)
        assert _core.select_isa(None) == name
        assert new_builder_isa() == name
        assert _core.select_isa(names[0]) == names[0]  # the argument goes before the variable
    monkeypatch.setenv("PYGPT_ISA", "pentium")
    with pytest.raises(ValueError, match=r"PYGPT_ISA='pentium'.*scalar"):
        _core.select_isa(None)
    with pytest.raises(ValueError, match=r"isa='AVX2'.*scalar"):
        _core.select_isa("AVX2")


SMALL_SIGNAL_STACK = """
import ctypes
class stack_t(ctypes.Structure):
    _fields_ = [("ss_sp", ctypes.c_void_p), ("ss_flags", ctypes.c_int), ("ss_size", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(8192)  # too small for the tiles' 8 KiB: the kernel then refuses AMX
stack = stack_t(ctypes.cast(memory, ctypes.c_void_p), 0, len(memory))
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
from pygpt import _core
print(*_core.isa_names())
print(_core.select_isa(None))
try:
    _core.select_isa("amx")
except ValueError as error:
    print(error)
"""


@pytest.mark.skipif("amx" not in _core.isa_names(), reason="this machine has no AMX")
def test_a_refused_amx_is_explained_and_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYGPT_ISA", raising=False)
    # Elsewhere than in the source folder, whose pygpt has no compiled core.
    command = [sys.executable, "-c", SMALL_SIGNAL_STACK]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    names, chosen, error = done.stdout.splitlines()
    assert names.split() == [name for name in _core.isa_names() if name != "amx"]
    assert chosen == names.split()[0]
    assert error.startswith("isa='amx': the kernel refuses AMX to this process (")
    assert f"usable here: {', '.join(names.split())}" in error
    assert "without a name the best of them is taken" in error


def new_builder_isa() -> str:
    builder = new_builder()
    for name, array in tensors().items():
        builder.add(name, array, "float32")
    return builder.build().isa


def test_the_machine_is_described() -> None:
    features = _core.cpu_features()
    assert ("avx2" in _core.isa_names()) == all(features[f] for f in ("avx2", "fma", "f16c"))
    count, reason = _core.usable_cores()
    assert count >= 1
    assert reason
    assert set(_core.build_info()) == {"version", "compiler"}


@pytest.mark.parametrize("weights", ["int8", "bfloat16", "float32"])
def test_packing_does_not_depend_on_how_a_tensor_is_stored(weights: Literal["int8", "bfloat16", "float32"]) -> None:
    """Rows or columns first, one panel or many, groups that are full or not, threads; and packed tensors are taken."""
    config = dataclasses.replace(CONFIG, n_embd=200, n_head=20, n_kv_head=20, head_dim=10, n_inner=300, n_vocab=150)
    rng = np.random.default_rng(5)
    arrays = {name: rng.standard_normal(shape, np.float32) for name, shape in config.tensor_shapes().items()}
    engines = []
    for order, threads in (("C", 1), ("F", 3)):
        builder = _core.EngineBuilder(config, weights=weights, kv="float32", threads=threads, isa=None)
        for name, array in arrays.items():
            builder.add(name, np.asarray(array, order=order), "float32")
        engines.append(builder.build())
    expected, found = (engine.tensors() for engine in engines)
    assert list(expected) == list(found)
    for name, (dtype, array) in expected.items():
        assert found[name][0] == dtype
        assert not array.flags.writeable
        np.testing.assert_array_equal(found[name][1], array)
    builder = _core.EngineBuilder(config, weights=weights, kv="float32", threads=1, isa=None)
    wanted = builder.packed()
    assert wanted == {name: (dtype, array.shape) for name, (dtype, array) in expected.items()}
    plain = {name: array for name, (_, array) in expected.items()}
    for spoilt in (
        plain | {"embed.weight": plain["embed.weight"][:-1]},
        plain | {"embed.weight": plain["embed.weight"].astype(np.float64)},
        plain | {"embed.weight": [1]},
        plain | {"more": plain["embed.weight"]},
        {name: array for name, array in plain.items() if name != "embed.weight"},
    ):
        with pytest.raises(ValueError, match=r"embed\.weight|tensors"):
            builder.adopt(spoilt)  # type: ignore[arg-type]
    builder.adopt(plain)
    with pytest.raises(ValueError, match="no tensor"):
        builder.add("embed.weight", arrays["embed.weight"], "float32")
    session, tokens = builder.build(), np.arange(7, dtype=np.int32)
    logits = [e.forward([(e.session(), tokens)], output="all")[0] for e in (engines[0], engines[1], session)]
    np.testing.assert_array_equal(logits[1], logits[0])
    np.testing.assert_array_equal(logits[2], logits[0])


def test_a_tensors_place_is_told_for_each_channel() -> None:
    places = _core.tensors(CONFIG)
    q, kv = 24, 8
    assert places["blocks.0.attn.v.bias"] == ((kv,), "blocks.0.attn.qkv.bias", q + kv, 16)
    assert places["blocks.0.mlp.up.weight"] == ((19, 24), "blocks.0.mlp.up.weight", 16, 32)
    assert places["pos.weight"] == ((20, 24), "pos.weight", 0, 16)
    wholes = {whole for _, whole, _, _ in places.values()}
    assert wholes == _core.EngineBuilder(CONFIG, weights="float32", kv="float32", threads=1, isa=None).packed().keys()
