"""`pygpt finetune`, `merge` and `classify`: runs from the start to a model that loads, resumed runs, bad input."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from pygpt import Model, checkpoint
from pygpt.classification import Task
from pygpt.cli._app import app
from pygpt.training.architecture import Architecture, architecture
from pygpt.training.loop import train
from pygpt.training.parameters import Parameters

TABLES: dict[Task, str] = {
    "classification": "text,label\n" + "".join(f"in the {i},up\non an {i},down\n" for i in range(10)),
    "entailment": "premise,hypothesis,label\n" + "".join(f"a {i},in {i},yes\na {i},on {i},no\n" for i in range(10)),
    "similarity": "a,b,label\n" + "".join(f"in {i},the {i},same\nin {i},on {i},other\n" for i in range(10)),
    "choice": "prompt,choice0,choice1,choice2,label\n"
    + "".join(f"p{i},in,the,,0\np{i},on,the,a,2\n" for i in range(10)),
}
EXAMPLES: dict[Task, Any] = {
    "classification": "in the",
    "entailment": ("a", "in"),
    "similarity": ("in", "on"),
    "choice": ("p", ["in", "the"]),
}
FAST = ("--epochs", 2, "--batch", 6, "--learning-rate", 0.003, "--save-every", 0, "--threads", 1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def finetune(model: Path, data: Path, out: Path, *options: object) -> Result:
    return run("finetune", model, "--data", data, "--out", out, *FAST, *options)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def best_of(out: Path) -> dict[str, Any]:
    """The figures of the best checkpoint."""
    return min((r for r in lines(out) if "validation_loss" in r), key=lambda r: r["validation_loss"])


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr("pygpt.training.plot.draw", lambda path, metrics: None)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "examples.csv"
    path.write_text(TABLES["classification"], encoding="utf-8")
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("in the end of the an on the inn and then " * 60, encoding="utf-8")
    return path


@contextlib.contextmanager
def killed(step: int) -> Iterator[None]:
    """Makes a run stop, without a word, when so many steps are reported."""

    def cut_short(objective: Any, recipe: Any, functions: Any, folder: Any, **options: Any) -> Any:
        def report(record: Any, progress: Any) -> None:
            if progress.step == step:
                raise RuntimeError("killed")

        return train(objective, recipe, functions, folder, **{**options, "report": report})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pygpt.training.runs.train", cut_short)
        yield


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [(), ("--lora", 2)])
@pytest.mark.parametrize("task", TABLES)
def test_a_task_gives_a_model_that_classifies(
    gpt2_folder: Path, tmp_path: Path, task: Task, lora: tuple[object, ...]
) -> None:
    data, out = tmp_path / "examples.csv", tmp_path / "run"
    data.write_text(TABLES[task], encoding="utf-8")
    result = finetune(gpt2_folder, data, out, "--task", task, *lora)
    assert result.exit_code == 0, result.output
    model = Model.load(out / "best", weights="float32", threads=1)
    assert model.config.n_vocab == Model.load(gpt2_folder).config.n_vocab + 3
    found = model.classify(EXAMPLES[task])
    assert list(found.probabilities) == list(EXAMPLES[task][1] if task == "choice" else model.labels or ())
    assert sum(found.probabilities.values()) == pytest.approx(1.0, abs=1e-6)
    best = best_of(out)
    assert f"accuracy {best['accuracy']:.4f}, macro F1 {best['macro_f1']:.4f} on " in result.stdout
    for row in best["confusion"]:
        assert " ".join(map(str, row)) in " ".join(result.stdout.split())
    assert len(lines(out)) == 1 + 2 * 3


@pytest.mark.parametrize("name", get_args(Architecture))
@pytest.mark.parametrize("lora", [(), ("--lora", 2)])
def test_every_family_is_fine_tuned(
    gpt2_folder: Path, tmp_path: Path, table: Path, text: Path, name: Architecture, lora: tuple[object, ...]
) -> None:
    """What training measured, through its own forward pass, is what the fast core answers."""
    _, _, tokenizer = checkpoint.read(gpt2_folder)
    assert tokenizer is not None
    config = architecture(name, n_vocab=tokenizer.n_vocab, n_ctx=32, n_layer=2, n_head=2, n_embd=16)
    params = Parameters(config)
    params.initialise(0)
    checkpoint.write(tmp_path / "base", config, params.tensors, tokenizer)
    for data, task in ((table, ("--task", "classification")), (text, ())):
        out = tmp_path / f"run{len(task)}"
        result = finetune(tmp_path / "base", data, out, *task, *lora)
        assert result.exit_code == 0, result.output
        model = Model.load(out / "best", weights="float32", threads=1)
        if task:
            assert f"accuracy {best_of(out)['accuracy']:.4f}" in result.stdout
            assert model.config.n_vocab == config.n_vocab + 3
        else:
            assert model.config == config
            assert lines(out)[-1]["validation_loss"] < lines(out)[0]["validation_loss"]


def test_a_task_is_learned(gpt2_folder: Path, tmp_path: Path, table: Path) -> None:
    out = tmp_path / "run"
    result = finetune(gpt2_folder, table, out, "--task", "classification", "--epochs", 12, "--dropout", 0)
    assert result.exit_code == 0, result.output
    model = Model.load(out / "best", threads=1)
    assert [c.label for c in model.classify(["in the 3", "on an 3", "in the 8", "on an 8"])] == ["up", "down"] * 2
    assert lines(out)[-1]["accuracy"] == 1.0


@pytest.mark.parametrize("lora", [(), ("--lora", 2, "--lora-targets", "q,k,up")])
def test_a_text_goes_on_from_the_model(gpt2_folder: Path, tmp_path: Path, text: Path, lora: tuple[object, ...]) -> None:
    out = tmp_path / "run"
    result = finetune(gpt2_folder, text, out, *lora)
    assert result.exit_code == 0, result.output
    before, after = Model.load(gpt2_folder, threads=1), Model.load(out / "best", threads=1)
    assert after.config == before.config
    sample = "in the end of the inn"
    assert after.perplexity(sample) < before.perplexity(sample)
    assert after.labels is None
    old, new = (dict(checkpoint.read(folder)[1]) for folder in (gpt2_folder, out / "best"))
    changed = {name.split(".")[-2] for name in old if not np.array_equal(np.asarray(old[name]), np.asarray(new[name]))}
    assert changed == ({"q", "k", "up"} if lora else changed)
    assert lora or {"embed", "norm", "down"} <= changed


@pytest.mark.parametrize("lora", [(), ("--lora", 3)])
@pytest.mark.parametrize("task", [(), ("--task", "classification")])
def test_a_killed_run_goes_on_bit_for_bit(
    gpt2_folder: Path,
    tmp_path: Path,
    table: Path,
    text: Path,
    task: tuple[object, ...],
    lora: tuple[object, ...],
) -> None:
    data = table if task else text
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert finetune(gpt2_folder, data, whole, *task, *lora).exit_code == 0
    with killed(4):
        assert isinstance(finetune(gpt2_folder, data, cut, *task, *lora).exception, RuntimeError)
    result = run("finetune", "--resume", cut, "--threads", 1)
    assert result.exit_code == 0, result.output
    folders = ("best", "last", *(("best-adapters", "last-adapters") if lora else ()))
    files = [path.relative_to(whole) for folder in folders for path in (whole / folder).rglob("*.safetensors")]
    assert len(files) == len(folders)
    for file in files:
        assert (whole / file).read_bytes() == (cut / file).read_bytes()
    timeless = [[{k: v for k, v in r.items() if "second" not in k} for r in lines(out)] for out in (whole, cut)]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize("task", [(), ("--task", "classification")])
def test_merged_adapters_are_the_model_of_the_run(
    gpt2_folder: Path, tmp_path: Path, table: Path, text: Path, task: tuple[object, ...]
) -> None:
    out, merged = tmp_path / "run", tmp_path / "merged"
    assert finetune(gpt2_folder, table if task else text, out, "--lora", 2, *task).exit_code == 0
    adapters = (out / "best-adapters" / "adapters.safetensors").stat().st_size
    assert adapters < (out / "best" / "model.safetensors").stat().st_size / 3
    result = run("merge", gpt2_folder, out / "best-adapters", merged)
    assert result.exit_code == 0, result.output
    expected, found = load_file(out / "best" / "model.safetensors"), load_file(merged / "model.safetensors")
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert np.array_equal(tensor, found[name]), name
    models = [Model.load(folder, threads=1) for folder in (merged, out / "best")]
    assert np.array_equal(*(model.logits("in the end") for model in models))
    assert models[0].labels == models[1].labels == (("down", "up") if task else None)
    if task:
        assert models[0].classify("in the end") == models[1].classify("in the end")
        assert models[0].tokenizer.special_tokens.keys() >= {"_start_", "_delimiter_", "_classify_"}


def test_a_fine_tuned_model_is_fine_tuned_again(gpt2_folder: Path, tmp_path: Path, table: Path, text: Path) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert finetune(gpt2_folder, table, first, "--task", "classification").exit_code == 0
    assert finetune(first / "best", table, second, "--task", "classification", "--labels", "up,down").exit_code == 0
    config, _, tokenizer = checkpoint.read(first / "best")
    assert Model.load(second / "best").config == config  # with the special tokens that it had
    assert Model.load(second / "best").labels == ("up", "down")
    assert tokenizer is not None
    assert tokenizer.special_tokens["_start_"] == config.n_vocab - 3
    assert finetune(second / "best", text, third).exit_code == 0
    assert Model.load(third / "best").labels is None


def test_long_examples_are_cut_and_counted(gpt2_folder: Path, tmp_path: Path, table: Path) -> None:
    table.write_text(table.read_text(encoding="utf-8") + f"{'x' * 300},up\n", encoding="utf-8")
    result = finetune(gpt2_folder, table, tmp_path / "run", "--task", "classification", "--steps", 1)
    assert "1 of 21 examples are longer than the context of 64 tokens and were cut" in result.stderr


# --- classify ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["classification", "similarity", "choice"])
def test_classify_prints_labels_and_probabilities(gpt2_folder: Path, tmp_path: Path, task: Task) -> None:
    data, out = tmp_path / "examples.csv", tmp_path / "run"
    data.write_text(TABLES[task], encoding="utf-8")
    assert finetune(gpt2_folder, data, out, "--task", task, "--steps", 1).exit_code == 0
    found = Model.load(out / "best", threads=1).classify(EXAMPLES[task])
    first, *rest = (EXAMPLES[task],) if task == "classification" else EXAMPLES[task]
    texts = [first, *(rest[0] if task == "choice" else rest)]
    result = run("classify", *texts, "--model", out / "best", "--json")
    assert json.loads(result.stdout) == {"label": found.label, "probabilities": found.probabilities}
    rows = [line.split() for line in run("classify", *texts, "--model", out / "best").stdout.splitlines()]
    assert rows[0] == [f"{found.probabilities[found.label]:.4f}", found.label]
    assert {label: p for p, label in rows} == {k: f"{p:.4f}" for k, p in found.probabilities.items()}


def test_classify_needs_a_classifier(gpt2_folder: Path) -> None:
    result = run("classify", "x", "--model", gpt2_folder)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "has no classifier: `pygpt finetune --task` trains one" in result.stderr


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--lora", 99), "lora rank must be an integer from 1 to 32"),
        (("--lora", 2, "--lora-alpha", 0), "lora alpha must be a number above 0"),
        (("--lora", 2, "--lora-targets", "q,x"), "lora targets must be some of q, k, v, out, up, down"),
        (("--labels", "up,down,left"), "the label 'left' never occurs in training"),
        (("--labels", "up"), "at least 2 different labels"),
        (("--epochs", 0), "epochs must be a number above 0"),
        (("--batch", 0), "batch must be an integer >= 1"),
        (("--validation", 1.5), "above 0 and below 1"),
        (("--validation", "none.csv"), "none.csv: cannot be read"),
    ],
)
def test_bad_options_leave_nothing(
    gpt2_folder: Path, tmp_path: Path, table: Path, options: tuple[object, ...], message: str
) -> None:
    out = tmp_path / "run"
    result = finetune(gpt2_folder, table, out, "--task", "classification", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert not out.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", "--data", "y"),
        ("x", "--out", "y"),
        ("--data", "x", "--out", "y"),
        ("x", "--data", "x", "--out", "y", "--labels", "a,b"),
        ("x", "--data", "x", "--out", "y", "--lora-alpha", 1),
        ("x", "--data", "x", "--out", "y", "--task", "poetry"),
        ("x", "--data", "x", "--out", "y", "--task", "choice", "--ramp-steps", 1),
        ("x", "--data", "x", "--out", "y", "--task", "choice", "--sample-interval", 1),
        ("x", "--data", "x", "--out", "y", "--language-weight", 1),
        ("--resume", "x", "--task", "choice"),
        ("x", "--resume", "x"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[object, ...]) -> None:
    assert run("finetune", *arguments).exit_code == 2


@pytest.mark.parametrize("weights", ["int8", "float32"])
def test_a_saved_model_is_fine_tuned(gpt2_folder: Path, tmp_path: Path, table: Path, weights: Any) -> None:
    Model.load(gpt2_folder, weights=weights).save(tmp_path / "saved")
    result = finetune(tmp_path / "saved", table, tmp_path / "run", "--task", "classification", "--steps", 1)
    assert result.exit_code == 0, result.output
    assert Model.load(tmp_path / "run" / "best").labels == ("down", "up")


def test_a_model_without_a_tokenizer_is_refused(gpt2_folder: Path, tmp_path: Path, table: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(gpt2_folder / name, bare)
    result = finetune(bare, table, tmp_path / "run", "--task", "classification")
    assert "has no tokenizer, which fine-tuning on text needs" in result.stderr


def test_a_run_does_not_go_on_with_other_data_or_another_model(gpt2_folder: Path, tmp_path: Path, table: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "run"
    shutil.copytree(gpt2_folder, model)
    with killed(2):
        finetune(model, table, out, "--task", "classification")
    before = table.read_text(encoding="utf-8")
    table.write_text(before.replace("in the 3", "in the 33"), encoding="utf-8")
    result = run("finetune", "--resume", out)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "examples.csv: has changed since the run began" in result.stderr
    table.write_text(before, encoding="utf-8")
    weights = bytearray((model / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (model / "model.safetensors").write_bytes(weights)
    (out / "state.safetensors").unlink()  # as if it had been killed before the first
    assert "model: has changed since the run began" in run("finetune", "--resume", out).stderr
    assert (out / "run.json").exists()


def test_merge_refuses_another_model(gpt2_folder: Path, tmp_path: Path, text: Path) -> None:
    out = tmp_path / "run"
    assert finetune(gpt2_folder, text, out, "--lora", 2, "--steps", 1).exit_code == 0
    result = run("merge", out / "best", out / "best-adapters", tmp_path / "merged")
    # A step of adapters changes the matrices, so the merged model is another one.
    assert result.exit_code == 1
    assert "its matrices differ from those they were trained for" in result.stderr
    assert not (tmp_path / "merged").exists()
