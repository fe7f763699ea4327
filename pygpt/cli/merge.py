"""`pygpt merge`: add adapters to the model they were trained for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pygpt import checkpoint
from pygpt.classification import SPECIAL_TOKENS
from pygpt.cli._common import fetch_model
from pygpt.training import lora
from pygpt.training.base import load_base


def merge(
    model: Annotated[str, typer.Argument(help="The model that the adapters were trained for.")],
    folder: Annotated[Path, typer.Argument(metavar="ADAPTERS", help="Their folder: best-adapters of a run.")],
    out: Annotated[Path, typer.Argument(help="The folder to write: a new or an empty one.")],
) -> None:
    """Add adapters to the model they were trained for: a checkpoint like any other."""
    checkpoint.check_free(out)
    base = load_base(str(fetch_model(model)))
    merged = lora.merge(base.config, base.tensors, folder)
    tokenizer = base.tokenizer
    classifier = merged.classifier
    if classifier is not None and merged.config.n_vocab > base.config.n_vocab:
        tokenizer = tokenizer.with_special(dict(zip(SPECIAL_TOKENS, classifier.ids, strict=True)))
    extra = None if classifier is None else classifier.extra()
    checkpoint.write(out, merged.config, merged.tensors, tokenizer, extra, base.family)
