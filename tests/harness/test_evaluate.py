"""`pygpt.evaluate` over small task files: the forms, the metrics by hand, and what is wrong with a file by its line."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Model
from pygpt.metrics import Estimate

QUERIES = [
    {"query": "Once upon a", "choices": ["time", "king of the"], "gold": 0},
    {"query": "There was a little\n", "choices": ["of", "girl", "and"], "gold": 1},
    {"query": "She looked at the", "choices": ["he", "old man"], "gold": 0},
]


@pytest.fixture(scope="module")
def tiny() -> Model:
    return Model.load("tiny", weights="float32", threads=1)


def put(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def logprob(model: Model, context: str, continuation: str) -> float:
    ids = model.tokenizer.encode(context + continuation)
    return math.fsum(model.score(ids).tolist()[len(model.tokenizer.encode(context.rstrip())) - 1 :])


def test_choices(tiny: Model, tmp_path: Path) -> None:
    found = pygpt.evaluate(tiny, put(tmp_path / "mine.jsonl", QUERIES), confidence=0.9)
    (result,) = found.values()
    n_right = n_right_norm = 0
    for row, answer in zip(QUERIES, result.answers, strict=True):
        query, choices = str(row["query"]), list(row["choices"])  # type: ignore[call-overload]
        space = "" if query.endswith("\n") else " "
        logprobs = [logprob(tiny, query, space + choice) for choice in choices]
        assert answer["logprobs"] == logprobs
        n_right += int(np.argmax(logprobs) == row["gold"])
        n_right_norm += int(np.argmax([p / len(c) for p, c in zip(logprobs, choices, strict=True)]) == row["gold"])
    hits = [True] * n_right + [False] * (3 - n_right)
    assert result.metrics["acc"] == pygpt.metrics.accuracy(hits, confidence=0.9)
    assert result.metrics["acc_norm"].value == n_right_norm / 3
    assert (result.n, result.task) == (3, str(tmp_path / "mine.jsonl"))


def test_contexts_and_sentences(tiny: Model, tmp_path: Path) -> None:
    contexts = ["The king said to the", "Of and the"]
    put(tmp_path / "winogrande.jsonl", [{"context_options": contexts, "continuation": "queen.", "gold": 0}])
    pair = {"sentence_good": "There was a girl.", "sentence_bad": "There were a girl.", "UID": "x"}
    put(tmp_path / "blimp" / "a.jsonl", [pair, pair])
    put(tmp_path / "blimp" / "b.jsonl", [pair])
    found = pygpt.evaluate(tiny, ["winogrande", "blimp"], data=tmp_path, limit=1)
    (answer,) = found["winogrande"].answers
    assert answer["logprobs"] == [logprob(tiny, context, " queen.") for context in contexts]
    assert found["blimp"].n == 2  # the first of each file
    ids = [tiny.tokenizer.bos_id, *tiny.tokenizer.encode("There was a girl.", add_special=False)]
    assert found["blimp"].answers[0]["logprobs"][0] == math.fsum(tiny.score(ids).tolist())
    assert found["blimp"].metrics.keys() == {"acc"}


def test_continuations(tiny: Model, tmp_path: Path) -> None:
    likeliest = tiny.generate("Once upon a", temperature=0, max_tokens=1).text
    rows = [{"context": "Once upon a", "continuation": word} for word in (likeliest, "xylophone")]
    (result,) = pygpt.evaluate(tiny, [put(tmp_path / "a.jsonl", rows)]).values()
    assert result.metrics["acc"].value == 0.5
    logprobs = [logprob(tiny, "Once upon a", likeliest), logprob(tiny, "Once upon a", " xylophone")]
    assert result.metrics["perplexity"].value == pytest.approx(math.exp(-sum(logprobs) / 2), rel=1e-12)


def test_documents(tiny: Model, tmp_path: Path) -> None:
    """A text of WikiText's form is cut at its titles; other texts, and rows with a text, are one document each."""
    pages = [" = One = \n\n Once upon a time \n = = Part = = \n", " = Two = \n There was a girl . \n"]
    (tmp_path / "wikitext2_test.txt").write_text(" \n" + "".join(pages), encoding="utf-8")
    found = pygpt.evaluate(tiny, "wikitext2", data=tmp_path)["wikitext2"]
    assert found.n == 2
    ids = [[tiny.tokenizer.bos_id, *tiny.tokenizer.encode(page, add_special=False)] for page in pages]
    logprobs = [math.fsum(tiny.score(i).tolist()) for i in ids]
    assert [answer["logprob"] for answer in found.answers] == logprobs
    n_words, n_bytes = sum(len(page.split()) + 2 for page in pages), sum(map(len, pages))  # empty ones at both ends
    assert found.metrics["word_perplexity"].value == pytest.approx(math.exp(-sum(logprobs) / n_words))
    assert found.metrics["bits_per_byte"].value == pytest.approx(-sum(logprobs) / n_bytes / math.log(2))
    assert found.metrics["byte_perplexity"].value == pytest.approx(2 ** found.metrics["bits_per_byte"].value)
    rows = put(tmp_path / "rows.jsonl", [{"text": page} for page in pages])
    assert pygpt.evaluate(tiny, rows)[str(rows)].metrics == found.metrics


def test_questions(tiny: Model, tmp_path: Path) -> None:
    """Rows, and a file in SQuAD's form; an answer ends with its line."""
    prompt = "Context: The old man.\n\nQuestion: Who?\n\nAnswer:"
    written = tiny.generate(prompt, temperature=0, max_tokens=9, stop="\n").text
    row = {"context": "The old man.", "question": "Who?", "answers": ["nobody at all", written or "x"]}
    squad = {"question": "Who?", "answers": [{"text": "zzz"}]}
    article = {"paragraphs": [{"context": "The old man.", "qas": [squad]}]}
    (tmp_path / "xquad.en.json").write_text(json.dumps({"data": [article]}), encoding="utf-8")
    names = ["xquad", put(tmp_path / "q.jsonl", [row])]
    found = pygpt.evaluate(tiny, names, data=tmp_path, max_tokens=9)
    (answer,) = found[str(names[1])].answers
    assert answer["answer"] == written.strip()
    assert answer["exact_match"] == float(written != "")
    assert found["xquad"].metrics["f1"] == Estimate(0.0, 0.0, 0.0, 1)


def test_progress_and_summary(tiny: Model, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    task = str(put(tmp_path / "mine.jsonl", QUERIES))
    found = pygpt.evaluate(tiny, [task, task], progress=lambda *call: calls.append(call))
    assert calls[-1] == (task, 3, 3)
    assert calls.count((task, 3, 3)) == 1  # once, however often it is named
    assert json.loads(json.dumps(found[task].summary()))["metrics"]["acc"]["value"] == found[task].metrics["acc"].value


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "holds no examples"),
        ("\n{", ":2: not valid JSON"),
        ("[1]", ":1: not a JSON table"),
        ('{"a": 1, "b": 2}', r":1: has the columns a, b, but needs query, choices, gold; or .*; or text"),
        (
            '{"query": "a", "choices": ["b", "c"], "gold": 1}\n{"query": "a", "gold": 0}',
            ":2: lacks the column 'choices'",
        ),
        ('{"query": "a", "choices": ["b", "c"], "gold": 2}', ":1: gold must be the number of one of 2 choices"),
        ('{"query": "a", "choices": ["b", "c"], "gold": true}', ":1: gold must be"),
        ('{"query": "a", "choices": ["b"], "gold": 0}', ":1: choices must be a list of at least 2 texts"),
        ('{"query": "a", "choices": "bc", "gold": 0}', ":1: choices must be a list"),
        ('{"query": "a", "choices": ["b", ""], "gold": 0}', ":1: choices must hold texts that are not empty"),
        ('{"query": 5, "choices": ["b", "c"], "gold": 0}', ":1: query must be a text"),
        ('{"text": ""}', ":1: text must be a text that is not empty"),
        ('{"context": "a", "question": "b", "answers": []}', ":1: answers must be a list of at least 1"),
    ],
)
def test_a_file_that_is_not_as_it_must_be(tiny: Model, tmp_path: Path, lines: str, message: str) -> None:
    path = tmp_path / "task.jsonl"
    path.write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=f"task.jsonl.*{message}"):
        pygpt.evaluate(tiny, path)


@pytest.mark.parametrize(
    "row",
    [
        {"context": "a", "continuation": "b " * 600},
        {"query": "a", "choices": ["b", "c " * 600], "gold": 0},
    ],
)
def test_a_continuation_that_is_too_long_is_named_by_its_line(tiny: Model, tmp_path: Path, row: dict[str, Any]) -> None:
    path = put(tmp_path / "long.jsonl", [QUERIES[0] if "query" in row else {**row, "continuation": "b"}, row])
    message = r"the \d+ tokens of the continuation of .*long\.jsonl:2 do not fit a context of 512"
    with pytest.raises(pygpt.errors.ContextOverflowError, match=message):
        pygpt.evaluate(tiny, path)


def test_files_that_cannot_be_read(tiny: Model, tmp_path: Path) -> None:
    put(tmp_path / "blimp" / "a.jsonl", QUERIES)
    put(tmp_path / "blimp" / "b.jsonl", QUERIES)
    put(tmp_path / "mine.jsonl", QUERIES)
    (tmp_path / "pictures").mkdir()
    message = r"no task .arc. in .*: looked for arc\.jsonl, arc\.json, arc\.txt and .*; there are blimp, mine$"
    with pytest.raises(ValueError, match=message):
        pygpt.evaluate(tiny, "arc", data=tmp_path)
    (tmp_path / "mine.csv").touch()
    with pytest.raises(ValueError, match=r"mine\.csv is no task file, whose name ends in \.jsonl, \.json or \.txt"):
        pygpt.evaluate(tiny, tmp_path / "mine.csv")
    with pytest.raises(ValueError, match="no folder of task files"):
        pygpt.evaluate(tiny, "arc_easy")
    with pytest.raises(ValueError, match="does not exist"):
        pygpt.evaluate(tiny, "arc_easy", data=tmp_path / "nowhere")
    (tmp_path / "a.json").write_text('{"data": [{"paragraphs": 5}]}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json: not in the form of SQuAD"):
        pygpt.evaluate(tiny, "a", data=tmp_path)
    (tmp_path / "b.txt").write_bytes(b"a\xff")
    with pytest.raises(ValueError, match="is not UTF-8: byte 1 is 0xff"):
        pygpt.evaluate(tiny, "b", data=tmp_path)
    put(tmp_path / "mixed" / "a.jsonl", QUERIES[:1])
    for other in ({"text": "a"}, {"context_options": ["a", "b"], "continuation": "c", "gold": 0}):
        put(tmp_path / "mixed" / "b.jsonl", [other])
        with pytest.raises(ValueError, match="have different forms"):
            pygpt.evaluate(tiny, "mixed", data=tmp_path)


def test_the_command(tmp_path: Path) -> None:
    put(tmp_path / "mine.jsonl", QUERIES)
    (tmp_path / "wrong.jsonl").write_text('{"a": 1}', encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("pygpt")), "eval", "tiny", "--threads", "1", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)

    done = run("--tasks", "mine", "--data", ".", "--json", "--answers", "answers.jsonl", "--limit", "2")
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert (table["task"], table["n"], table["weights"]) == ("mine", 2, "int8")
    assert table["metrics"].keys() == {"acc", "acc_norm"}
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [answer["gold"] for answer in answers] == [0, 1]
    done = run("--tasks", "mine.jsonl")
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["mine.jsonl", "3", "acc"],
        ["mine.jsonl", "3", "acc_norm"],
    ]
    done = run("--tasks", "mine.jsonl", "--answers", "nowhere/answers.jsonl")
    assert (done.returncode, done.stdout) == (2, "")  # before the model is loaded, not after hours
    assert "does not exist" in done.stderr
    done = run("--tasks", "wrong.jsonl")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("pygpt: error: wrong.jsonl:1: has the columns a, but needs query, choices, gold")
