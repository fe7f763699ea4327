"""The data sets of a run, as run.json names them: opened, or prepared the first time, and mixed.

"data" and, where there are several, "more" are their paths; "weights" are those that were given (None: each set counts
as its tokens do); "packed" says that documents are kept apart. "added" is what came on the way: path, weight, the step
after which it counts, and a hash of what is read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pygpt.config import ModelConfig
from pygpt.errors import TrainingError, check_type
from pygpt.tokenizer import Tokenizer
from pygpt.training import chats, runs, text
from pygpt.training.data import Dataset, learnt, prepare, reopen
from pygpt.training.mixture import Mixture, Phase, check_weights
from pygpt.training.plan import estimate_tokens
from pygpt.training.run_folder import RunFolder
from pygpt.training.runs import StrPath
from pygpt.training.sequences import Reader, reader
from pygpt.training.state import peek
from pygpt.training.watch import Stopped, Watcher

CHATS = ".jsonl"
CHAT_TOKENS = 1024  # of a sequence, unless somebody says how many: enough for most chats, and many sequences of a few


class Opened(NamedTuple):
    """A data set in tokens."""

    source: Dataset | chats.Chats
    fingerprint: str

    def reader(self, n_ctx: int, packed: bool) -> Reader:
        """What the steps read. TrainingError: too little of it."""
        if isinstance(self.source, Dataset):
            return reader(self.source, n_ctx, packed=packed)
        return self.source.reader(n_ctx)


def settings_of(
    data: StrPath | Sequence[StrPath], weights: Sequence[float] | None, packed: bool, validation: float | StrPath
) -> dict[str, Any]:
    """What run.json says of the data. ValueError, TypeError: arguments that are not as they must be."""
    paths = [data] if isinstance(data, (str, bytes)) or not isinstance(data, Sequence) else list(data)
    if not paths:
        raise ValueError("data must be a path, or paths, not none")
    for path in paths:
        check_type("data", path, str, os.PathLike)
    if not isinstance(packed, bool):
        raise TypeError(f"packed must be True or False, not {packed!r:.80}")
    if weights is not None:
        check_weights(weights, len(paths))
    if len(paths) > 1 and not isinstance(validation, (int, float)):
        raise ValueError("validation must be a share where there are several data sets: each has its own held-out part")
    first, *more = (str(Path(path).absolute()) for path in paths)
    several = {"more": more, "weights": None if weights is None else list(weights)} if more else {}
    return {"data": first, "validation": runs.share_or_file(validation), **several, "packed": packed}


def paths_of(settings: dict[str, Any]) -> list[Path]:
    """The data sets that a run began with."""
    return [Path(settings["data"]), *map(Path, settings.get("more", []))]


def expected_tokens(settings: dict[str, Any], n_vocab: int | None) -> tuple[int, int]:
    """About how many tokens the training and the validation data will have."""
    validation = runs.held_out(settings)
    n_bytes = sum(text.size(path) for path in paths_of(settings))
    if isinstance(validation, Path):
        return estimate_tokens(n_bytes, n_vocab), estimate_tokens(text.size(validation), n_vocab)
    held_out = estimate_tokens(round(n_bytes * validation), n_vocab)
    return max(1, estimate_tokens(n_bytes, n_vocab) - held_out), held_out


def sequence_length(settings: dict[str, Any], n_ctx: int) -> int:
    """The tokens of a sequence where a model with the context n_ctx is fine-tuned: as given, or the context, of which
    chats take no more than `CHAT_TOKENS`. ValueError: one that does not fit."""
    given = settings.get("n_ctx")
    if given is None:
        return min(n_ctx, CHAT_TOKENS) if any(path.suffix == CHATS for path in paths_of(settings)) else n_ctx
    if not 1 <= given <= n_ctx:
        raise ValueError(f"n_ctx must be from 1 to the model's context of {n_ctx} tokens, not {given}")
    return int(given)


class Corpora:
    """All data sets of a run, with the tokenizer of the first."""

    def __init__(
        self,
        run: RunFolder,
        tokenizer: Literal["bpe", "char"] | Path | Tokenizer,
        watcher: Watcher,
        *,
        n_ctx: int,
        n_vocab: int | None = None,
        chat_of: ModelConfig | None = None,
    ) -> None:
        """`n_ctx`: the tokens of a sequence, at most. `chat_of`: the model whose chat template lays out .jsonl files;
        None: these are texts, too."""
        self._run, self._watcher, self._n_vocab, self._n_ctx, self._chat_of = run, watcher, n_vocab, n_ctx, chat_of
        settings = run.settings
        self._settled = "fingerprint" in settings
        paths = paths_of(settings)
        if isinstance(tokenizer, str) and len(paths) > 1 and not self._settled:
            tokenizer = self._learn(tokenizer, paths)
            self._n_vocab = None
        self._tokenizer = tokenizer
        self.sets: list[Opened] = []
        for number, path in enumerate(paths):
            self.sets.append(self._open(number, path))
            if not self._settled:
                self._tell(path, self.sets[-1])
        for entry in settings.get("added", []):
            opened = self._open(len(self.sets), Path(entry["data"]), True)
            if opened.fingerprint != entry["fingerprint"]:
                raise TrainingError(f"{entry['data']}: has changed since it was added to the run")
            self.sets.append(opened)

    @property
    def tokenizer(self) -> Tokenizer:
        """That of all sets."""
        source = self.sets[0].source
        if isinstance(source, Dataset):
            return source.tokenizer
        assert isinstance(self._tokenizer, Tokenizer)
        return self._tokenizer

    @property
    def fingerprint(self) -> str:
        """Of what the run began with."""
        prints = [opened.fingerprint for opened in self.sets[: len(paths_of(self._run.settings))]]
        return prints[0] if len(prints) == 1 else hashlib.sha256(" ".join(prints).encode()).hexdigest()

    def mixture(self) -> Mixture:
        """What the steps read."""
        settings = self._run.settings
        packed = settings.get("packed", False)
        readers = [opened.reader(self._n_ctx, packed) for opened in self.sets]
        n_first = len(paths_of(settings))
        given = settings.get("weights")
        weights = check_weights(given or [reader.n_train for reader in readers[:n_first]], n_first)
        phases = [Phase(0, weights)]
        for entry in settings.get("added", []):
            weights = (*(w * (1.0 - entry["weight"]) for w in weights), entry["weight"])
            phases.append(Phase(entry["after"], weights))
        return Mixture(readers, phases, self.tokenizer)

    def add(self, path: Path, weight: float) -> None:
        """Prepare one more set, and let it count from the state of the run on, as this share of the sequences.
        TrainingError, TokenizerError: it does not serve, and the run stays as it was."""
        folder, before = self._run.data_of(len(self.sets)), self._run.settings.get("added", [])
        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        try:
            opened = self._open(len(self.sets), path, True)
            self._check_new(path, weight, opened, before[-1] if before else {})
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        entry = {"data": str(path.absolute()), "weight": weight, "after": peek(self._run.state).step}
        entry["fingerprint"] = opened.fingerprint
        self._tell(path, opened)
        self._run.update({"added": [*before, entry]})
        self.sets.append(opened)

    def _check_new(self, path: Path, weight: float, opened: Opened, last: dict[str, Any]) -> None:
        """TrainingError: too little to read, or the same as what was added last: somebody gave a command again."""
        opened.reader(self._n_ctx, self._run.settings.get("packed", False))
        if (last.get("fingerprint"), last.get("weight")) == (opened.fingerprint, weight):
            raise TrainingError(f"{path}: was added after step {last['after']}: the run goes on without --data")

    def _open(self, number: int, path: Path, added: bool = False) -> Opened:
        """A set as it was prepared before, or prepared now."""
        settings = self._run.settings
        folder = self._run.data_of(number)
        if self._chat_of is not None and path.suffix == CHATS:
            assert isinstance(self._tokenizer, Tokenizer)
            found = chats.read(
                path,
                self._tokenizer,
                self._chat_of,
                self._n_ctx,
                validation=0.1 if added else runs.held_out(settings),
                progress=self._progress,
            )
            return Opened(found, found.fingerprint)
        known = (self._settled and not added) or ((folder / "data.json").is_file() and added)
        dataset = reopen(folder) if known else self._prepare(folder, path, settings, added or number > 0)
        return Opened(dataset, dataset.fingerprint)

    def _tell(self, path: Path, opened: Opened) -> None:
        """What is missing of a set that is read for the first time."""
        found, n = opened.source, self._n_ctx
        if isinstance(found, chats.Chats) and found.n_cut:
            self._watcher.noticed(f"{path}: {found.n_cut} chats are longer than {n} tokens and were cut")
        if isinstance(found, chats.Chats) and found.n_left_out:
            self._watcher.noticed(f"{path}: {found.n_left_out} chats have no answer within {n} tokens: left out")

    def _prepare(self, folder: Path, path: Path, settings: dict[str, Any], is_later: bool) -> Dataset:
        validation = runs.held_out(settings)
        return prepare(
            path,
            folder,
            tokenizer=self.tokenizer if is_later else self._tokenizer,
            n_vocab=None if is_later else self._n_vocab,
            validation=0.1 if isinstance(validation, Path) and is_later else validation,
            split=settings.get("split", "tail"),
            progress=self._progress,
        )

    def _learn(self, kind: Literal["bpe", "char"], paths: Sequence[Path]) -> Tokenizer:
        """A vocabulary from the training text of all sets."""
        validation, split = runs.held_out(self._run.settings), self._run.settings["split"]
        divisions = [
            text.divide(path, validation, split, lambda done, total: self._progress("reading the text", done, total))
            for path in paths
        ]
        return learnt(kind, divisions, self._n_vocab, self._progress)

    def _progress(self, what: str, done: int, total: int) -> None:
        if self._watcher.stop():
            raise Stopped
        self._watcher.preparing(what, done, total)
