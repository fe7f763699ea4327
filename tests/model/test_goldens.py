"""The numeric contract on a checkpoint of every family: `==` however its tokens come, and int8 near float32.

What is compared with the original implementations stands in test_parity.py; every kind of layer, on texts that cross
pages and steps, in test_contract.py.
"""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core, checkpoint
from pygpt.engine import of_checkpoint

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/parity/*/expected.npz"))
every_golden = pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.name)
FORMATS = pytest.mark.parametrize("weights", ["float32", "int8"])
Ids = NDArray[np.int32]


@functools.lru_cache(maxsize=8)
def engine(golden: Path, weights: str, threads: int = 2, isa: str | None = None) -> _core.Engine:
    isa = isa or _core.select_isa(None)
    return of_checkpoint(golden, weights, None, threads, isa, len(ids_of(golden)), None).engine  # type: ignore[arg-type]


def ids_of(golden: Path) -> Ids:
    with np.load(golden / "expected.npz") as arrays:
        return np.asarray(arrays["ids"], np.int32)


def logits(model: _core.Engine, ids: Ids, session: _core.Session | None = None) -> NDArray[np.float32]:
    return np.asarray(model.forward([(session or model.session(), ids)], output="all")[0])


@every_golden
@FORMATS
def test_decoding_chunks_and_batches(golden: Path, weights: str) -> None:
    model, ids = engine(golden, weights), ids_of(golden)
    whole = logits(model, ids)
    assert np.isfinite(whole).all()
    for size in (1, 5):
        session = model.session()
        parts = [logits(model, ids[i : i + size], session) for i in range(0, len(ids), size)]
        assert np.array_equal(np.concatenate(parts), whole)
    past = model.session()
    logits(model, ids[:7], past)
    batch = [(model.session(), ids[:3]), (past, ids[7:]), (model.session(), ids), (model.session(), ids[:1])]
    expected = (whole[:3], whole[7:], whole, whole[:1])
    for found, same in zip(model.forward(batch, output="all"), expected, strict=True):
        assert np.array_equal(found, same)


@every_golden
@FORMATS
def test_threads_and_instruction_sets(golden: Path, weights: str) -> None:
    ids = ids_of(golden)
    expected = logits(engine(golden, weights, 1, "scalar"), ids)
    for isa in _core.isa_names():
        assert np.array_equal(logits(engine(golden, weights, 3, isa), ids), expected), isa


def with_all_experts(golden: Path, folder: Path) -> Path:
    """The checkpoint, or one like it in `folder` in which every token runs every expert."""
    experts = next((layer.experts for layer in checkpoint.read(golden)[0].layers if layer.experts), None)
    if experts is None:
        return golden
    shutil.copytree(golden, folder, dirs_exist_ok=True)
    raw = json.loads((golden / "config.json").read_text(encoding="utf-8"))
    raw["num_experts_per_tok"] = experts.n_expert
    (folder / "config.json").write_text(json.dumps(raw), encoding="utf-8")
    assert all(layer.experts.n_used == experts.n_expert for layer in checkpoint.read(folder)[0].layers if layer.experts)
    return folder


@every_golden
def test_int8(golden: Path, tmp_path: Path) -> None:
    """The error of the logits beside their spread, both as root mean squares.

    A factor of a product is off by up to half a step of 1/127 of its group's greatest value, about 2.5 deviations of
    the few dozen in a group: 2.5 / 127 / sqrt(12) = 0.6% of a deviation, and with the other factor 0.8%. A layer has
    four products one after the other and the head is one more: sqrt(4 * 3 + 1) = 3.6 times that, 3%, for three layers.
    Sharp scores carry an error on enlarged; twice as much is the bound. Measured: 1.2 to 4.5%.

    A choice of experts by scores that lie close together is another one for any error in them, and then the logits are
    not near: so here all experts run. (As many as the checkpoints say: up to 12.7%, with a half of that and more at a
    few positions.)
    """
    every = with_all_experts(golden, tmp_path)
    exact, int8 = (logits(engine(every, weights), ids_of(golden)).astype(np.float64) for weights in ("float32", "int8"))
    assert 0 < np.sqrt(np.square(int8 - exact).mean()) / exact.std() < 0.06
