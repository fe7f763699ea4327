"""examples/tasks/: each kind of task on a few invented rows, in the files that the data sets' publishers give."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import pygpt

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "tasks"
LABELLED = {
    "neg": ["a dull film", "no story at all", "slow and empty"],
    "pos": ["a fine film", "warm and funny", "a joy"],
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Small data sets in their publishers' forms."""
    folder = tmp_path / "data"
    folder.mkdir()
    with zipfile.ZipFile(folder / "nltk_sentence_polarity.zip", "w") as archive:
        for name, lines in LABELLED.items():
            text = "".join(f"{line} {i} \n" for line in lines for i in range(4))
            archive.writestr(f"sentence_polarity/rt-polarity.{name}", text.encode("latin-1"))
    (folder / "banking77_train.csv").write_text('text,category\n"Where is it, my card?",card_arrival\nToo dear,fees\n')
    (folder / "banking77_test.csv").write_text("text,category\nMy card is late,card_arrival\nI paid too much,fees\n")
    (folder / "sms_spam.tsv").write_text('ham\tsee you at 5\nspam\tWIN a prize, "now"\n')
    for side, lines in (("deu", "Guten Tag.\nDanke.\n"), ("eng", "Good day.\nThanks.\n")):
        (folder / f"tatoeba.deu-eng.{side}").write_text(lines * 40)
    question = {"question": "Where is the sea?", "answers": [{"text": "in the south", "answer_start": 10}]}
    paragraphs = [{"context": f"{i} hills. The sea is in the south.", "qas": [question]} for i in range(4)]
    (folder / "xquad.en.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    for part in ("train", "test"):
        paper = {"source": ["We learn.\n", "It works."], "target": ["Learning works.", "It learns."]}
        (folder / f"scitldr_a_{part}.jsonl").write_text(json.dumps(paper) + "\n")
    return folder


def test_every_example_is_tested_once(task_module: Callable[[str], ModuleType], data: Path) -> None:
    splits, rows = task_module("splits"), task_module("data").read_polarity(data)[0]
    tested = []
    for split in splits.splits(rows, 0, 5, seed=0):
        assert sorted([*split.train, *split.test]) == list(range(24))
        tested += split.test
        kept = splits.first_of_each(rows, split.train, 6)
        assert [rows[i][1] for i in kept].count("positive") == 3
    assert sorted(tested) == list(range(24))
    rows, n_test = task_module("data").read_banking(data)
    (split,) = splits.splits(rows, n_test, 5, seed=0)  # the publisher's
    assert (sorted(split.train), sorted(split.test)) == ([0, 1], [2, 3])


def test_readers(task_module: Callable[[str], ModuleType], data: Path) -> None:
    reads = task_module("data")
    assert reads.read_sms(data) == ([("see you at 5", "ham"), ('WIN a prize, "now"', "spam")], 0)
    assert reads.read_banking(data)[0][0] == ("Where is it, my card?", "card_arrival")
    assert reads.CLASSES["banking77"].answer("card_arrival") == " card arrival"
    assert reads.read_summaries(data, "test") == [("We learn. It works.", ["Learning works.", "It learns."])]
    assert reads.read_questions(data)[1].answers == ("in the south",)


def test_augmentations_keep_what_there_was(task_module: Callable[[str], ModuleType]) -> None:
    augmentation = task_module("augmentation")
    arguments = task_module("classification").parser().parse_args(["polarity", "--data", ".", "--augment-with", "tiny"])
    rows = [("one two three four five six seven eight nine ten", "a"), ("alone", "b")]
    for name, augment in augmentation.AUGMENTATIONS.items():
        more = augment(rows, arguments)
        assert more[:2] == rows
        assert [label for _, label in more[2:]] == ([] if name == "none" else ["a", "b"])
        assert all(text.strip() for text, _ in more)
        if name == "swap":
            assert sorted(more[2][0].split()) == sorted(rows[0][0].split())


def test_classification_goes_on_where_it_was(
    task_module: Callable[[str], ModuleType], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classification = task_module("classification")
    command = ["polarity", "--data", str(data), "--work", str(tmp_path / "work"), "--only", "1", "--threads", "1"]
    tuning = ["--methods", "finetune", "--steps", "2", "--lora", "2", "--language-weight", "0", "--prompt"]
    classification.main([*command, "--methods", "majority"])
    classification.main([*command, *tuning])
    out = capsys.readouterr().out.splitlines()
    (row,) = [line for line in out if line.startswith("| finetune tiny, steps 2, lora 2, language_weight 0.0")]
    assert row.endswith("| 6 |")  # examples of this fold
    assert "true \\ predicted  negative  positive" in out
    results = (tmp_path / "work" / "results.jsonl").read_text()
    classification.main([*command, "--methods", "majority"])
    assert (tmp_path / "work" / "results.jsonl").read_text() == results


def test_prompting(
    task_module: Callable[[str], ModuleType], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["polarity", "--data", str(data), "--work", str(tmp_path), "--model", "tiny", "--threads", "1"]
    task_module("prompting").main([*command, "--shots", "0", "2", "--most-test", "4"])
    out = capsys.readouterr().out
    for name in ("tiny, 0 shots", "tiny, 0 shots, calibrated", "tiny, 2 shots", "tiny, 2 shots, calibrated"):
        assert f"| {name} | {name[6]} |" in out


def test_generation(
    task_module: Callable[[str], ModuleType], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generation = task_module("generation")
    command = ["questions", "--data", str(data), "--work", str(tmp_path), "--threads", "1"]
    generation.main([*command, "--model", "tiny", "--shots", "0", "1"])
    head, _, baseline, zero, one = capsys.readouterr().out.splitlines()
    assert head == "| written by | exact match | F1 | answer inside | n |"
    assert baseline.startswith(
        "| likest sentence | 0.0 (0.0 to 0.0) | 66.7 (66.7 to 66.7) | 100.0 (43.9 to 100.0) | 3 |"
    )
    assert zero.startswith("| tiny, 0 shots |")
    assert one.startswith("| tiny, 1 shots |")
    written = (tmp_path / "generation.jsonl").read_text()
    generation.main(command)  # what is there is only shown
    assert (tmp_path / "generation.jsonl").read_text() == written


@pytest.mark.parametrize("chat", [False, True])
def test_translating_is_learnt(
    task_module: Callable[[str], ModuleType],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    chat: bool,
) -> None:
    generation = task_module("generation")
    kind = generation.KINDS["translation-deu"]
    thanks = generation.Item("Danke.", ["Thanks."])
    assert kind.shown(thanks) == "German: Danke.\nEnglish: Thanks.\n\n"
    assert [turn["role"] for turn in kind.turns(thanks)] == ["user", "assistant"]
    generation.KINDS["translation-deu"] = kind._replace(measure=generation.of_answers)  # which needs no package
    source = "tiny"
    if chat:
        talks = tmp_path / "talks.jsonl"
        talks.write_text((json.dumps({"messages": kind.turns(thanks)}) + "\n") * 2)
        options = {"chat_template": "{% for m in messages %}{{ m.content }}\n{% endfor %}", "steps": 1, "threads": 1}
        source = str(pygpt.finetune("tiny", talks, tmp_path / "chatty", **options).best)
    command = ["translation-deu", "--data", str(data), "--work", str(tmp_path), "--threads", "1", "--model", source]
    asked: list[pygpt.Model] = []
    written = generation.written
    monkeypatch.setattr(generation, "written", lambda model, *rest: asked.append(model) or written(model, *rest))
    tuning = ["--finetune", "1", "--finetune-context", "64" if chat else "16", "--most-train", "20"]
    generation.main([*command, *tuning, "--most-test", "1"])
    generation.main([*command, "--most-test", "2"])  # of other texts
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    name = "best" if chat else "tiny"
    methods = ["| the source", f"| {name}, 0 shots", f"| {name}, fine-tuned on 20, 1 epochs"]
    assert [row[0] for row in rows[-5:]] == [*methods, *methods[:2]]
    assert [row[-1][0] for row in rows[-5:]] == ["1", "1", "1", "2", "2"]
    assert asked[1].config.n_ctx == 512  # it reads as much as before, whatever a step read
    assert [model.has_chat_template for model in asked] == [chat] * 3
    assert not list(tmp_path.glob("translation-deu*"))  # a run that ended is deleted


def test_an_answer_of_a_dialogue(task_module: Callable[[str], ModuleType]) -> None:
    dialogue = task_module("dialogue")
    asked = {"expect": ["Konrad", "7:45"], "never": ["Karl"]}
    assert dialogue.is_right("You are KONRAD.", asked)
    assert dialogue.is_right("At 7:45, I think", asked)
    assert not dialogue.is_right("Konradin", asked)
    assert not dialogue.is_right("Konrad or Karl", asked)
    for one in json.loads((FOLDER / "dialogues.json").read_text()):
        assert one.keys() <= {"kind", "turns", "expect", "never"}
        assert len(one["turns"]) > 1
        assert not dialogue.is_right(one["turns"][-1], one)  # the question does not give it away
