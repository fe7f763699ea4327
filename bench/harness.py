"""lm-evaluation-harness with transformers and with pygpt, over the same task files: do they decide alike, how long does
each take?

    pip install ".[eval]" "lm_eval[hf]" && python bench/harness.py MODEL.gguf --data TASKS --limit 20

MODEL: a GGUF file or a folder of safetensors, which both read; transformers in float32, pygpt in each of --weights. For
each task a JSON line: the examples, how many of the harness's decisions differ, the greatest difference of a
log-likelihood in nats, and the seconds of each. Rounds take turns, and the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait for work leave the cores to the other engine
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from pygpt.harness import files
from pygpt.harness.adapter import HarnessModel
from pygpt.harness.examples import Choice, Cloze, Document, Example, Question

TASKS = "arc_easy,arc_challenge,piqa,boolq,openbook_qa,copa,winogrande,blimp,lambada_openai,wikitext2,xquad"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="the folder of task files")
    parser.add_argument("--tasks", default=TASKS)
    parser.add_argument("--limit", type=int, default=20, help="examples of each file")
    parser.add_argument("--characters", type=int, default=4000, help="of a document")
    parser.add_argument("--weights", default="float32,int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=8, help="of transformers")
    parser.add_argument("--rounds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = arguments.model
    where = (
        {"pretrained": str(model.parent), "gguf_file": model.name} if model.is_file() else {"pretrained": str(model)}
    )
    engines: dict[str, Any] = {
        "transformers": HFLM(**where, device="cpu", dtype="float32", batch_size=arguments.batch_size)
    }
    for weights in arguments.weights.split(","):
        engines[weights] = HarnessModel(str(model), weights=weights, threads=arguments.threads)
    for task in arguments.tasks.split(","):
        examples = files.read(task, files.find(task, arguments.data), arguments.limit)
        kind, requests = requests_of(examples, arguments.characters)
        ask(engines["transformers"], kind, requests[:1])  # what the first call sets up is not measured
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        answers: dict[str, list[Any]] = {}
        for _ in range(arguments.rounds):
            for name, engine in engines.items():
                begun = time.perf_counter()
                answers[name] = ask(engine, kind, requests)
                seconds[name].append(time.perf_counter() - begun)
        line: dict[str, Any] = {"model": model.stem, "task": task, "n": len(examples)}
        for name in engines:
            line[name] = {"seconds": round(statistics.median(seconds[name]), 3)}
            if name != "transformers":
                line[name] |= compare(examples, answers["transformers"], answers[name])
        print(json.dumps(line), flush=True)


def requests_of(examples: Sequence[Example], n_characters: int) -> tuple[str, list[Instance]]:
    """What the harness asks a model for these examples."""

    def request(kind: str, *arguments: Any) -> Instance:
        return Instance(request_type=kind, doc={}, arguments=arguments, idx=0)

    kinds: dict[type, tuple[str, Callable[[Any], list[tuple[Any, ...]]]]] = {
        Choice: ("loglikelihood", lambda e: list(e.pairs)),
        Cloze: ("loglikelihood", lambda e: [(e.context, e.continuation)]),
        Document: ("loglikelihood_rolling", lambda e: [(e.text[:n_characters],)]),
        Question: ("generate_until", lambda e: [(e.prompt, {"until": ["\n"], "do_sample": False, "max_gen_toks": 32})]),
    }
    kind, arguments = kinds[type(examples[0])]
    return kind, [request(kind, *a) for example in examples for a in arguments(example)]


def ask(engine: Any, kind: str, requests: list[Instance]) -> list[Any]:
    answers: list[Any] = getattr(engine, kind)(requests, disable_tqdm=True)
    return answers


def compare(examples: Sequence[Example], wanted: list[Any], found: list[Any]) -> dict[str, Any]:
    """How many decisions differ, and by how much log-likelihoods do."""
    if isinstance(examples[0], Question):
        return {"differ": sum(a != b for a, b in zip(wanted, found, strict=True))}
    if isinstance(examples[0], Document):
        return {"nats": float(np.abs(np.array(wanted) - np.array(found)).max())}
    nats = max(abs(a[0] - b[0]) for a, b in zip(wanted, found, strict=True))
    n_differ = begin = 0
    for example in examples:
        n = len(example.pairs) if isinstance(example, Choice) else 1
        parts = [answers[begin : begin + n] for answers in (wanted, found)]
        choices = [int(np.argmax([a[0] for a in part])) if n > 1 else part[0][1] for part in parts]
        n_differ += choices[0] != choices[1]
        begin += n
    return {"differ": n_differ, "nats": nats}


if __name__ == "__main__":
    main()
