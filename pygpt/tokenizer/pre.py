"""What ``tokenizer.ggml.pre`` of a GGUF file stands for: how byte-level BPE cuts text, as the model's own
tokenizer.json says in full. The names are llama.cpp's (src/llama-vocab.cpp)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pygpt.tokenizer.expressions import GPT2, GPT4O, LLAMA3, NUMBER, QWEN2, TEKKEN


@dataclass(frozen=True, slots=True)
class Pre:
    """One value of it."""

    splits: tuple[str, ...] = ()
    normal_forms: tuple[str, ...] = ()
    whole_words: bool = False
    add_bos: bool = False  # where the file does not say
    steps: Mapping[str, object] | None = None  # the pre_tokenizer, where tiktoken cannot do what it does


_DIGITS = (NUMBER, GPT2)
_BLOOM = r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_SEED = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|"
    r" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_CASED = (  # letters that are capital or small
    "A-Za-z\xb5\xc0-\xd6\xd8-\xf6\xf8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-"
    "\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59"
    "\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3"
    "\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d"
    "\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00"
    "-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787"
    "\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f"
    "\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-"
    "\U000118df\U0001e900-\U0001e943"
)
_MARKS = "!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002"
_DEEPSEEK = (r"[\r\n]", rf"\s?[{_CASED}]+", rf"\s?[{_MARKS}]+", r"\s+(?![\s\S])", _CJK, NUMBER)
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, NUMBER)
_FALCON = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Punctuation", "behavior": "Contiguous"},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        {"type": "Digits", "individual_digits": False},
        {"type": "Split", "pattern": {"Regex": "[0-9][0-9][0-9]"}, "behavior": "Isolated", "invert": False},
    ],
}

PRE = {
    **dict.fromkeys(("default", "gpt-2", "phi-2", "jais", "gigachat", "a.x-4.0", "mellum", "trillion"), Pre((GPT2,))),
    "exaone4": Pre((GPT2,)),
    **dict.fromkeys(("mpt", "olmo"), Pre((GPT2,), ("NFC",))),  # the vocabulary of GPT-NeoX
    **dict.fromkeys(("smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"), Pre(_DIGITS)),
    "command-r": Pre(_DIGITS, ("NFC",)),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "midm-2.0"),
        Pre((LLAMA3,), whole_words=True, add_bos=True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe"), Pre((LLAMA3,), whole_words=True)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "megrez"), Pre((QWEN2,), ("NFC",))),
    "stablelm2": Pre((QWEN2,)),
    "tekken": Pre((TEKKEN,), whole_words=True, add_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4"), Pre((GPT4O,), whole_words=True)),
    **dict.fromkeys(("bloom", "gpt3-finnish", "poro-chat"), Pre((_BLOOM,))),
    "viking": Pre((_BLOOM, NUMBER)),
    "seed-coder": Pre((_SEED,)),
    "deepseek-llm": Pre(_DEEPSEEK),
    "deepseek-coder": Pre(_DEEPSEEK_CODER),
    "deepseek-v3": Pre((r"\p{N}{1,3}", _KANA, _DEEPSEEK3)),
    "falcon": Pre(steps=_FALCON),
}
