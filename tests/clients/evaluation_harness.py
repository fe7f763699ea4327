"""lm-evaluation-harness with pygpt as its model: `.ci/run` runs these tests, or

pip install ".[clients]" && pytest tests/clients/evaluation_harness.py
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Model

CHOICES = [
    {"query": "Once upon a", "choices": ["time", "king", "dog of"], "gold": 0},
    {"query": "The king said to the", "choices": ["queen", "of", "time and again"], "gold": 0},
    {"query": "He went into the", "choices": ["said", "house", "was"], "gold": 1},
    {"query": "She looked at the old", "choices": ["he", "man", "quickly"], "gold": 1},
]
SENTENCES = [
    {"sentence_good": "There was a little girl.", "sentence_bad": "There were a little girl."},
    {"sentence_good": "The dogs run.", "sentence_bad": "The dogs runs."},
]
WORDS = [{"context": "Once upon a", "continuation": "time"}, {"context": "He said to the", "continuation": "xylophone"}]
CONTEXTS = [{"context_options": ["The king and the", "Of the and"], "continuation": "queen.", "gold": 0}]
TEXTS = [{"text": "Once upon a time there was a king.\n"}, {"text": "He had a daughter. " * 120}]
QUESTIONS = [
    {"context": "The old man went home.", "question": f"{word}?", "answers": ["home"]} for word in ("Who", "Is")
]
PROMPT = r"Context: {{context}}\n\nQuestion: {{question}}\n\nAnswer:"
TASKS: Mapping[str, tuple[list[Any], str]] = {  # rows, and what the harness is told of them
    "choices": (CHOICES, 'doc_to_text: "{{query}}"\ndoc_to_choice: "{{choices}}"\ndoc_to_target: gold'),
    "sentences": (
        SENTENCES,
        'doc_to_text: ""\ndoc_to_choice: "{{[sentence_good, sentence_bad]}}"\ndoc_to_target: 0',
    ),
    "contexts": (
        CONTEXTS,
        'doc_to_text: gold\ndoc_to_choice: "{{context_options}}"\ndoc_to_target: "{{continuation}}"',
    ),
    "words": (WORDS, 'doc_to_text: "{{context}}"\ndoc_to_target: "{{\' \' + continuation}}"'),
    "texts": (TEXTS, 'doc_to_text: ""\ndoc_to_target: "{{text}}"'),
    "questions": (QUESTIONS, f'doc_to_text: "{PROMPT}"\ndoc_to_target: "{{{{answers[0]}}}}"'),
}
KINDS = {
    **dict.fromkeys(("choices", "sentences", "contexts"), ("multiple_choice", ("acc", "acc_norm"))),
    "words": ("loglikelihood", ("acc", "perplexity")),
    "texts": ("loglikelihood_rolling", ("word_perplexity", "byte_perplexity", "bits_per_byte")),
    "questions": ("generate_until", ("exact_match",)),
}


def put(folder: Path, name: str, rows: list[Any] | None = None) -> None:
    """A task of the harness, and its file."""
    own, how = TASKS[name]
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows or own), encoding="utf-8")
    kind, metrics = KINDS[name]
    lines = [f"task: {name}", "dataset_path: json", f"dataset_kwargs: {{data_files: {{test: {data}}}}}"]
    lines += ["test_split: test", f"output_type: {kind}", how, "metric_list:", *(f"  - metric: {m}" for m in metrics)]
    if name == "questions":
        lines.append('generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 9}')
    (folder / f"{name}.yaml").write_text("\n".join(lines), encoding="utf-8")


@pytest.fixture
def measured(run: Callable[..., str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What the harness's own command makes of tasks: results, and samples by task."""

    def call(*names: str) -> dict[str, Any]:
        options = ["--include_path", str(tmp_path), "--log_samples", "--output_path", str(tmp_path / "out")]
        model = ["--model", "pygpt", "--model_args", "pretrained=tiny,weights=float32,threads=1"]
        run("python", "-m", "pygpt.harness", *model, "--tasks", ",".join(names), *options)
        (results,) = (tmp_path / "out").rglob("results*.json")
        return dict(json.loads(results.read_text())["results"])

    return call


def test_the_harness_and_evaluate_agree(measured: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Every number, over the same files."""
    for name in TASKS:
        put(tmp_path, name)
    by_harness = measured(*TASKS)
    model = Model.load("tiny", weights="float32", threads=1)
    for name, result in pygpt.evaluate(model, list(TASKS), data=tmp_path, max_tokens=9).items():
        for metric, estimate in result.metrics.items():
            if metric not in ("token_perplexity", "f1"):
                assert by_harness[name][f"{metric},none"] == pytest.approx(estimate.value, rel=1e-12), (name, metric)
    assert 0 < by_harness["choices"]["acc,none"] <= 1
    assert math.isfinite(by_harness["texts"]["bits_per_byte,none"])


def request(kind: str, *arguments: Any) -> Any:
    """What the harness asks."""
    from lm_eval.api.instance import Instance

    return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)


def test_conversations(tmp_path: Path) -> None:
    """--apply_chat_template: the marks of a template are tokens of their own, as for `Model.chat`."""
    from pygpt.harness.adapter import HarnessModel

    shutil.copytree(pygpt.checkpoint.locate("tiny"), tmp_path / "tiny")
    template = "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}"
    (tmp_path / "tiny" / "chat_template.jinja").write_text(template, encoding="utf-8")
    model = Model.load(tmp_path / "tiny", threads=1)
    lm = HarnessModel(model)
    messages = [{"role": "user", "content": "Once upon a time there was"}]
    prompt = lm.apply_chat_template(messages)
    assert lm.chat_template(True) == template
    assert lm.tok_encode(prompt) == model.tokenizer.encode(prompt, allow_special=True)
    assert len(lm.tok_encode(prompt)) == len(model.tokenizer.encode(messages[0]["content"])) + 1
    (text,) = lm.generate_until([request("generate_until", prompt, {"max_gen_toks": 8})], disable_tqdm=True)
    assert text == model.chat(messages, temperature=0, max_tokens=8).text


def test_from_python() -> None:
    """A model in memory; sampling and stop strings as a task's generation_kwargs say; what pygpt cannot do, by name."""
    adapter = pytest.importorskip("pygpt.harness.adapter")
    from lm_eval.api.registry import get_model

    assert get_model("pygpt") is adapter.HarnessModel
    model = Model.load("tiny", threads=1)
    lm = adapter.HarnessModel(model, batch_size=4, device="cuda:0")

    options = {"until": [" the", "."], "max_gen_toks": 12, "do_sample": False}
    prompts = ["Once upon a", "There was a", "Once upon a time " * 200]
    requests = [request("generate_until", prompt, options) for prompt in prompts]
    requests.append(request("generate_until", "Once upon a", {"max_gen_toks": 5, "temperature": 0.7, "top_p": 0.9}))
    texts = lm.generate_until(requests, disable_tqdm=True)
    assert texts[:2] == [
        model.generate(prompt, temperature=0, max_tokens=12, stop=options["until"]).text for prompt in prompts[:2]
    ]
    assert texts[3] == model.generate("Once upon a", temperature=0.7, top_p=0.9, max_tokens=5, seed=0).text
    empty = [request("loglikelihood_rolling", text) for text in ("a", "")]
    for call, message in (
        (lambda: lm.loglikelihood_rolling(empty), "document 1 is empty"),
        (lambda: lm.generate_until([request("generate_until", "a", {"num_beams": 4})]), "does not know num_beams"),
        (lambda: lm._loglikelihood_tokens([(("", "a"), [], [1])]), "a context has no tokens"),
        (lambda: adapter.HarnessModel("tiny", peft="x"), "model_args: unknown peft"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    ((logprob, is_greedy),) = lm.loglikelihood([request("loglikelihood", "", "Once")], disable_tqdm=True)
    ids = [model.tokenizer.bos_id, *model.tokenizer.encode("Once", add_special=False)]
    assert logprob == math.fsum(model.score(ids).tolist())
    assert is_greedy is bool(np.argmax(model.logits(ids)[0]) == ids[1])
