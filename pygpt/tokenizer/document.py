"""Hugging Face's tokenizer.json, read.

Each key of a table is used, or harmless for the reason that stands beside it, or refused by name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pygpt._json import read_table, shown
from pygpt.errors import TokenizerError
from pygpt.tokenizer.byte_level import ByteLevel
from pygpt.tokenizer.character_level import SPACE, CharacterLevel
from pygpt.tokenizer.expressions import COVERING, GPT2, NUMBER, translated
from pygpt.tokenizer.merges import Merges
from pygpt.tokenizer.vocabulary import AddedToken, InexpressibleError, Vocabulary

Step = dict[str, object]

HARMLESS = {
    "truncation": "how a batch was cut for training; who calls the tokenizer sets it anew",
    "padding": "how a batch was filled up; who calls the tokenizer sets it anew",
}
_USED = {"version", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"}
_MODELS = {
    "BPE": {
        *("vocab", "merges", "unk_token", "fuse_unk", "ignore_merges", "byte_fallback", "dropout"),
        *("continuing_subword_prefix", "end_of_word_suffix"),
    },
    "Unigram": {"vocab", "unk_id", "byte_fallback"},
    "WordPiece": {"vocab", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word"},
    "WordLevel": {"vocab", "unk_token"},
}
_AFFIXES = ("continuing_subword_prefix", "end_of_word_suffix")
_PREPENDING = (
    ("type", "Prepend"),
    ("add_prefix_space", True),
    ("prepend_scheme", "always"),
    ("prepend_scheme", "first"),
)
FLAGS = ("special", "normalized", "single_word", "lstrip", "rstrip")
_FORMS = ("NFC", "NFD", "NFKC", "NFKD")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
"""GPT-2's own step, in its three places."""
PREPEND: Step = {"type": "Prepend", "prepend": SPACE}
TO_SPACE: Step = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
FROM_SPACE: Step = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
BYTES: list[Step] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
STRIP: Step = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
"""SentencePiece's steps."""
_NO_SPACE = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}


def added_token(entry: object, where: str, id_: object = None) -> AddedToken:
    """An added token as tokenizer.json and tokenizer_config.json have it."""
    values = dict(entry) if isinstance(entry, dict) else {}
    text, number = values.pop("content", None), values.pop("id", id_)
    flags = {key: values.pop(key, False) for key in FLAGS}
    values.pop("__type", None)  # says that it is one
    if not isinstance(text, str) or not text or values or not set(map(type, flags.values())) <= {bool}:
        raise TokenizerError(
            f"{where}: the added token {shown(entry)} must have a content and an id, and may have "
            f"{', '.join(FLAGS)}, each true or false"
        )
    return AddedToken(text=text, id=number, **flags)  # Vocabulary checks the id


def read_document(path: Path, bos_id: int | None = None, eos_id: int | None = None) -> Vocabulary:
    """A tokenizer.json by itself. TokenizerError for what pygpt does not compute."""
    return of_table(read_table(path, TokenizerError), str(path), bos_id, eos_id)


def of_table(document: dict[str, Any], where: str, bos_id: int | None = None, eos_id: int | None = None) -> Vocabulary:
    """The table of a tokenizer.json; `where` stands in messages."""
    if unknown := document.keys() - _USED - HARMLESS.keys():
        raise TokenizerError(f"{where}: the key {min(unknown)!r} is unknown to pygpt")
    if document.get("version", "1.0") != "1.0":
        raise TokenizerError(f"{where}: version is {shown(document['version'])}, but must be '1.0'")
    model = _checked_model(document.get("model"), where)
    added = tuple(added_token(e, where, -1) for e in _tables(document.get("added_tokens"), where, "added_tokens"))
    prefix, suffix = _post_processor(document.get("post_processor"), where)
    common: dict[str, Any] = {
        "source": where,
        "tokens": _tokens(model, where),
        "added": added,
        "prefix": prefix,
        "suffix": suffix,
        "bos_id": bos_id,
        "eos_id": eos_id,
    }
    try:
        return _of_tiktoken(document, common, where)
    except InexpressibleError:
        from pygpt.tokenizer.library import Library  # here, because few tokenizers need it

        steps = {key: document.get(key) for key in ("normalizer", "pre_tokenizer", "decoder")}
        text = str(steps)
        space = any(f"'{name}': {value!r}" in text for name, value in _PREPENDING)
        return Library(steps={**steps, "model": model}, prefix_space=space, **common)


def _checked_model(model: object, where: str) -> dict[str, Any]:
    """The model, each of its keys known."""
    kind = model.get("type", "BPE") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(kind, str) or kind not in _MODELS:
        raise TokenizerError(f"{where}: model {shown(kind)} is none of {', '.join(_MODELS)}")
    if model.get("dropout"):
        raise TokenizerError(f"{where}: model.dropout is {shown(model['dropout'])}, but must be absent")
    if unknown := model.keys() - _MODELS[kind] - {"type"}:
        raise TokenizerError(f"{where}: the key 'model.{min(unknown)}' is unknown to pygpt")
    if kind == "BPE" and not isinstance(model.get("merges"), list):
        raise TokenizerError(f"{where}: expected model.merges to be a list")
    if not isinstance(model.get("unk_token"), str | None):
        raise TokenizerError(f"{where}: model.unk_token is {shown(model['unk_token'])}, but must be text")
    return model


def _tokens(model: dict[str, Any], where: str) -> dict[str, int]:
    """The ids by token; Vocabulary checks them."""
    tokens = model.get("vocab")
    if model.get("type") == "Unigram" and isinstance(tokens, list):  # of pairs: tokens and scores
        if not all(isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in tokens):
            raise TokenizerError(f"{where}: model.vocab has an entry that is no token with a score")
        tokens = {token: i for i, (token, _) in enumerate(tokens)}
    if not isinstance(tokens, dict):
        raise TokenizerError(f"{where}: expected model.vocab to be a table")
    return tokens


def _of_tiktoken(document: dict[str, Any], common: dict[str, Any], where: str) -> Vocabulary:
    """`InexpressibleError` where tiktoken cannot give the ids."""
    model = document["model"]
    if model.get("type", "BPE") != "BPE" or any(map(model.get, _AFFIXES)):
        raise InexpressibleError(f"{where}: words have marks")
    tokens, unk = common["tokens"], model.get("unk_token")
    unk_id = None if unk is None else tokens.get(unk, {t.text: t.id for t in common["added"]}.get(unk))
    common = {**common, "unk_id": unk_id, "fuse_unk": bool(model.get("fuse_unk"))}
    if model.get("byte_fallback"):
        return _character_level(document, common, where)
    splits, prefix_space = _pre_tokenizer(document.get("pre_tokenizer"), where)
    _check_decoder(document.get("decoder"), where)
    return ByteLevel(
        merges=_merges(model["merges"], where),
        splits=splits,
        normal_forms=_normalizer(document.get("normalizer"), where),
        prefix_space=prefix_space,
        whole_words=bool(model.get("ignore_merges")),
        **common,
    )


def _character_level(document: dict[str, Any], common: dict[str, Any], where: str) -> CharacterLevel:
    """BPE over characters, where its steps do what SentencePiece does."""
    model = document["model"]
    normalizer = _steps(document.get("normalizer"), "normalizers", where, "normalizer")
    decoder = _steps(document.get("decoder"), "decoders", where, "decoder")
    prepends = normalizer[:1] == [PREPEND]
    if (
        normalizer != [PREPEND] * prepends + [TO_SPACE]
        or _steps(document.get("pre_tokenizer"), "pretokenizers", where, "pre_tokenizer") not in ([], [_NO_SPACE])
        or decoder != [FROM_SPACE, *BYTES, *[STRIP] * prepends]
        or model.get("ignore_merges")
    ):
        raise InexpressibleError(f"{where}: its steps are not those of SentencePiece's BPE")
    left, right = _merge_pairs(model["merges"], where)
    letters = [t for t in model["vocab"] if len(t) == 1]
    merges = Merges(where, letters, model["vocab"], left, right)
    return CharacterLevel(merged=merges.merged_tokens(whole=True), prefix_space=prepends, **common)


def _merge_pairs(merges: list[Any], where: str) -> tuple[list[str], list[str]]:
    pairs = [m.split(" ") if isinstance(m, str) else m for m in merges]
    try:
        left, right = [left for left, _ in pairs], [right for _, right in pairs]
    except (TypeError, ValueError) as error:
        raise TokenizerError(f"{where}: model.merges has an entry that is no pair: {error}") from error
    if not {*map(type, left), *map(type, right)} <= {str}:
        raise TokenizerError(f"{where}: model.merges has a pair of other things than tokens")
    return left, right


def _merges(merges: list[Any], where: str) -> str:
    """The merges in lines, of pairs or of lines."""
    try:
        return "\n".join([m if isinstance(m, str) else " ".join(m) for m in merges])
    except TypeError as error:
        raise TokenizerError(f"{where}: model.merges has an entry that is no pair: {error}") from error


def _steps(step: object, key: str, where: str, name: str) -> list[dict[str, Any]]:
    """A step, or a Sequence of them, as a list."""
    if step is None:
        return []
    if isinstance(step, dict) and step.get("type") == "Sequence" and key in step:
        return [s for entry in _tables(step[key], where, name) for s in _steps(entry, key, where, name)]
    return _tables([step], where, name)


def _normalizer(step: object, where: str) -> tuple[str, ...]:
    kinds = [s.get("type") for s in _steps(step, "normalizers", where, "normalizer")]
    if odd := [k for k in kinds if k not in _FORMS]:
        raise InexpressibleError(f"{where}: the normalizer {shown(odd[0])} is none of {', '.join(_FORMS)}")
    return tuple(map(str, kinds))


def _pre_tokenizer(step: object, where: str) -> tuple[tuple[str, ...], bool]:
    """What the pre-tokenizers cut, and whether a space is put before the text."""
    steps = _steps(step, "pretokenizers", where, "pre_tokenizer")
    splits: list[str] = []
    if [s.get("type") for s in steps[-1:]] != ["ByteLevel"]:
        raise InexpressibleError(f"{where}: the pre_tokenizer {shown(step)} does not end with ByteLevel")
    for s in steps[:-1]:
        if s.get("type") == "Digits":
            splits.append(NUMBER if s.get("individual_digits") else NUMBER + "+")
        elif s.get("type") == "Split":
            splits.append(_split(s, where))
        else:
            raise InexpressibleError(
                f"{where}: the pre_tokenizer {shown(s.get('type'))} is none of those that pygpt knows: ByteLevel, and "
                "Split and Digits before it"
            )
    last = steps[-1]
    if last.get("use_regex", True):
        splits.append(GPT2)
    prefix_space = bool(last.get("add_prefix_space"))
    if prefix_space and len(steps) > 1:
        raise InexpressibleError(f"{where}: the pre_tokenizer ByteLevel has add_prefix_space after another one")
    return tuple(splits), prefix_space


def _split(step: dict[str, Any], where: str) -> str:
    pattern = step.get("pattern")
    behavior = (step.get("behavior"), bool(step.get("invert")))
    if behavior not in (("Isolated", False), ("Isolated", True), ("Removed", True)):
        raise InexpressibleError(
            f"{where}: the pre_tokenizer Split has the behavior {shown(behavior[0])}, not Isolated"
        )
    kind, text = next(iter(pattern.items())) if isinstance(pattern, dict) and len(pattern) == 1 else (None, None)
    if kind not in ("Regex", "String") or not isinstance(text, str) or not text:
        raise InexpressibleError(f"{where}: the pre_tokenizer Split has the pattern {shown(pattern)}")
    if kind == "String":
        return "".join("\\" + c if c.isascii() and not c.isalnum() and c.isprintable() else c for c in text)
    return text if text in COVERING else translated(text, str(where))


def _post_processor(step: object, where: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that begin and end every text."""
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    for s in _steps(step, "processors", where, "post_processor"):
        kind = s.get("type")
        try:
            if kind == "TemplateProcessing":
                before, after = _template(s)
            elif kind in ("RobertaProcessing", "BertProcessing"):
                before, after = (s["cls"][1],), (s["sep"][1],)
            elif kind == "ByteLevel":  # moves offsets, which pygpt does not give
                continue
            else:
                raise TokenizerError(f"{where}: the post_processor {shown(kind)} is unknown to pygpt")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise TokenizerError(f"{where}: the post_processor {kind} is damaged: {error}") from error
        if not {*map(type, (*before, *after))} <= {int}:
            raise TokenizerError(f"{where}: the post_processor {kind} has ids that are no integers")
        prefix, suffix = before + prefix, suffix + after
    return prefix, suffix


def _template(step: dict[str, Any]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    parts: list[list[int]] = [[]]
    for piece in step["single"]:
        if "SpecialToken" in piece:
            parts[-1] += step["special_tokens"][piece["SpecialToken"]["id"]]["ids"]
        elif piece["Sequence"]["id"] == "A":
            parts.append([])
    before, after = parts
    return tuple(before), tuple(after)


def _check_decoder(step: object, where: str) -> None:
    for s in _steps(step, "decoders", where, "decoder"):
        if s.get("type") not in ("ByteLevel", "Fuse"):  # Fuse joins what is joined anyway
            raise InexpressibleError(f"{where}: the decoder {shown(s.get('type'))} is not ByteLevel")


def _tables(value: object, where: str, key: str) -> list[dict[str, Any]]:
    entries = [] if value is None else value
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise TokenizerError(f"{where}: {key} is not a list of tables")
    return entries
