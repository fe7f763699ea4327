"""Checkpoints written in Hugging Face's layout: they read back as they were, and are replaced at once or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open

from pygpt import Model, Tokenizer, checkpoint
from pygpt.checkpoint import hugging_face
from pygpt.config import LayerConfig, ModelConfig, Rope, RopeScaling
from pygpt.errors import CheckpointError, ConfigError

GPT2 = ModelConfig(
    n_vocab=13, n_ctx=9, n_embd=6, n_head=3, n_kv_head=3, head_dim=2, n_inner=7, norm="layer_norm",
    norm_eps=1e-5, activation="gelu_tanh", gated_mlp=False, qkv_bias=True, attn_out_bias=True, mlp_bias=True,
    learned_positions=True, layers=LayerConfig(attn_scale=2**-0.5).repeated(2), bos_id=1, eos_ids=(2,),
)  # fmt: skip
LLAMA = ModelConfig(
    n_vocab=13, n_ctx=9, n_embd=8, n_head=4, n_kv_head=2, head_dim=4, n_inner=7, norm="rms_norm",
    norm_eps=1e-6, activation="silu", gated_mlp=True, qkv_bias=False, attn_out_bias=False, mlp_bias=False,
    learned_positions=False, layers=LayerConfig(attn_scale=0.5, rope=Rope(theta=5000.0, dim=4)).repeated(2),
    tied_head=False, eos_ids=(2, 3),
)  # fmt: skip
GPT1 = replace(GPT2, norm_placement="after_sum", n_inner=24)
LLAMA3 = RopeScaling(kind="llama3", factor=8.0, low_freq_factor=1.5, high_freq_factor=3.5, original_n_ctx=33)
CONFIGS = {
    "gpt1": GPT1,
    "gpt1 untied, silu": replace(GPT1, tied_head=False, activation="silu"),
    "gpt2": GPT2,
    "gpt2 untied, unscaled": replace(
        GPT2.with_layers(attn_scale=1.0), tied_head=False, activation="gelu", bos_id=None, eos_ids=()
    ),
    "gpt2 inverse layer": replace(
        GPT2, layers=(GPT2.layers[0], LayerConfig(attn_scale=2**-0.5 / 2)), activation="relu"
    ),
    "llama": LLAMA,
    "llama tied, biases": replace(LLAMA, tied_head=True, qkv_bias=True, attn_out_bias=True, mlp_bias=True),
    "llama linear rope": LLAMA.with_layers(rope=Rope(theta=1e5, dim=4, scaling=RopeScaling(kind="linear", factor=3.0))),
    "llama llama3 rope": replace(
        LLAMA.with_layers(rope=Rope(theta=1e5, dim=4, scaling=LLAMA3)), activation="gelu_tanh"
    ),
}
Tensors = dict[str, NDArray[np.float32]]

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/parity/*/expected.npz"))


def random_tensors(config: ModelConfig, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in config.tensor_shapes().items()}


def holds(folder: Path, config: ModelConfig, tensors: Tensors) -> bool:
    """Whether a folder reads as this model, bit for bit."""
    found, read, _ = checkpoint.read(folder)
    assert found == config
    assert list(read) == list(tensors)
    return all(np.array_equal(np.asarray(read[name]), tensors[name]) for name in tensors)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_what_is_written_is_what_is_read(config: ModelConfig, tmp_path: Path) -> None:
    tensors = random_tensors(config)
    checkpoint.write(tmp_path / "out", config, tensors)
    assert holds(tmp_path / "out", config, tensors)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_names_and_shapes_are_those_of_transformers(tmp_path: Path) -> None:
    for name, config, expected in (
        ("gpt1", GPT1, {
            "transformer.tokens_embed.weight": [13, 6], "transformer.positions_embed.weight": [9, 6],
            "transformer.h.1.attn.c_attn.weight": [6, 18], "transformer.h.1.ln_2.bias": [6],
        }),
        ("gpt2", replace(GPT2, tied_head=False), {
            "transformer.wte.weight": [13, 6], "transformer.h.1.attn.c_attn.weight": [6, 18],
            "transformer.h.1.attn.c_attn.bias": [18], "transformer.h.0.mlp.c_fc.weight": [6, 7],
            "transformer.ln_f.bias": [6], "lm_head.weight": [13, 6],
        }),
        ("llama", LLAMA, {
            "model.embed_tokens.weight": [13, 8], "model.layers.1.self_attn.k_proj.weight": [8, 8],
            "model.layers.0.self_attn.q_proj.weight": [16, 8], "model.layers.0.mlp.down_proj.weight": [8, 7],
            "model.norm.weight": [8], "lm_head.weight": [13, 8],
        }),
    ):  # fmt: skip
        checkpoint.write(tmp_path / name, config, random_tensors(config))
        with safe_open(tmp_path / name / "model.safetensors", "np") as file:
            assert file.metadata() == {"format": "pt"}
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - not iterable
        assert expected.items() <= shapes.items()


def test_tensors_of_another_checkpoint_can_be_written(gpt2: Any, tmp_path: Path) -> None:
    config, tensors, _ = checkpoint.read(gpt2.write(tmp_path / "in"))
    checkpoint.write(tmp_path / "out", config, tensors)
    assert holds(tmp_path / "out", config, {name: np.asarray(t, np.float32) for name, t in tensors.items()})


def test_the_tokenizer_goes_with_it(gpt2_folder: Path, tmp_path: Path) -> None:
    config, tensors, tokenizer = checkpoint.read(gpt2_folder)
    checkpoint.write(tmp_path / "out", config, tensors, tokenizer)
    again = checkpoint.read(tmp_path / "out")[2]
    assert tokenizer is not None
    assert again is not None
    assert again.encode("then and there") == tokenizer.encode("then and there")
    checkpoint.write(tmp_path / "out", config, tensors, again)  # with its own files
    assert (tmp_path / "out" / "vocab.json").read_bytes() == (gpt2_folder / "vocab.json").read_bytes()


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (GPT1, {"n_inner": 23, "norm_eps": 1e-3}, "openai-gpt has no n_inner 23"),
        (GPT1, {"activation": "gelu", "norm_eps": 1e-3}, "openai-gpt has no activation 'gelu'"),
        (GPT2, {"norm": "rms_norm"}, "gpt2 has no norm 'rms_norm'; "),
        (GPT2, {"gated_mlp": True}, "gpt2 has no gated_mlp True"),
        (GPT2, {"learned_positions": False, "sinusoidal_positions": True}, "gpt2 has .*no sinusoidal_positions True"),
        (LLAMA, {"attn_out_bias": True}, r"llama has no (qkv_bias False|attn_out_bias True)"),
        (LLAMA.with_layers(rope=Rope(theta=5000.0, dim=2), sinks=True), {}, r"phi3 has no layers\[0\].sinks True"),
        (LLAMA.with_layers(attn_scale=0.3, window=5), {}, r"granite has no layers\[0\].window 5"),
        (GPT2, {"n_head": 4, "n_kv_head": 4}, r"gpt2: config.json: n_embd is 6, but must be a multiple"),
    ],
)  # fmt: skip
def test_a_configuration_of_no_family_is_refused(
    config: ModelConfig, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = replace(config, **changes)
    with pytest.raises(ConfigError, match=message):
        checkpoint.write(tmp_path / "out", config, random_tensors(config))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("golden", GOLDENS, ids=lambda path: path.name)
def test_every_family_is_written_and_read(golden: Path, tmp_path: Path) -> None:
    """As its own family, Gemma 3 with images as its text; or as one that says its configuration, which may be
    another's."""
    config, tensors, _ = checkpoint.read(golden)
    for family in (None, checkpoint.family_of(golden)):
        out = tmp_path / f"{family}"
        checkpoint.write(out, config, tensors, family=family)
        again, same, _ = checkpoint.read(out)
        assert again == config
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(np.asarray(same[name]), np.asarray(tensor), err_msg=name)
    old, new = (json.loads((f / "config.json").read_text(encoding="utf-8"))["model_type"] for f in (golden, out))
    assert new == {"gemma3": "gemma3_text"}.get(old, old)


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors = random_tensors(GPT2)
    for given, message in (
        ({k: v for k, v in tensors.items() if k != "norm.bias"}, "tensor norm.bias is missing"),
        (tensors | {"head.weight": tensors["embed.weight"]}, "tensor head.weight is not part of this model"),
        (tensors | {"pos.weight": tensors["embed.weight"]}, r"pos.weight must have the shape \(9, 6\), not \(13, 6\)"),
    ):
        with pytest.raises(ValueError, match=message):
            checkpoint.write(tmp_path / "out", GPT2, given)
    assert list(tmp_path.iterdir()) == []


# --- replacing -----------------------------------------------------------------------------------------------------


def test_the_weights_of_the_same_model_are_replaced(gpt2_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    tokenizer = Tokenizer.from_folder(gpt2_folder)
    config, _, _ = checkpoint.read(gpt2_folder)
    old, new = random_tensors(config, 1), random_tensors(config, 2)
    checkpoint.write(out, config, old, tokenizer)
    (out / "labels.json").write_text("[]")  # what others keep beside it stays
    model = Model.load(out, threads=1)
    checkpoint.write(out, config, new, tokenizer)
    assert holds(out, config, new)
    assert (out / "labels.json").read_text() == "[]"
    assert not list(tmp_path.glob(".*"))
    assert np.isfinite(model.logits([1, 2])).all()  # of the old one, which is still whole
    for changed, given in ((replace(config, eos_ids=()), tokenizer), (config, None)):
        with pytest.raises(CheckpointError, match=r"out: holds a checkpoint whose (config|vocab)\.json differs"):
            checkpoint.write(out, changed, old, given)
    assert holds(out, config, new)
    assert not list(tmp_path.glob(".*"))


def test_other_things_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear Sir,")
    (tmp_path / "file").write_text("mine")
    for name, message in (
        ("mine", "mine: not empty"),
        ("file", "file: is there already, and no folder"),
        ("no/out", "the folder .*no does not exist"),
    ):
        with pytest.raises(CheckpointError, match=message):
            checkpoint.write(tmp_path / name, GPT2, random_tensors(GPT2))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "letter.txt", "mine"]


STEPS = ("write_settings", "write_file", "sync_all", "rename", "sync", "done")
"""Where a write can end: before the step of this name."""


def stop_before(step: str, stop: Callable[[], None], patch: Callable[[Any, str, Any], None]) -> None:
    def stopped(*_: object, **__: object) -> None:
        stop()

    if step == "rename":
        patch(Path, "rename", stopped)
        patch(Path, "replace", stopped)
    elif step != "done":
        patch(hugging_face, step, stopped)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("replaces", [False, True])
def test_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, step: str, replaces: bool) -> None:
    out, old, new = tmp_path / "out", random_tensors(LLAMA, 1), random_tensors(LLAMA, 2)
    if replaces:
        checkpoint.write(out, LLAMA, old)
    pid = os.fork()
    if pid == 0:
        stop_before(step, lambda: os._exit(9), setattr)
        checkpoint.write(out, LLAMA, new)
        os._exit(9)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    is_new = step in ("sync", "done")
    if replaces or is_new:
        assert holds(out, LLAMA, new if is_new else old)
    else:
        assert not out.exists()
    checkpoint.write(out, LLAMA, new)
    assert holds(out, LLAMA, new)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("step", STEPS[:4])
@pytest.mark.parametrize("raised", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, raised: BaseException
) -> None:
    out, old = tmp_path / "out", random_tensors(LLAMA, 1)
    checkpoint.write(out, LLAMA, old)

    def fail() -> None:
        raise raised

    with monkeypatch.context() as patch:
        stop_before(step, fail, patch.setattr)
        expected = CheckpointError if isinstance(raised, OSError) else KeyboardInterrupt
        with pytest.raises(expected, match="out: cannot be saved: .*No space" if expected is CheckpointError else None):
            checkpoint.write(out, LLAMA, random_tensors(LLAMA, 2))
    assert holds(out, LLAMA, old)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
