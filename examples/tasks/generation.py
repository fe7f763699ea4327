"""Texts that a model writes, measured: answers to questions, summaries, translations.

    python examples/tasks/generation.py translation-deu --data DATA --model smollm2 --shots 0 5

The model is asked for each example in turn, after some solved ones (--shots), and writes what it finds likeliest. A
model with a chat template is asked as its template says, solved examples being turns of the conversation; another one
goes on with a text of fields. Metrics: exact match and F1 of SQuAD; ROUGE-1, 2 and L, the best of several references;
BLEU and chrF of the whole set. Intervals of 95% are the bootstrap's over examples. Each task has a baseline that needs
no model. --finetune trains adapters on the part that is not tested, in the form in which the model is asked then: as
conversations, of which the answers are learnt, or as texts of fields. Texts go to generation.jsonl in the working
folder, and what is there is not written again. Needs rouge-score and sacrebleu (`pip install "pygpt-cpu[eval]"`).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from data import read_pairs, read_questions, read_summaries, shuffled

import pygpt
from pygpt.metrics import Estimate, accuracy, exact_match, f1, mean, normalized
from pygpt.training import resume

TOGETHER = 8  # texts that are written at once


class Item(NamedTuple):
    """What is asked, and the right answers."""

    source: str
    references: Sequence[str]


Metrics = dict[str, Estimate]


class Kind(NamedTuple):
    """A task."""

    read: Callable[[Path], tuple[list[Item], list[Item]]]
    """A folder -> those that may be shown or learnt from, and those that test."""
    instruction: str
    field: str
    """Before the source, where the text is one of fields ..."""
    answer: str
    """... and before the answer."""
    max_tokens: int
    baseline: Callable[[str], str]
    measure: Callable[[Sequence[str], Sequence[Sequence[str]]], Metrics]

    def prompt(self, model: pygpt.Model, item: Item, solved: Sequence[Item], chat: bool) -> list[int]:
        """The ids of all the model reads before it answers, in a conversation or as a text of fields."""
        if chat:
            turns = [turn for one in solved for turn in self.turns(one)]
            text = model.render([*turns, self.turns(item)[0]])
            return model.tokenizer.encode(text, allow_special=True, add_special=False)
        return model.tokenizer.encode("".join(map(self.shown, solved)) + self._field_of(item))

    def shown(self, item: Item) -> str:
        """An example with its answer, as fields."""
        return f"{self._field_of(item)} {item.references[0]}\n\n"

    def _field_of(self, item: Item) -> str:
        return f"{self.field} {item.source}\n{self.answer}"

    def turns(self, item: Item) -> list[dict[str, str]]:
        """An example as two turns of a conversation, the question and its answer."""
        asked = {"role": "user", "content": f"{self.instruction}\n\n{item.source}"}
        return [asked, {"role": "assistant", "content": item.references[0]}]


def questions(folder: Path) -> tuple[list[Item], list[Item]]:
    """The paragraphs of every tenth question are shown, never asked about."""
    found = read_questions(folder)
    shown = {q.context for q in found[::50]}
    items = [Item(f"{q.context}\nQuestion: {q.question}", q.answers) for q in found]
    return _divided(items, [q.context in shown for q in found])


def summaries(folder: Path) -> tuple[list[Item], list[Item]]:
    """SciTLDR's own parts."""
    train, test = ([Item(*paper) for paper in read_summaries(folder, part)] for part in ("train", "test"))
    return [train[i] for i in shuffled(len(train), 0)], [test[i] for i in shuffled(len(test), 0)]


def pairs(language: str) -> Callable[[Path], tuple[list[Item], list[Item]]]:
    """700 sentences to learn from, and 300 that test."""

    def read(folder: Path) -> tuple[list[Item], list[Item]]:
        items = [Item(source, (target,)) for source, target in read_pairs(folder, language)]
        return _divided(items, [i % 10 < 7 for i in range(len(items))])

    return read


def _divided(items: list[Item], shown: list[bool]) -> tuple[list[Item], list[Item]]:
    order = shuffled(len(items), 0)
    return [items[i] for i in order if shown[i]], [items[i] for i in order if not shown[i]]


def likest_sentence(source: str) -> str:
    """The sentence of a text that shares most words with the question after it."""
    context, _, question = source.rpartition("\nQuestion: ")
    asked = set(re.findall(r"\w+", question.lower()))
    sentences = re.split(r"(?<=[.!?])\s+", context)
    return max(sentences, key=lambda s: len(asked & set(re.findall(r"\w+", s.lower()))))


def first_sentence(source: str) -> str:
    """Of an abstract."""
    return re.split(r"(?<=[.!?])\s+", source)[0]


def the_source(source: str) -> str:
    """Untranslated."""
    return source


def of_answers(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Metrics:
    """SQuAD's two, as shares of 1, and whether a right answer is anywhere in the text."""
    both = list(zip(texts, references, strict=True))
    inside = [any(normalized(r) in normalized(text) for r in own) for text, own in both]
    return {
        "exact match": mean(exact_match(*pair) for pair in both),
        "F1": mean(f1(*pair) for pair in both),
        "answer inside": accuracy(inside),
    }


def of_summaries(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Metrics:
    """ROUGE's F1 with stemming, for each example the best of its references, as shares of 1."""
    from rouge_score.rouge_scorer import RougeScorer

    names = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L"}
    scorer = RougeScorer(list(names), use_stemmer=True)
    scores = [scorer.score_multi(list(own), text) for text, own in zip(texts, references, strict=True)]
    return {shown: mean(score[name].fmeasure for score in scores) for name, shown in names.items()}


def of_translations(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Metrics:
    """BLEU and chrF of sacrebleu over all texts together, as shares of 1."""
    from sacrebleu.metrics import BLEU, CHRF

    rng, n = np.random.default_rng(0), len(texts)
    drawn = [range(n), *rng.integers(n, size=(300, n)).tolist()]
    metrics = {}
    for name, metric in (("BLEU", BLEU(effective_order=False)), ("chrF", CHRF())):
        values = [
            metric.corpus_score([texts[i] for i in chosen], [[references[i][0] for i in chosen]]).score / 100
            for chosen in drawn
        ]
        low, high = np.quantile(values[1:], [0.025, 0.975])
        metrics[name] = Estimate(values[0], float(low), float(high), n)
    return metrics


def _translation(language: str, name: str) -> Kind:
    return Kind(
        pairs(language),
        f"Translate this sentence from {name} to English. Write the translation only.",
        f"{name}:",
        "English:",
        40,
        the_source,
        of_translations,
    )


KINDS = {
    "questions": Kind(
        questions,
        "Answer the question with a few words of the text, and nothing else.",
        "Text:",
        "Answer:",
        24,
        likest_sentence,
        of_answers,
    ),
    "summaries": Kind(
        summaries,
        "Sum up what this paper does in one short sentence.",
        "Abstract:",
        "Summary in one sentence:",
        60,
        first_sentence,
        of_summaries,
    ),
    "translation-deu": _translation("deu", "German"),
    "translation-fra": _translation("fra", "French"),
}


def written(model: pygpt.Model, kind: Kind, items: Sequence[Item], solved: Sequence[Item], chat: bool) -> list[str]:
    """The first line of what the model writes for each; the solved examples are read once."""
    prompts = [kind.prompt(model, item, solved, chat) for item in items]
    prefix = model.session()
    n_common = min(len(p) for p in prompts) - 1
    while any(p[:n_common] != prompts[0][:n_common] for p in prompts):
        n_common -= 1
    if n_common > 0:
        prefix.append(prompts[0][:n_common])
    texts = []
    for begin in range(0, len(prompts), TOGETHER):
        part = prompts[begin : begin + TOGETHER]
        done = model.generate(part, max_tokens=kind.max_tokens, temperature=0.0, stop=["\n"], prefix=prefix)
        texts += [one.text.strip() for one in done]
    return texts


def finetuned(
    model: pygpt.Model, kind: Kind, train: Sequence[Item], chat: bool, folder: Path, a: argparse.Namespace
) -> Path:
    """A checkpoint that has learnt the answers of examples, by adapters of all matrices; a run goes on where it was."""
    run = folder / "run"
    if (run / "run.json").exists():
        return resume(run, threads=a.threads).best
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / ("train.jsonl" if chat else "train.txt")
    lines = [json.dumps({"messages": kind.turns(item)}) + "\n" if chat else kind.shown(item) for item in train]
    data.write_text("".join(lines), encoding="utf-8")
    return pygpt.finetune(
        a.model,
        data,
        run,
        n_ctx=a.finetune_context,
        validation=0.05,
        epochs=a.finetune,
        lora=8,
        lora_targets=["q", "k", "v", "out", *(["gate"] if model.config.gated_mlp else []), "up", "down"],
        batch=4,
        learning_rate=5e-4,
        threads=a.threads,
        backend=a.backend,
    ).best


def after_training(
    model: pygpt.Model, kind: Kind, train: Sequence[Item], test: Sequence[Item], chat: bool, a: argparse.Namespace
) -> list[str]:
    """What the fine-tuned model writes; its run is deleted then."""
    settings = ("chat" if chat else "fields", a.finetune_context, a.backend, len(train), f"{a.finetune:g}")
    source = Path(a.model).resolve() if Path(a.model).exists() else Path(a.model)  # some are called .../best
    folder = a.work / "-".join(map(str, (a.task, *source.parts[-2:], *settings))).replace("/", "")
    best = pygpt.Model.load(finetuned(model, kind, train, chat, folder, a), threads=a.threads)
    texts = written(best, kind, test, [], chat)
    shutil.rmtree(folder)
    return texts


def table(records: list[dict[str, Any]], kind: Kind) -> str:
    """A row a method, of metrics in percent."""
    rows: list[list[str]] = []
    for record in records:
        metrics = kind.measure(record["texts"], record["references"])
        if not rows:
            rows += [["written by", *metrics, "n"], ["---"] * (len(metrics) + 2)]
        cells = [f"{100 * m.value:.1f} ({100 * m.low:.1f} to {100 * m.high:.1f})" for m in metrics.values()]
        rows.append([record["method"], *cells, str(len(record["texts"]))])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=KINDS)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets' files")
    parser.add_argument("--work", type=Path, default=Path("tasks"), help="where everything is kept")
    parser.add_argument("--model", help="none: the baseline alone")
    parser.add_argument(
        "--shots", nargs="*", type=int, default=[0], help="solved examples before the one that is asked"
    )
    parser.add_argument("--fields", action="store_true", help="a text of fields also where there is a chat template")
    parser.add_argument("--finetune", type=float, default=0, metavar="EPOCHS", help="also train for so many")
    parser.add_argument("--finetune-context", type=int, default=256, help="tokens in a sequence; a step has four")
    parser.add_argument("--backend", default="kernels", help="kernels-bf16: faster on CPUs with bfloat16")
    parser.add_argument("--most-train", type=int, help="of the examples to learn from")
    parser.add_argument("--most-test", type=int, default=100)
    parser.add_argument("--threads", type=int)
    a = parser.parse_args(argv)
    kind = KINDS[a.task]
    train, test = kind.read(a.data)
    test = test[: a.most_test]
    a.work.mkdir(parents=True, exist_ok=True)
    file = a.work / "generation.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(r["task"], r["method"], len(r["texts"])) for r in records}

    def keep(method: str, texts: Callable[[], list[str]]) -> None:
        if (a.task, method, len(test)) not in done:
            records.append(
                {"task": a.task, "method": method, "texts": texts(), "references": [i.references for i in test]}
            )
            with file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps(records[-1], ensure_ascii=False) + "\n")

    keep(kind.baseline.__name__.replace("_", " "), lambda: [kind.baseline(item.source) for item in test])
    if a.model:
        name = Path(a.model).name.split("-")[0].lower()
        model = pygpt.Model.load(a.model, threads=a.threads)
        chat = model.has_chat_template and not a.fields
        form = " as fields" if model.has_chat_template and a.fields else ""
        for shots in a.shots:
            solved = train[:shots]
            keep(f"{name}, {shots} shots{form}", lambda solved=solved: written(model, kind, test, solved, chat))
        if a.finetune:
            train = train[: a.most_train]
            shown = f"{name}, fine-tuned{form} on {len(train)}, {a.finetune:g} epochs"
            keep(shown, lambda: after_training(model, kind, train, test, chat, a))
    print(table([r for r in records if r["task"] == a.task], kind))


if __name__ == "__main__":
    main()
