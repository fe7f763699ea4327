"""lm-evaluation-harness and schemathesis against `pygpt serve`: `.ci/run` runs these tests, or

pip install ".[clients]" && pytest tests/clients/harness.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from pygpt import Model

QUESTIONS: Sequence[tuple[str, Sequence[str], int]] = [  # what stands before, how it may go on, which is right
    ("Once upon a", ["time", "king", "dog of"], 0),
    ("The king said to the", ["queen", "of", "time and again"], 0),
    ("There was a little", ["girl who lived", "of the", "and"], 0),
    ("He went into the", ["said", "house", "was"], 1),
    ("She looked at the old", ["he", "man", "quickly"], 1),
    ("In the morning the sun", ["rose", "ate a", "whose"], 0),
    ("They sat down by the", ["of", "fire", "think"], 1),
    ("The ship sailed over the", ["sea", "said", "he was"], 0),
]
TASK = """
task: here
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: gold
metric_list:
  - metric: acc
  - metric: acc_norm
"""


def test_lm_evaluation_harness(service: Any, run: Callable[..., str], tmp_path: Path) -> None:
    """`local-completions`, which asks for the log-probabilities of prompts, and takes the server's own tokenizer: every
    one is that of the model in this process, and so are the numbers that come of them."""
    data = tmp_path / "here.jsonl"
    rows = [{"query": query, "choices": choices, "gold": gold} for query, choices, gold in QUESTIONS]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "here.yaml").write_text(TASK.format(data=data), encoding="utf-8")
    where = f"model=tiny,base_url={service.api}/completions,num_concurrent=4,max_length=512"
    options = ["--include_path", str(tmp_path / "tasks"), "--log_samples", "--output_path", str(tmp_path / "out")]
    run("lm_eval", "--model", "local-completions", "--model_args", where, "--tasks", "here", *options)
    (results,) = (tmp_path / "out").rglob("results*.json")
    (samples,) = (tmp_path / "out").rglob("samples*.jsonl")
    measured = json.loads(results.read_text())["results"]["here"]
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    judged = [judge(service.model, query, choices, gold) for query, choices, gold in QUESTIONS]
    for line in lines:
        assert [float(pair[0][0]) for pair in line["resps"]] == judged[line["doc_id"]]["logprobs"]
    for name in ("acc", "acc_norm"):
        assert measured[f"{name},none"] == np.mean([one[name] for one in judged])
    assert 0 < measured["acc,none"] <= 1


def judge(model: Model, query: str, choices: Sequence[str], gold: int) -> Mapping[str, Any]:
    """What the harness computes, by this process's model: log-probabilities of the continuations, in nats, and whether
    the right one has the highest, by itself and by character."""
    logprobs = []
    for choice in choices:
        n = len(model.tokenizer.encode(query, add_special=False))
        ids = model.tokenizer.encode(f"{query} {choice}", add_special=False)
        logprobs.append(float(sum(model.score(ids).tolist()[n - 1 :])))
    by_length = [p / len(choice) for p, choice in zip(logprobs, choices, strict=True)]
    right = {"acc": np.argmax(logprobs) == gold, "acc_norm": np.argmax(by_length) == gold}
    return {"logprobs": logprobs, **{name: float(value) for name, value in right.items()}}


def test_schemathesis(service: Any, run: Callable[..., str], tmp_path: Path) -> None:
    """Requests that the description of the API allows, and such that it forbids: the server never fails. Lists may
    have 10,000 items; the description that is followed here has fewer, as making so many takes longer than all else."""
    description = httpx.get(f"{service.url}/openapi.json").text
    shorter = tmp_path / "openapi.json"
    shorter.write_text(re.sub(r'("max(?:Items|Properties)":\s*)10000\b', r"\g<1>20", description), encoding="utf-8")
    options = ["--checks", "not_a_server_error", "--max-examples", "10", "--seed", "1", "--workers", "1"]
    options += ["--phases", "examples,coverage,fuzzing", "--suppress-health-check", "all", "--request-timeout", "60"]
    options += ["--url", service.url, "--generation-database", "none", "--no-color"]
    out = run("st", "run", str(shorter), *options)
    n, passed = map(int, re.findall(r"(\d+) generated, (\d+) passed", out)[0])
    assert n == passed > 1000
