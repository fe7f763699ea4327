"""`Model.classify` against the reference, its files, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import Model, checkpoint, reference
from pygpt.classification import TASKS, Classifier, SpecialIds, Task, form, read_classifier
from pygpt.errors import CheckpointError, TokenizerError

ITEMS: dict[Task, list[Any]] = {
    "classification": ["in the", "an on the", "x" * 100],
    "entailment": [("in the", "on"), ("a" * 100, "b" * 100), ("x", "y")],
    "similarity": [("in the", "on"), ("a" * 100, "b" * 100), ("x", "y")],
    "choice": [("in the", ["on", "a", "in"]), ("x", ("y", "z"))],
}
LABELS = ("no", "größer", "maybe")


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Task:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def folder(gpt2_folder: Path, tmp_path: Path, task: Task) -> Path:
    """The tiny GPT-2 with a random classifier; the last tokens of its vocabulary serve as special ones."""
    config, tensors, tokenizer = checkpoint.read(gpt2_folder)
    rng = np.random.default_rng(5)
    n_rows = 1 if task == "choice" else len(LABELS)
    classifier = Classifier(
        task=task,
        labels=() if task == "choice" else LABELS,
        ids=SpecialIds(config.n_vocab - 3, config.n_vocab - 2, config.n_vocab - 1),
        weight=rng.standard_normal((n_rows, config.n_embd)).astype(np.float32),
        bias=rng.standard_normal(n_rows).astype(np.float32),
    )
    values = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    checkpoint.write(tmp_path / "model", config, values, tokenizer, classifier.extra())
    return tmp_path / "model"


def expected(folder: Path, item: Any) -> np.ndarray:
    """The probabilities in float64."""
    config, tensors, tokenizer = checkpoint.read(folder)
    classifier = read_classifier(folder, config)
    assert classifier is not None
    assert tokenizer is not None
    sequences = form(classifier.task, item, tokenizer.encode, classifier.ids, config.n_ctx).sequences
    states = np.stack([reference.hidden(config, tensors, ids)[-1] for ids in sequences])
    if classifier.task != "choice":
        states = states.sum(axis=0, keepdims=True)
    return reference.softmax((states @ classifier.weight.T.astype(np.float64) + classifier.bias).reshape(-1))


def test_probabilities_are_the_references(folder: Path, task: Task) -> None:
    model = Model.load(folder, weights="float32", threads=1)
    for item in ITEMS[task]:
        found, p = model.classify(item), expected(folder, item)
        assert list(found.probabilities) == list(item[1] if task == "choice" else LABELS)
        assert np.abs(np.array(list(found.probabilities.values())) - p).max() < 1e-5
        assert found.label == list(found.probabilities)[int(p.argmax())]


def test_a_list_gives_what_each_alone_gives(folder: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Model.load(folder, threads=1)
    alone = [model.classify(item) for item in ITEMS[task]]
    assert len({frozenset(c.probabilities.items()) for c in alone}) == len(alone)
    assert model.classify(ITEMS[task]) == alone
    assert model.classify([]) == []
    monkeypatch.setattr("pygpt.classification._GROUP_TOKENS", 70)
    assert model.classify(ITEMS[task]) == alone


@pytest.mark.parametrize("task", ["similarity"], indirect=True)
def test_similarity_does_not_depend_on_the_order(folder: Path) -> None:
    model = Model.load(folder, threads=1)
    assert model.classify(("in the", "on")) == model.classify(("on", "in the"))


@pytest.mark.parametrize("weights", ["int8", "float32"])
def test_save_keeps_the_classifier(folder: Path, task: Task, tmp_path: Path, weights: Any) -> None:
    model = Model.load(folder, weights=weights, threads=1)
    model.save(tmp_path / "saved")
    again = Model.load(tmp_path / "saved", threads=1)
    assert again.labels == model.labels == (() if task == "choice" else LABELS)
    assert again.classify(ITEMS[task]) == model.classify(ITEMS[task])
    again.save(tmp_path / "twice")
    assert Model.load(tmp_path / "twice", threads=1).classify(ITEMS[task]) == model.classify(ITEMS[task])


def test_the_checkpoint_reads_as_one_without(folder: Path, gpt2_folder: Path) -> None:
    assert checkpoint.read(folder)[0] == checkpoint.read(gpt2_folder)[0]
    with_it, without = Model.load(folder, threads=1), Model.load(gpt2_folder, threads=1)
    assert np.array_equal(with_it.logits("in the"), without.logits("in the"))


def test_writing_again_replaces_weights_but_not_labels(folder: Path) -> None:
    config, tensors, tokenizer = checkpoint.read(folder)
    values = {name: np.array(tensor, np.float32) for name, tensor in tensors.items()}
    old = read_classifier(folder, config)
    assert old is not None
    new = Classifier(task=old.task, labels=old.labels, ids=old.ids, weight=-old.weight, bias=old.bias)
    checkpoint.write(folder, config, values, tokenizer, new.extra())
    found = read_classifier(folder, config)
    assert found is not None
    assert np.array_equal(found.weight, -old.weight)
    with pytest.raises(CheckpointError, match=r"classifier\.json differs"):
        checkpoint.write(folder, config, values, tokenizer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "poetry"}, "task is 'poetry', but must be one of classification, "),
        ({"labels": "ab"}, "labels must be a list of texts"),
        ({"labels": ["a", "a"]}, "labels must be at least 2 different texts"),
        ({"labels": ["a"]}, "labels must be at least 2 different texts"),
        ({"task": "classification", "labels": ["a", "b"]}, "asks for the tensor 'classifier.weight' as F32 of"),
        ({"start": 9999}, "3 different ids below"),
        ({"start": True}, "3 different ids below"),
        ({"extra": 1}, "must be a table of task, labels, start, delimiter, extract"),
    ],
)
def test_a_damaged_table_is_refused(folder: Path, change: dict[str, object], message: str) -> None:
    path = folder / "classifier.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        Model.load(folder)


def test_a_table_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "classifier.json").write_text("{", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"classifier\.json: not valid JSON"):
        Model.load(folder)


def test_inputs_of_another_task_are_refused(folder: Path, task: Task) -> None:
    model = Model.load(folder, threads=1)
    with pytest.raises(TypeError, match=f"{task} takes"):
        model.classify(("a", "b") if task == "classification" else "a")
    with pytest.raises(ValueError, match="must not be empty"):
        model.classify(" " if task == "classification" else (" ", ["a", "b"] if task == "choice" else "b"))


WRONG = [
    None, 5, b"text", 1.5, object(), {}, {"a": "b"}, (), ("a",), ("a", "b", "c"), ("a", None), (None, "b"), ("a", []),
    ("a", ["b"]), ("a", ["b", "b"]), ("a", ["b", ""]), ("a", ["b", 5]), ("a", 5), ("a", [["b"], ["c"]]), (["a"], "b"),
    "", [["a"]], [None], [("a",)], [""], np.array(["a", "b"]),
]  # fmt: skip


def test_wrong_examples_are_type_or_value_errors(folder: Path, task: Task) -> None:
    model = Model.load(folder, threads=1)
    for wrong in WRONG:
        with pytest.raises((TypeError, ValueError), match=task):
            model.classify(wrong)


def test_a_model_without_a_classifier_says_so(model: Model) -> None:
    assert model.labels is None
    with pytest.raises(ValueError, match="has no classifier: `pygpt finetune --task` trains one"):
        model.classify("in the")


def test_a_classifier_needs_a_tokenizer(folder: Path, task: Task) -> None:
    for name in ("vocab.json", "merges.txt"):
        (folder / name).unlink()
    with pytest.raises(TokenizerError, match="has no tokenizer"):
        Model.load(folder, threads=1).classify(ITEMS[task][0])
