"""Text classification measured: fine-tuning, and a model's states as features, beside words and the majority.

    python examples/tasks/classification.py polarity --data DATA --methods majority tfidf features finetune

    majority   the most frequent label
    tfidf      TF-IDF of words and pairs of words, and logistic regression
    features   the state in which --model, frozen, is about to answer the task's prompt, and logistic regression
    finetune   `pygpt.finetune` on --model; a tenth of what it may train on chooses the best checkpoint, or, if that
               is fewer than 30 examples, the last one is taken

Every example is tested once by models that never saw it: 5 folds, or the publisher's own test part. --sizes gives
learning curves: so many training examples, of each label alike. Predictions go to results.jsonl in the working folder;
what is there is not computed again, and the tables are made of it. A training that was stopped goes on; one that ended
is deleted once its checkpoint has answered. tfidf and features need scikit-learn (`pip install "pygpt-cpu[eval]"`).
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from augmentation import AUGMENTATIONS
from data import CLASSES, Classes, Rows, shuffled
from numpy.typing import NDArray
from records import Records
from splits import Split, first_of_each, splits

import pygpt
from pygpt.training import resume

METHODS = ("majority", "tfidf", "features", "finetune")
FEW = 30  # validation examples, whose loss says less about a checkpoint than its training does
# Options that pygpt.finetune has, too, and whose defaults are its own.
RECIPE = ("learning_rate", "epochs", "steps", "batch", "lora", "lora_targets", "dropout", "backend")


class Features:
    """The states of a frozen model, computed once for each text and kept in a file."""

    def __init__(self, model: str, threads: int | None, file: Path) -> None:
        self._model, self._threads, self._file = model, threads, file

    def of(self, prompts: list[str]) -> NDArray[np.float32]:
        """(N, C): the last token's state after the final norm."""
        if self._file.exists():
            return np.load(self._file)
        model = pygpt.Model.load(self._model, threads=self._threads)
        states = np.stack([model.hidden_states(prompt)[-1] for prompt in prompts])
        np.save(self._file, states)
        return states


def by_logistic_regression(train: Any, labels: list[str], test: Any, vectorizer: Any, strength: float) -> list[str]:
    """Any features, made by a vectorizer of scikit-learn."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(vectorizer, LogisticRegression(C=strength, max_iter=1000))
    pipeline.fit(train, labels)
    return list(pipeline.predict(test))


def by_finetuning(rows: Rows, test: list[str], folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Fine-tune a model, or go on where that stopped, then ask its checkpoint and delete the run."""
    run, files = folder / "run", (folder / "train.csv", folder / "validation.csv")
    held_out = max(len({label for _, label in rows}), min(len(rows) // 10, arguments.most_validation))
    if (run / "run.json").exists():
        result = resume(run, threads=arguments.threads)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        parts = (AUGMENTATIONS[arguments.augment](rows[held_out:], arguments), rows[:held_out])
        for file, part in zip(files, parts, strict=True):
            with file.open("w", encoding="utf-8", newline="") as opened:
                csv.writer(opened).writerows([("text", "label"), *part])
        options: dict[str, Any] = {
            name: getattr(arguments, name) for name in RECIPE if getattr(arguments, name) is not None
        }
        result = pygpt.finetune(
            arguments.model,
            files[0],
            run,
            task="classification",
            validation=files[1],
            labels=sorted({label for _, label in rows}),
            language_weight=arguments.language_weight,
            threads=arguments.threads,
            weight_decay=arguments.weight_decay,
            seed=arguments.seed,
            **options,
        )
    if not result.finished:
        raise SystemExit(f"{run} was stopped: the same command goes on with it")
    checkpoint = result.best if held_out >= FEW else result.path / "last"
    model = pygpt.Model.load(checkpoint, threads=arguments.threads)
    predicted = [found.label for found in model.classify(list(test))]
    shutil.rmtree(folder)
    return predicted


def described(method: str, a: argparse.Namespace) -> str:
    """A method with what sets it apart, as the tables name it."""
    if method in ("majority", "tfidf"):
        return method
    name = f"{method} {Path(a.model).name.split('-')[0].lower()}"
    if method == "features":
        return name
    usual = vars(parser().parse_args([a.dataset, "--data", "."]))
    options = {n: getattr(a, n) for n in (*RECIPE, "weight_decay", "language_weight", "augment", "prompt", "seed")}
    different = {n: v for n, v in options.items() if v != usual[n]}
    return ", ".join([name, *(f"{n} {'+'.join(v) if isinstance(v, list) else v}" for n, v in different.items())])


def predict(method: str, name: str, split: Split, train: list[int], rows: Rows, a: argparse.Namespace) -> list[str]:
    """The labels of the split's test part by one method."""
    task: Classes = CLASSES[a.dataset]
    labels = [rows[i][1] for i in train]
    if method == "majority":
        return [Counter(labels).most_common(1)[0][0]] * len(split.test)
    if method == "tfidf":
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        return by_logistic_regression(
            [rows[i][0] for i in train], labels, [rows[i][0] for i in split.test], words, 10.0
        )
    if method == "features":
        from sklearn.preprocessing import StandardScaler

        features = Features(a.model, a.threads, a.work / f"{a.dataset}-{len(rows)}-{Path(a.model).name}.npy")
        states = features.of([task.asked(text) for text, _ in rows])
        return by_logistic_regression(states[train], labels, states[split.test], StandardScaler(), 0.01)
    read = task.asked if a.prompt else str
    folder = a.work / f"{a.dataset} {name} {len(train)} {split.fold}".replace(" ", "_")
    return by_finetuning(
        [(read(rows[i][0]), rows[i][1]) for i in train], [read(rows[i][0]) for i in split.test], folder, a
    )


def parser() -> argparse.ArgumentParser:
    """Of the command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("dataset", choices=CLASSES)
    options.add_argument("--data", type=Path, required=True, help="the folder of the data sets' files")
    options.add_argument("--work", type=Path, default=Path("tasks"), help="where everything is kept")
    options.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS[:2])
    options.add_argument("--sizes", nargs="+", default=["all"], help="training examples: numbers, or all")
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--only", nargs="+", type=int, help="these folds alone, from 0")
    options.add_argument("--most-examples", type=int, help="no more of the data set are used, drawn by chance")
    options.add_argument("--most-test", type=int, help="no more examples of a fold are tested")
    options.add_argument("--most-validation", type=int, default=300, help="of the examples that choose a checkpoint")
    options.add_argument("--model", default="tiny")
    options.add_argument("--threads", type=int)
    options.add_argument("--seed", type=int, default=0, help="of the training, not of the folds")
    options.add_argument("--learning-rate", type=float)
    options.add_argument("--epochs", type=float)
    options.add_argument("--steps", type=int)
    options.add_argument("--batch", type=int)
    options.add_argument("--lora", type=int, help="train adapters of this rank alone")
    options.add_argument("--lora-targets", nargs="+")
    options.add_argument("--backend", help="kernels-bf16: faster on CPUs with bfloat16")
    options.add_argument("--dropout", type=float)
    options.add_argument("--weight-decay", type=float, default=0.01)
    options.add_argument(
        "--language-weight", type=float, default=0.5, help="0 saves the time of the language model's head"
    )
    options.add_argument(
        "--prompt", action="store_true", help="fine-tune on the task's prompt instead of the bare text"
    )
    options.add_argument("--augment", choices=AUGMENTATIONS, default="none")
    options.add_argument("--augment-with", default="smollm2", help="the model that paraphrases")
    return options


def main(argv: list[str] | None = None) -> None:
    a = parser().parse_args(argv)
    rows, n_test = CLASSES[a.dataset].read(a.data)
    if a.most_examples is not None:
        n = len(rows) - n_test
        rows = [rows[i] for i in sorted(shuffled(n, seed=1)[: a.most_examples])] + rows[n:]
    labels = sorted({label for _, label in rows})
    records = Records(a.work / "results.jsonl", a.dataset, labels)
    for split in splits(rows, n_test, a.folds, seed=0):
        if a.only is not None and split.fold not in a.only:
            continue
        split = split._replace(test=split.test[: a.most_test])
        truth = [labels.index(rows[i][1]) for i in split.test]
        for size in a.sizes:
            train = split.train if size == "all" else first_of_each(rows, split.train, int(size))
            for method in a.methods:
                name = described(method, a)
                if not records.has(name, size, split.fold):
                    predicted = predict(method, name, split, train, rows, a)
                    records.add(name, size, split.fold, len(train), truth, [labels.index(p) for p in predicted])
    print(f"\n{records.table()}\n")
    if len(labels) <= 10:
        print(records.confusion())


if __name__ == "__main__":
    main()
