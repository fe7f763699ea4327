"""Fine-tuning shown: the sentiment of sentences that people rated, beside two baselines, over 5 folds.

    python examples/sentiment.py --work sentiment

The sentences are those of Hutto and Gilbert 2014, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text": tweets and snippets of reviews and editorials, each rated by 20 people from -4 to 4. They are in the
source archive of vaderSentiment 3.3.2 (MIT), which pip downloads into the working folder. Sentences rated above 1 are
positive and below -1 negative; the others are left out, and so is what occurs twice.

Each fold is tested once by models that never saw it: `pygpt.finetune` on the others, which takes
a tenth of them to choose its best checkpoint; TF-IDF with logistic regression (needs scikit-learn); and the majority.
What the working folder has of a run is not computed again: another model or other options need another folder.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import statistics
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import pygpt
from pygpt.classification import task_metrics
from pygpt.training import resume

PACKAGE = "vaderSentiment==3.3.2"
INNER = "hutto_ICWSM_2014.tar.gz"
LABELS = ("negative", "positive")

Sentences = list[tuple[str, str]]  # (text, label)


def download(work: Path) -> Path:
    """The source archive, downloaded unless it is there."""
    if not (found := list(work.glob("*.tar.gz"))):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", str(work), PACKAGE], check=True)
        found = list(work.glob("*.tar.gz"))
    return found[0]


def read_sentences(archive: Path) -> Sentences:
    """The sentences with a clear rating, in the archive's order."""
    rated: dict[str, float] = {}
    with tarfile.open(archive) as outer:
        name = next(name for name in outer.getnames() if name.endswith(INNER))
        file = outer.extractfile(name)
        assert file is not None
        with tarfile.open(fileobj=io.BytesIO(file.read())) as inner:
            for name in sorted(n for n in inner.getnames() if n.endswith("_GroundTruth.txt")):
                file = inner.extractfile(name)
                assert file is not None
                for line in file.read().decode("utf-8").splitlines():
                    _, rating, text = line.split("\t", 2)
                    if text.strip():
                        rated.setdefault(text.strip(), float(rating))
    return [(text, LABELS[rating > 0]) for text, rating in rated.items() if abs(rating) > 1]


def folds_of(sentences: Sentences, n_folds: int, seed: int) -> list[int]:
    """The fold of each sentence; each label is spread evenly over all of them."""
    folds = np.zeros(len(sentences), np.int64)
    generator = np.random.default_rng(seed)
    for label in LABELS:
        members = np.array([i for i, (_, other) in enumerate(sentences) if other == label])
        folds[generator.permutation(members)] = np.arange(len(members)) % n_folds
    return folds.tolist()


def by_pygpt(train: Sentences, test: list[str], folder: Path, model: str, options: dict[str, Any]) -> list[str]:
    """Fine-tune a model, or go on where that stopped, then ask its best checkpoint."""
    run = folder / "run"
    if (run / "run.json").exists():
        result = resume(run)
    else:
        folder.mkdir(exist_ok=True)
        table = folder / "train.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *train])
        result = pygpt.finetune(model, table, run, task="classification", **options)
    return [found.label for found in pygpt.Model.load(result.best).classify(list(test))]


def by_logistic_regression(train: Sentences, test: list[str]) -> list[str]:
    """TF-IDF of words and pairs of words, then logistic regression, with scikit-learn's defaults otherwise."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000))
    pipeline.fit([text for text, _ in train], [label for _, label in train])
    return list(pipeline.predict(test))


def by_majority(train: Sentences, test: list[str]) -> list[str]:
    """The more frequent label."""
    return [Counter(label for _, label in train).most_common(1)[0][0]] * len(test)


def table(scores: dict[str, list[tuple[float, float]]]) -> str:
    """Mean and standard deviation over the folds, as a table in Markdown."""
    rows = ["| | accuracy | macro F1 |", "| --- | --- | --- |"]
    for name, of_folds in scores.items():
        cells = []
        for values in zip(*of_folds, strict=True):
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            cells.append(f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}%")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("sentiment"), help="where everything is kept")
    parser.add_argument("--model", default="tiny", help="the model to start from")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--backend", default="kernels", help="kernels-bf16 on CPUs with AMX")
    arguments = parser.parse_args()
    options = {name: getattr(arguments, name) for name in ("learning_rate", "epochs", "backend")}
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    sentences = read_sentences(download(work))
    counts = Counter(label for _, label in sentences)
    print(f"{len(sentences)} sentences: {counts['positive']} positive, {counts['negative']} negative")
    folds = folds_of(sentences, arguments.folds, arguments.seed)
    scores: dict[str, list[tuple[float, float]]] = {}
    for fold in range(arguments.folds):
        train = [sentence for sentence, its in zip(sentences, folds, strict=True) if its != fold]
        test = [sentence for sentence, its in zip(sentences, folds, strict=True) if its == fold]
        folder = work / f"fold{fold}"
        methods: dict[str, Callable[[Sentences, list[str]], list[str]]] = {
            f"pygpt, fine-tuned from {arguments.model}": lambda train, test, folder=folder: by_pygpt(
                train, test, folder, arguments.model, options
            ),
            "TF-IDF + logistic regression": by_logistic_regression,
            "majority": by_majority,
        }
        truth = [LABELS.index(label) for _, label in test]
        for name, method in methods.items():
            predicted = method(train, [text for text, _ in test])
            metrics = task_metrics(truth, [LABELS.index(label) for label in predicted], len(LABELS))
            scores.setdefault(name, []).append((metrics.accuracy, metrics.macro_f1))
            print(f"fold {fold}, {name}: accuracy {metrics.accuracy:.4f}, macro F1 {metrics.macro_f1:.4f}", flush=True)
    (work / "scores.json").write_text(json.dumps(scores, indent=2) + "\n", encoding="utf-8")
    print(f"\n{table(scores)}")


if __name__ == "__main__":
    main()
