"""`pygpt info MODEL`: what a checkpoint is, from its headers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from pygpt import Model
from pygpt.checkpoint import read
from pygpt.cli._app import app
from pygpt.errors import CheckpointError
from pygpt.inspection import inspect

DATA = Path(__file__).parents[1] / "data"


def rows(model: object) -> dict[str, list[str]]:
    """The printed values by their name, some of which come several times."""
    result = CliRunner().invoke(app, ["info", str(model)])
    assert result.exit_code == 0, result.stderr
    found: dict[str, list[str]] = {}
    for line in result.stdout.splitlines():
        found.setdefault(line[:14].strip(), []).append(line[14:])
    return found


def test_a_model(gpt2_folder: Path, model: Model) -> None:
    found = rows(gpt2_folder)
    c = model.config
    assert found["model"] == [str(gpt2_folder)]
    assert found["family"] == ["gpt2"]
    assert found["parameters"] == [f"{c.n_params():,}"]
    assert found["layers"] == ["2 of width 32, inner width 128"]
    assert found["heads"] == ["2 of width 16"]
    assert (found["vocabulary"], found["context"]) == ([str(c.n_vocab)], ["64 tokens"])
    assert [w.split(" as ")[1] for w in found["weights"]] == ["int8", "bfloat16", "float32"]
    assert [w.split(" as ")[1] for w in found["cache"]] == ["float32", "float16", "int8"]
    assert (found["tokenizer"], found["chat template"], found["runs"]) == (["byte-level BPE"], ["no"], ["yes"])


@pytest.mark.parametrize("weights", ["int8", "bfloat16", "float32"])
@pytest.mark.parametrize("name", ["gpt2-head20", "llama-tied", "qwen2-moe", "gpt-oss-mxfp4"])
def test_the_memory_is_what_a_loaded_model_takes(name: str, weights: str) -> None:
    found = inspect(DATA / "parity" / name)
    for kv in (None, "int8"):
        loaded = Model.load(DATA / "parity" / name, weights=weights, kv=kv, threads=1)  # type: ignore[arg-type]
        assert found.weight_bytes()[weights] == loaded.weight_bytes
        assert found.cache_bytes()[loaded.kv][0] == loaded.kv_bytes_per_token


def test_layers_with_a_window_hold_no_more_than_it(gpt2_folder: Path) -> None:
    found = inspect(gpt2_folder)
    config, _, _ = read(gpt2_folder)
    layers = (config.layers[0], dataclasses.replace(config.layers[1], window=100))
    longer = found._replace(config=dataclasses.replace(config, n_ctx=64_000, layers=layers))
    first, full = longer.cache_bytes()["float16"]
    assert full == first * 64_000 // 2 + first // 2 * 64 * -(-(100 + 256) // 64)
    assert first == found.cache_bytes()["float16"][0]


@pytest.mark.parametrize(
    ("path", "family"),
    [("pickles/gpt2-legacy", "gpt2"), ("pickles/nanogpt/ckpt.pt", "nanogpt"), ("parity/llama-tied", "llama")],
)
def test_other_forms(path: str, family: str) -> None:
    assert rows(DATA / path)["family"] == [family]


def test_a_context_that_can_be_longer() -> None:
    assert rows(DATA / "parity" / "phi3-long")["context"] == ["16 tokens, or up to 32 with --n-ctx"]


def test_a_saved_model_says_what_it_was(gpt2_folder: Path, model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    assert rows(tmp_path / "saved") == rows(gpt2_folder) | {"model": [str(tmp_path / "saved")]}


def test_why_it_does_not_run(tmp_path: Path, gpt2_folder: Path) -> None:
    for file in gpt2_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    for changes, family, why in (
        ({"model_type": "mamba"}, "mamba", "model_type is 'mamba', but must be one of"),
        ({"n_layer": 3}, "gpt2", "lacks the tensors"),
        ({"odd_key": 1}, "gpt2", "the key 'odd_key'"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
        found = rows(tmp_path)
        assert found["family"] == [family]
        assert why in found["runs"][0]
        assert found["runs"][0].startswith("no: ")
        assert found["tokenizer"] == ["byte-level BPE"]


def test_what_is_not_here_is_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYGPT_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("smollm2", "gpt2", "org/name"):
        result = CliRunner().invoke(app, ["info", name])
        assert result.exit_code == 1
        assert f"{name}: not on this machine; to fetch it: pygpt pull {name}" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_weight_is_read(tmp_path: Path) -> None:
    """A head that is not the embedding it should be is an error as soon as it is read."""
    config = {
        "model_type": "gpt2", "vocab_size": 4, "n_positions": 4, "n_embd": 4, "n_head": 1, "n_layer": 1,
        "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip
    d = 4
    tensors = {"wte.weight": (4, d), "wpe.weight": (4, d), "lm_head.weight": (4, d)}
    tensors |= {"ln_f.weight": (d,), "ln_f.bias": (d,)}
    for name, shape in {"attn.c_attn": (d, 3 * d), "attn.c_proj": (d, d), "mlp.c_fc": (d, 4 * d)}.items():
        tensors |= {f"h.0.{name}.weight": shape, f"h.0.{name}.bias": shape[1:]}
    tensors |= {"h.0.mlp.c_proj.weight": (4 * d, d), "h.0.mlp.c_proj.bias": (d,)}
    tensors |= {f"h.0.{norm}.{kind}": (d,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    arrays = {name: np.ones(shape, np.float32) for name, shape in tensors.items()}
    arrays["lm_head.weight"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(arrays, tmp_path / "model.safetensors")
    assert rows(tmp_path)["runs"] == ["yes"]
    with pytest.raises(CheckpointError, match=r"'lm_head\.weight' differs"):
        Model.load(tmp_path)


def test_a_model_of_no_family(model: Model, tmp_path: Path) -> None:
    """One that was put together by hand: pygpt runs what it saved, whatever other programs could read."""
    config = dataclasses.replace(model.config, qk_norm="whole", head_bias=True)
    shapes = config.tensor_shapes().items()
    own = Model.from_tensors(config, {name: np.ones(shape, np.float32) for name, shape in shapes})
    own.save(tmp_path / "own")
    found = rows(tmp_path / "own")
    assert (found["family"], found["runs"]) == (["unknown"], ["yes"])
    assert (
        inspect(tmp_path / "own").weight_bytes()["int8"]
        == own.weight_bytes
        == Model.load(tmp_path / "own").weight_bytes
    )
