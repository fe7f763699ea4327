"""Oniguruma's expressions, as tokenizer.json has them, for the engines that pygpt cuts with."""

from __future__ import annotations

import itertools

import pytest
import regex
import tokenizers

from pygpt.errors import TokenizerError
from pygpt.tokenizer.expressions import GPT2, GPT4O, LLAMA3, QWEN2, TEKKEN, overflows, translated

TEXT = (
    "I'll SS ß 12345 ½² x²  \t\n\r\n日本 ア fi\ufb01 e\u0301 a-b_c [x] ^$ .* \u017f K\u212a ab\u200dc \u2167 {1} &&~~"
)


@pytest.mark.parametrize(
    "expression",
    [
        *(
            GPT2,
            LLAMA3,
            QWEN2,
            GPT4O,
            TEKKEN,
            r"\w+|\W",
            r"\h+",
            r"\d{2,}|\D",
            r"[a-c\-x]+?",
            r"[-a]|[a-]|[^-a]+",
            r"(a|b)+",
            r"(?<!a)b",
        ),
        *(
            r"\p{^L}+",
            r"\P{Lu}\p{Lu}",
            r"\x{65e5}\u672c",
            r"[\]\[^.]",
            r"(?i:'[sdmt]|'ll)|.",
            r"a*+b?+c++",
            r"(?>\s+)x",
        ),
        *(
            r"[一-龥ぁ-ゟ゠-ヿ]+",
            r"[!\"#$%&'()*+,./:;<=>?@^_`{|}~\-]",
            r"\t|\r\n|\n",
            r"a{2}|b{1,3}?|c{1,}",
            r"\p{Han}|é",
            r" ?[^(\s|[.,!?…。，、।۔،])]+",
            r"[[ab]c]+|[x[y[\d]z]-]+|[e[f-h]]",
        ),
    ],
)
def test_what_is_taken_over_cuts_as_the_original_does(expression: str) -> None:
    original = tokenizers.pre_tokenizers.Split(tokenizers.Regex(expression), "isolated")
    matches = regex.finditer(translated(expression, "x"), TEXT)
    ends = sorted({0, len(TEXT)} | {at for match in matches for at in match.span()})
    assert [TEXT[a:b] for a, b in itertools.pairwise(ends)] == [p for p, _ in original.pre_tokenize_str(TEXT)]


@pytest.mark.parametrize(
    ("expression", "what"),
    [
        *(
            (e, e)
            for e in (r"\b", r"\A", r"\z", r"\Z", r"\R", r"\X", r"\K", r"\G", r"\1", r"\H", r"\p{Emoji}", r"\xe9")
        ),
        *(("^a", "'^'"), ("a$", "'$'"), ("a)", "')'"), ("a]", "']'"), ("a{x}", "'{'"), ("(a", "an open group")),
        *(("[a[^b]]", "a doubtful class"), ("[a-[b]]", "a doubtful class")),
        *(("[a", "an open group or class"), ("[]a]", "an empty class"), ("[[:alpha:]]", "a doubtful class")),
        *(("[a&&b]", "&&"), (r"[a-\d]", "a range without an end"), (r"[\d-z]", "a doubtful '-'"), (r"[^\W]", r"\W")),
        *(("(?m:a)", "(?m"), ("(?<n>a)", "(?<n"), ("(?i)a", "(?i"), ("(?~a)", "(?~"), ("(*FAIL)", "(*F")),
        *(("a{2}?+", "the repetition"), ("a{,3}", "'{'"), ("a{1,2}+", "the repetition"), ("+", "the repetition +")),
        *(("(?i:ss)", "regardless of case"), ("(?i:é)", "regardless of case"), ("a**", "the repetition *")),
        *((r"\k<n>", r"\k"), (r"\g<n>", r"\g"), (r"a{2}?", "the repetition a{2}?"[:14])),
    ],
)
def test_what_is_not_the_same_elsewhere_is_refused_by_name(expression: str, what: str) -> None:
    with pytest.raises(TokenizerError) as caught:
        translated(expression, "x.json")
    assert str(caught.value).startswith("x.json: the expression")
    assert what in str(caught.value)


def test_what_may_overflow_is_known() -> None:
    assert not any(map(overflows, (GPT2, LLAMA3, QWEN2, GPT4O, TEKKEN, r"\w+|\s++")))
    assert all(map(overflows, (r"(?:\s(?!x))+", r"a(?=b)", r"(?<=a)b", r"(?<!a)b")))
