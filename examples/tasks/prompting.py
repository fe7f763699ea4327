"""Classification without training: a language model reads the task and some solved examples, as GPT-3 did.

    python examples/tasks/prompting.py polarity --data DATA --model smollm2 --shots 0 1 8

Brown et al. 2020, "Language Models are Few-Shot Learners": zero, one or a few solved examples stand before the text,
and the answer is the label whose words the model finds likeliest there. Small models prefer one answer whatever the
text is, so each result is also given after contextual calibration (Zhao et al. 2021, "Calibrate Before Use"): less
what the answer scores where the text is "N/A". The solved examples, of each label alike, come from the other folds.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from data import CLASSES, Classes, Rows
from numpy.typing import NDArray
from records import Records
from splits import first_of_each, splits

import pygpt


def scores(model: pygpt.Model, task: Classes, labels: list[str], solved: Rows, texts: list[str]) -> NDArray[np.float64]:
    """(N, L): the log-probability of each label's words as the answer to each text, after some solved examples."""
    shown = "".join(f"{task.asked(text)}{task.answer(label)}\n\n" for text, label in solved)
    pairs = [(shown + task.asked(text), task.answer(label)) for text in texts for label in labels]
    found = model.loglikelihood(pairs)  # which reads what the pairs begin with once
    return np.array([likelihood.logprob for likelihood in found]).reshape(len(texts), len(labels))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=CLASSES)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets' files")
    parser.add_argument("--work", type=Path, default=Path("tasks"), help="where results are kept")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--shots", nargs="+", type=int, default=[0, 1, 8], help="solved examples before the text")
    parser.add_argument("--most-test", type=int, default=500, help="examples of the first fold that are asked")
    parser.add_argument("--threads", type=int)
    a = parser.parse_args(argv)
    task = CLASSES[a.dataset]
    rows, n_test = task.read(a.data)
    labels = sorted({label for _, label in rows})
    split = next(splits(rows, n_test, 5, seed=0))
    test = split.test[: a.most_test]
    truth = [labels.index(rows[i][1]) for i in test]
    records = Records(a.work / "prompting.jsonl", a.dataset, labels)
    model = pygpt.Model.load(a.model, threads=a.threads)
    for shots in a.shots:
        names = [f"{Path(a.model).name.split('-')[0].lower()}, {shots} shots{more}" for more in ("", ", calibrated")]
        if all(records.has(name, "0", 0) for name in names):
            continue
        solved = [rows[i] for i in first_of_each(rows, split.train, shots)][:shots]
        raw = scores(model, task, labels, solved, [rows[i][0] for i in test])
        neutral = scores(model, task, labels, solved, ["N/A"])
        for name, guess in zip(names, (raw, raw - neutral), strict=True):
            records.add(name, "0", 0, len(solved), truth, guess.argmax(axis=1).tolist())
    print(f"\n{records.table()}")


if __name__ == "__main__":
    main()
