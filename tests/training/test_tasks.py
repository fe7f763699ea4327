"""Labelled examples: how files are read, what is refused, how examples become batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pygpt.classification import SpecialIds, Task, check_input, form
from pygpt.errors import TrainingError
from pygpt.training.batches import Encoded, batch, drawn, micro_batches, steps_per_epoch
from pygpt.training.tasks import load_task, read_rows

IDS = SpecialIds(1000, 1001, 1002)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def code_points(text: str) -> list[int]:
    return [ord(c) for c in text]


# --- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "item", "expected"),
    [
        ("classification", "ab", [[1000, 97, 98, 1002]]),
        ("entailment", ("ab", "c"), [[1000, 97, 98, 1001, 99, 1002]]),
        ("similarity", ("ab", "c"), [[1000, 97, 98, 1001, 99, 1002], [1000, 99, 1001, 97, 98, 1002]]),
        ("choice", ("a", ["b", "c"]), [[1000, 97, 1001, 98, 1002], [1000, 97, 1001, 99, 1002]]),
    ],
)
def test_each_task_has_its_form(task: Task, item: object, expected: list[list[int]]) -> None:
    assert form(task, check_input(task, item), code_points, IDS, 64) == (expected, False)


def test_texts_that_are_too_long_lose_their_ends() -> None:
    assert form("classification", "abcdef", code_points, IDS, 5) == ([[1000, 97, 98, 99, 1002]], True)
    assert form("entailment", ("abcd", "x"), code_points, IDS, 6) == ([[1000, 97, 98, 1001, 120, 1002]], True)
    assert form("entailment", ("a", "xyzw"), code_points, IDS, 6) == ([[1000, 97, 1001, 120, 121, 1002]], True)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(5, 40))
def test_a_pair_fills_the_room_and_keeps_both_texts(n_a: int, n_b: int, n_ctx: int) -> None:
    (sequence,), truncated = form("entailment", ("a" * n_a, "b" * n_b), code_points, IDS, n_ctx)
    assert len(sequence) == min(n_ctx, n_a + n_b + 3)
    assert truncated == (n_a + n_b + 3 > n_ctx)
    assert (sequence[0], sequence[-1], sequence.count(1001)) == (1000, 1002, 1)
    kept_a, kept_b = sequence.count(97), sequence.count(98)
    assert kept_a + kept_b + 3 == len(sequence)
    assert min(kept_a, kept_b) >= min(n_a, n_b, (n_ctx - 3) // 2)


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        form("classification", "a", code_points, IDS, 4)


@pytest.mark.parametrize(
    ("task", "item", "error", "message"),
    [
        ("classification", ("a", "b"), TypeError, "takes a text, not tuple"),
        ("classification", " ", ValueError, "must not be empty"),
        ("entailment", "a", TypeError, "a second text"),
        ("entailment", ("a", 1), TypeError, "must be a str, not int"),
        ("similarity", ("a", "b", "c"), TypeError, "a second text"),
        ("choice", ("a", "bc"), TypeError, "must be a list or tuple"),
        ("choice", ("a", ["b"]), ValueError, "at least 2 answers"),
        ("choice", ("a", ["b", "b"]), ValueError, "all different"),
        ("choice", ("a", ["b", 2]), TypeError, "must be a str, not int"),
    ],
)
def test_an_input_of_another_shape_is_refused(task: Task, item: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_input(task, item)


# --- files ------------------------------------------------------------------------------------------------------------


def test_tables_and_json_lines_say_the_same(tmp_path: Path) -> None:
    records = [('he said "no", twice', "neg"), ("two\nlines", "pos"), ("größer", "pos")]
    as_csv = "id,text,label\n" + "".join(
        '1,"' + text.replace(chr(34), chr(34) * 2) + f'",{label}\n' for text, label in records
    )
    as_json = "".join(json.dumps({"label": label, "text": text, "id": 1}) + "\n" for text, label in records)
    expected = [(text, label) for text, label in records]
    assert [r[:2] for r in read_rows(write(tmp_path, "a.csv", "\ufeff" + as_csv), "classification")] == expected
    assert [r[:2] for r in read_rows(write(tmp_path, "a.jsonl", as_json), "classification")] == expected
    rows = read_rows(write(tmp_path, "a.tsv", 'label\ttext\r\nneg\the said "no\r\n'), "classification")
    assert [r[:2] for r in rows] == [('he said "no', "neg")]


def test_pairs_and_choices(tmp_path: Path) -> None:
    pair = write(tmp_path, "p.tsv", "hypothesis\tpremise\tlabel\nb\ta\tyes\n")
    assert read_rows(pair, "entailment")[0][:2] == (("a", "b"), "yes")
    similar = write(tmp_path, "s.jsonl", '{"a": "x", "b": "y", "label": 1}\n')
    assert read_rows(similar, "similarity")[0][:2] == (("x", "y"), "1")
    table = write(tmp_path, "c.csv", "prompt,choice0,choice1,choice2,label\np,x,y,,1\np,x,y,z,2\n")
    lines = write(tmp_path, "c.jsonl", '{"prompt": "p", "choices": ["x", "y"], "label": 1}\n'
                  '{"prompt": "p", "choices": ["x", "y", "z"], "label": "2"}\n')  # fmt: skip
    expected = [(("p", ["x", "y"]), "1"), (("p", ["x", "y", "z"]), "2")]
    assert [r[:2] for r in read_rows(table, "choice")] == expected
    assert [r[:2] for r in read_rows(lines, "choice")] == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "text,label\nx,1\n\ny\n", "a.csv, line 4: no cell for column 'label'"),
        ("a.csv", "words,label\nx,1\n", "a.csv, line 1: no column 'text'"),
        ("a.csv", 'text,label\n"two\nlines",1\n,2\n', "a.csv, line 4: column 'text': a text must not be empty"),
        (
            "a.csv",
            "text,label\nx,1,2\n",
            "a.csv, line 2: 3 cells, but 2 columns: '2' stands after the last column, 'label'",
        ),
        ("a.csv", 'text,label\n"x"y,1\n', "a.csv, line 2: "),
        ("a.csv", "text,label\nx, \n", "a.csv, line 2: column 'label': the label must be a text"),
        ("a.csv", "text,label\n", "no examples"),
        ("a.csv", "", "no examples"),
        ("a.jsonl", '{"text": "x", "label": 1}\n\n[1]\n', "a.jsonl, line 3: not a JSON table"),
        ("a.jsonl", '{"text": "x"\n', "a.jsonl, line 1: not valid JSON"),
        ("a.jsonl", '{"text": 5, "label": 1}\n', "a.jsonl, line 1: column 'text': must be a text, not int"),
        (
            "a.jsonl",
            '{"text": "x", "label": 1.5}\n',
            "a.jsonl, line 1: column 'label': the label must be a text or an integer",
        ),
        ("a.csv", "text,label,text\nx,1,y\n", "a.csv, line 1: the column 'text' occurs twice"),
        ("a.jsonl", '{"text": "x", "label": 1, "label": 2}\n', "line 1: not valid JSON: the key 'label' occurs twice"),
        ("a.jsonl", '{"text": "x"}\n', "a.jsonl, line 1: no column 'label': needed are text, label; there are 'text'"),
        ("a.csv", b"text,label\nx\xff,1\n", "not UTF-8: byte 12 is 0xff"),
        ("a.txt", "x", r"examples are read from \.csv, \.tsv, \.jsonl"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read_rows(write(tmp_path, name, content), "classification")


@pytest.mark.parametrize(
    "content",
    [
        "prompt,label,choice1,choice0,choice2\np,0,wrong,right,also wrong\n",
        "choice2,choice1,note,choice0,label,prompt\n,right,,wrong,1,p\n",
    ],
)
def test_answers_go_by_their_columns_names(tmp_path: Path, content: str) -> None:
    ((_, answers), label, _) = read_rows(write(tmp_path, "c.csv", content), "choice")[0]
    assert answers[int(label)] == "right"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "c.csv",
            "prompt,label,choice0,choice1,choice2\np,0,x,,y\n",
            "line 2: column 'choice1': a text must not be empty",
        ),
        ("c.csv", "prompt,label,choice0,choice2\np,0,x,y\n", "line 2: no column 'choice1', but 'choice2'"),
        ("c.csv", "prompt,label,choice1,choice2\np,0,x,y\n", "line 2: no column 'choice0'"),
        ("c.csv", "prompt,label,choices\np,0,x\n", "line 2: column 'choices': must be a list"),
        ("c.csv", "prompt,label\np,0\n", "line 2: a choice needs at least 2 answers"),
        ("c.jsonl", '{"prompt": "p", "label": 0, "choices": ["x", ""]}', r"line 1: column 'choices\[1\]'"),
        ("c.jsonl", '{"prompt": "p", "label": 0, "choices": ["x", "y"], "choice0": "z"}', "'choices' and 'choice0'"),
    ],
)
def test_answers_that_are_missing_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        read_rows(write(tmp_path, name, content), "choice")


@pytest.mark.parametrize("label", ["2", "-1", "x"])
def test_a_choice_is_labelled_with_a_number_of_its_answers(tmp_path: Path, label: str) -> None:
    path = write(tmp_path, "c.csv", f"prompt,choice0,choice1,label\np,x,y,{label}\n")
    with pytest.raises(
        TrainingError, match="line 2: column 'label': the label must be the right answer's number, from 0 to 1"
    ):
        read_rows(path, "choice")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"none\.csv: cannot be read"):
        load_task(tmp_path / "none.csv", "classification", validation=0.5)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_the_split_holds_out_the_same_share_of_each_label(tmp_path: Path) -> None:
    lines = [f"{label}{i},{label}" for i in range(20) for label in "bac" if label != "c" or i < 2]
    path = write(tmp_path, "a.csv", "text,label\n" + "\n".join(lines) + "\n")
    data = load_task(path, "classification", validation=0.25, seed=1)
    assert data.labels == ("a", "b", "c")
    counts = [[sum(label == k for _, label in part) for k in range(3)] for part in (data.train, data.validation)]
    assert counts == [[15, 15, 1], [5, 5, 1]]
    assert sorted([*data.train, *data.validation]) == sorted(
        (line.split(",")[0], "abc".index(line[0])) for line in lines
    )
    assert load_task(path, "classification", validation=0.25, seed=1) == data
    assert load_task(path, "classification", validation=0.25, seed=2) != data
    assert load_task(path, "classification", validation=0.25, labels=["c", "b", "a"]).labels == ("c", "b", "a")


def test_a_folder_or_a_second_file_holds_the_validation_examples(tmp_path: Path) -> None:
    train = write(tmp_path, "train.csv", "text,label\nx,1\ny,2\n")
    other = write(tmp_path, "validation.jsonl", '{"text": "z", "label": "2"}\n')
    expected = (("1", "2"), [("x", 0), ("y", 1)], [("z", 1)])
    assert load_task(train, "classification", validation=other) == expected
    assert load_task(tmp_path, "classification", validation=0.1) == expected
    write(tmp_path, "train.tsv", "text\tlabel\nx\t1\n")
    with pytest.raises(TrainingError, match=r"needs one of train\.csv, train\.tsv, train\.jsonl"):
        load_task(tmp_path, "classification", validation=0.1)


@pytest.mark.parametrize(
    ("train", "validation", "labels", "message"),
    [
        ("x,1\ny,2\n", "z,3\n", None, r"validation\.csv, line 2: the label '3' does not occur in training"),
        ("x,1\ny,1\n", "z,1\n", None, "at least 2 different labels, not 1"),
        ("x,1\ny,2\n", "z,1\n", ["1", "2", "3"], "the label '3' never occurs in training"),
        ("x,1\ny,2\n", "z,1\n", ["1", "1"], "at least 2 different labels"),
        ("x,1\ny,2\nw,3\n", "z,1\n", ["1", "2"], r"train\.csv, line 4: the label '3' is none of 1, 2"),
    ],
)
def test_labels_must_occur(tmp_path: Path, train: str, validation: str, labels: list[str] | None, message: str) -> None:
    data = write(tmp_path, "train.csv", "text,label\n" + train)
    held_out = write(tmp_path, "validation.csv", "text,label\n" + validation)
    with pytest.raises(TrainingError, match=message):
        load_task(data, "classification", validation=held_out, labels=labels)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_the_share_held_out_is_checked(tmp_path: Path, share: float) -> None:
    path = write(tmp_path, "a.csv", "text,label\nx,1\ny,2\n")
    with pytest.raises(TrainingError, match="above 0 and below 1"):
        load_task(path, "classification", validation=share)


def test_examples_that_cannot_be_split_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\nx,1\ny,2\n")
    with pytest.raises(TrainingError, match="too few examples to hold any out"):
        load_task(path, "classification", validation=0.5)


# --- batches ----------------------------------------------------------------------------------------------------------


def encoded(lengths: list[list[int]]) -> Encoded:
    """Examples of sequences of these lengths; every token is its own number."""
    numbers = iter(range(1, 1000))
    sequences = [[np.array([next(numbers) for _ in range(n)], np.int32) for n in example] for example in lengths]
    return Encoded(sequences, np.arange(len(lengths), dtype=np.int32), 0)


def test_a_batch_is_padded_on_the_right() -> None:
    b = batch(encoded([[2], [1, 4], [3]]), [2, 1])
    assert b.ids.tolist() == [[8, 9, 10, 0], [3, 0, 0, 0], [4, 5, 6, 7]]
    assert b.targets.tolist() == [[9, 10, -1, -1], [-1, -1, -1, -1], [5, 6, 7, -1]]
    assert b.ids.reshape(-1)[b.extract].tolist() == [10, 3, 7]
    assert b.example.tolist() == [0, 1, 1]
    assert b.labels.tolist() == [2, 1]


def test_micro_batches_hold_each_example_once_and_few_tokens() -> None:
    examples = encoded([[5], [2], [9], [3, 3], [2], [1]])
    parts = micro_batches(examples, range(6), 8)
    assert sorted(i for chosen, _ in parts for i in chosen) == list(range(6))
    for chosen, part in parts:
        assert part.ids.size <= 8 or len(chosen) == 1
        assert part.labels.tolist() == chosen
    assert len(parts) == 4


def test_an_epoch_goes_through_all_examples_in_an_order_of_its_own() -> None:
    assert steps_per_epoch(10, 4) == 3
    epochs = [[drawn(10, 4, 7, 1 + 3 * epoch + k).tolist() for k in range(3)] for epoch in range(2)]
    assert [[len(part) for part in epoch] for epoch in epochs] == [[4, 4, 2]] * 2
    assert all(sorted(i for part in epoch for i in part) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]
    assert drawn(10, 4, 7, 5).tolist() == epochs[1][1]
    assert drawn(10, 4, 8, 5).tolist() != epochs[1][1]
