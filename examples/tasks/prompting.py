"""Classification without training: a language model reads the task and some solved examples, as GPT-3 did.

    python examples/tasks/prompting.py polarity --data DATA --model smollm2 --shots 0 1 8

Brown et al. 2020, "Language Models are Few-Shot Learners": zero, one or a few solved examples stand before the text,
and the answer is the label whose words the model finds likeliest there. Small models prefer one answer whatever the
text is, so each result is also given after contextual calibration (Zhao et al. 2021, "Calibrate Before Use"): less
what the answer scores where the text is "N/A". The solved examples, of each label alike, come from the other folds; the
model reads them once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from data import CLASSES, Classes, Rows
from records import Records
from splits import first_of_each, splits

import pygpt


class Asker:
    """Scores the answers to a task's prompt, after some solved examples."""

    def __init__(self, model: pygpt.Model, task: Classes, labels: list[str], solved: Rows) -> None:
        self._model, self._task = model, task
        encode = model.tokenizer.encode
        self._answers = [encode(task.answer(label), add_special=False) for label in labels]
        shown = "".join(f"{task.asked(text)}{task.answer(label)}\n\n" for text, label in solved)
        self._solved = encode(shown)  # with the token that begins a text, where the model has one
        self._read = model.session()
        if self._solved:
            self._read.append(self._solved)

    def scores(self, text: str) -> np.ndarray:
        """The log-probability of each label's words."""
        ids = self._model.tokenizer.encode(self._task.asked(text), add_special=False)
        session = self._read.fork()
        first = _log_softmax(session.append(ids))
        scores = []
        for answer in self._answers:
            score = float(first[answer[0]])
            if len(answer) > 1:
                whole = np.array([*self._solved, *ids, *answer], np.int32)
                score = float(self._model.score(whole)[-len(answer) :].sum(dtype=np.float64))
            scores.append(score)
        return np.array(scores)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


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
        solved = [rows[i] for i in first_of_each(rows, split.train, shots)] if shots else []
        asker = Asker(model, task, labels, solved[:shots])
        scores = np.array([asker.scores(rows[i][0]) for i in test])
        for name, guess in zip(names, (scores, scores - asker.scores("N/A")), strict=True):
            records.add(name, "0", 0, len(solved[:shots]), truth, guess.argmax(axis=1).tolist())
    print(f"\n{records.table()}")


if __name__ == "__main__":
    main()
