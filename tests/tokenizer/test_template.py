"""Chat templates that fail, or that ask for what they must not have."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest

from pygpt.errors import TokenizerError
from pygpt.tokenizer import Tokenizer, work
from pygpt.tokenizer.chat_templates import ChatTemplates

CHAT = [{"role": "user", "content": "hi"}]


def tokenizer(**templates: str) -> Tokenizer:
    return Tokenizer("gpt2", None, lambda: ChatTemplates("m", templates, {"bos_token": "<s>"}))


def render(template: str, messages: Any = CHAT, **options: Any) -> str:
    return tokenizer(default=template).render(messages, **options)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ bos_token ~ 1 ~ none ~ eos_token }}", "<s>1None"),
        ("{%- for m in messages %}\n  {% if true %}\n{{ m.role }}\n  {% endif %}\n{% endfor %}", "user\n"),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in range(9) if i % 3 == 0 %}{{ i }}{{ loop.last }}{% endfor %}", "0False3False6True"),
        ("{% generation %}{% set x = 1 %}hi{% endgeneration %}{{ x }}", "hi"),
        ("{{ {'b': '<é>', 'a': [1, 2.5, none]} | tojson }}", '{"b": "<é>", "a": [1, 2.5, null]}'),
        ("{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}", '{\n "a": 2,\n "b": 1\n}'),
        ("{{ 3 * 'ab' }}{{ [1] * 2 }}{{ 2 * 3 }}{{ 2.5 * 2 }}{{ true * 2 }}{{ 2 ** 10 }}", "ababab[1, 1]65.021024"),
        ("{{ '%s **%5d**' % ('a', 7) }}{{ '{:>3}'.format(1) }}{{ '%s*' | format(2) }}", "a **    7**  12*"),
        ("{{ dict(a=1).a }}{{ dict.fromkeys(['x'], 2) }}{{ namespace(self=3).self }}", "1{'x': 2}3"),
        ("{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}{{ lipsum }}", "TrueTrueTrue"),
        ("{% macro f(n) %}{{ n }}{% endmacro %}{{ f(10 ** 12) }}{{ (10 ** 12) | tojson }}", "1000000000000" * 2),
        ("{{ x | default(2 ** 40) }}{{ namespace(t=2 ** 40).t | string }}", "1099511627776" * 2),
        (
            "{{ 'a-b'.replace('-', '+') }}{{ '-'.join(['a', 'b']) }}{{ ['a', 1] }}{{ {'a': (1,)} }}",
            "a+ba-b['a', 1]{'a': (1,)}",
        ),
        ("{{ '-'.join(messages[0]) }}{{ '%s %s' % ('a', 1) }}{{ '{a}'.format_map({'a': 1}) }}", "role-contenta 11"),
        ("{% for x in [[1], [2]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}", "12"),
    ],
)
def test_what_templates_use(template: str, expected: str) -> None:
    assert render(template) == expected


NESTED = (  # two lists that hold one number, as often as a list of 2^99 would
    "{% set o = namespace(a=0, b=0) %}{% for i in range(99) %}{% set o.a = (o.a, o.a) %}{% set o.b = (o.b, o.b) %}"
    "{% endfor %}"
)


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) recursive %}{{ loop(range(99999)) if depth0 else '' }}{{ loop([1]) }}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = [n.x, n.x] | join %}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for i in range(99) %}{% set n.x = n.x.replace('a', 'aa') %}{% endfor %}",
        "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set t %}{{ n.x }}{{ n.x }}{% endset %}"
        "{% set n.x = t %}{% endfor %}",
        "{% set n = namespace(x=3) %}{% for i in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% set b = 'a' * 10 ** 6 %}{{ b.replace('a', b) }}",
        "{% set b = 'a' * 10 ** 6 %}{{ b | replace('a', b) }}",
        "{% set b = 'a' * 10 ** 6 %}{{ b.join(['x'] * 99999) }}",
        "{% set b = 'a' * 10 ** 6 %}{{ ''.join([b] * 99999) }}",
        "{% set b = 'a' * 10 ** 6 %}{{ [b] * 99999 }}",
        "{% set b = 'a' * 10 ** 6 %}{{ ([b] * 99999) | tojson }}",
        "{% set b = 'a' * 10 ** 6 %}{{ ('%s' * 9999) % ((b,) * 9999) }}",
        "{% set b = 'a' * 10 ** 6 %}{{ ('{a}' * 9999).format_map({'a': b}) }}",
        "{% set b = 'a' * 10 ** 6 %}{{ ('{0}' * 9999).format(b) }}",
        "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
        "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = {'a': n.x, 'b': n.x} %}{% endfor %}"
        "{{ n.x | tojson }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ 10 ** 10 * 'a' }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ 'a'.center(10 ** 10) }}",
        "{{ 'a' | center(10 ** 10) }}",
        "{{ 'a' | indent(width=10 ** 10, first=true) }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (10 ** 10, 1) }}",
        "{{ '%(a)9999999999d' | format(a=1) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=10 ** 10) }}",
        "{{ '{a:9999999999}'.format_map({'a': 1}) }}",
        *(
            f"{NESTED}{use}"
            for use in (
                "{{ o.a == o.b }}",
                "{{ 1 < 2 == (o.a < o.b) }}",
                "{{ o.a in [o.b] }}",
                "{{ [o.a, o.b] | sort }}",
                "{{ [o.a, o.b] | unique | list }}",
                "{{ {o.a: 1} }}",
                "{{ {1: 2}[o.a] }}",
                "{{ {1: 2}.get(o.a) }}",
                "{{ o.a is eq(o.b) }}",
                "{{ [{'x': o.a}] | selectattr('x', 'eq', o.b) | list }}",
                "{{ [o.a].index(o.b) }}",
                "{% for x in [o.a, o.b] %}{{ loop.changed(x) }}{% endfor %}",
                "{{ {1: o.a}.items() - [] }}",
                "{{ '%s' % [o.a] }}",
                "{{ '%s' | format(o.a) }}",
                "{{ '{}'.format(o.a) }}",
                "{{ o.a | upper }}",
                "{{ o.a | replace('a', 'b') }}",
                "{{ raise_exception(o.a) }}",
                "{{ [o.a] | map('default') | join }}",
                "{{ [o.a] | reverse | join }}",
                "{{ {1: o.a}.items() }}",
                "{{ namespace(x=o.a) }}",
                "{{ o }}",
                "{% set o.a = o %}{{ o ~ '' }}",
                "{% set o.a = [o, o] %}{{ '%s' % o }}",
            )
        ),
        "{{ ('{0:99999}' * 9999).format(1) }}",
        "{{ ('%(a)99999d' * 9999) % {'a': 1} }}",
        "{{ ('{0:{1}}' * 9999).format(1, 99999) }}",
        "{{ ('%(a)99999d' * 9999).encode() % {'a': 1} }}",
        "{{ ('a' * 10 ** 6).translate({97: 'b' * 10 ** 5}) }}",
        "{{ ('\\t' * 10 ** 6).expandtabs(10 ** 4) }}",
        "{{ (('\\t' * 10 ** 6) | e).expandtabs(10 ** 4) }}",
        "{{ ('\\n' * 10 ** 6) | indent(10 ** 4, blank=true) }}",
        "{{ ('\\n' * 10 ** 6) | indent('a' * 10 ** 5, blank=true) }}",
        "{{ ('a ' * 10 ** 6) | wordwrap(2, wrapstring='a' * 10 ** 5) }}",
        "{{ ('http://a.b ' * 10 ** 5) | urlize(target='a' * 10 ** 5) }}",
        "{{ ([1] * 10 ** 6) | join('a' * 10 ** 5) }}",
        "{{ ([[1] * 9999] * 9999) | sum(start=[]) }}",
        "{{ ('a' * 9 * 10 ** 6) | list }}",
        "{{ ('a,' * 4 * 10 ** 6).split(',') }}",
        "{% set b = 'a' * 9 * 10 ** 6 %}{% for i in range(9999) %}{{ 'b' in b }}{% endfor %}",
        "{% set b = 'a' * 9 * 10 ** 6 %}{% for i in range(9999) %}{{ b.count('b') }}{% endfor %}",
    ],
)
def test_a_template_without_an_end_is_stopped_at_its_line(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "WORK", 20_000)
    with pytest.raises(TokenizerError, match=r"^m: the chat template, line 3: ") as caught:
        render(f"a\nb\n{template}")
    assert "too much" in str(caught.value) or re.search(
        r"more than|too great|too often|formats bytes", str(caught.value)
    )


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0].__class__.__mro__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(a=1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ ''['__class__']['__mro__'] }}",
        "{{ (messages | map(attribute='__class__') | list)[0].__mro__ }}",
        "{{ '{0.__class__.__mro__}'.format(1) }}",
        "{% set n = namespace(__class__=1) %}",
        "{% set n = namespace() %}{% set n.__init__ = 1 %}",
        "{% include 'pyproject.toml' %}",
        "{{ nothing.at.all }}",
        "{{ 1 / 0 }}",
        "{% for %}",
        "{% unknown %}",
        "{{ messages | nofilter }}",
        "{{ range(10 ** 9) }}",
        "{{ strftime_now(1) }}",
        "{{ open('x') }}",
    ],
)
def test_a_template_that_fails_is_shown_with_its_line(template: str) -> None:
    with pytest.raises(TokenizerError, match="^" + re.escape(f"m: the chat template, line 2: {template}: ")):
        render(f"a\n{template}")


def test_a_refusal_is_the_messages_fault_and_shows_the_line() -> None:
    template = "{% if messages[0].role == 'x' %}\n\n{{ raise_exception('No x, please') }}{% endif %}"
    assert render(template) == ""
    with pytest.raises(ValueError, match=r"refuses the messages: No x, please \(line 3: \{\{ raise_exception"):
        render(template, [{"role": "x"}])


def test_a_long_line_is_cut() -> None:
    with pytest.raises(TokenizerError, match=r"line 1: a{100}\.\.\.: "):
        render("a" * 5000 + "{{ x.y }}")


def test_a_limit_is_for_one_rendering_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "WORK", 10_000)
    t = tokenizer(default="{% for i in range(9000) %}{% endfor %}{{ messages[0].content }}")
    results: list[str] = []
    threads = [threading.Thread(target=lambda: results.append(t.render(CHAT))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results + [t.render(CHAT) for _ in range(3)] == ["hi"] * 6


@pytest.mark.parametrize(
    ("messages", "error", "message"),
    [
        ([], ValueError, "messages must not be empty"),
        ("hi", TypeError, "messages must be a list of tables, not 'hi'"),
        (["hi"], TypeError, r"messages\[0\] must be a table, not 'hi'"),
        ([*CHAT, {"content": "x"}], ValueError, r'messages\[1\] lacks a "role"'),
        ([{"role": 1}], TypeError, r"the role of messages\[0\] must be a text, not 1"),
        ([{"role": "user", "content": b"x"}], TypeError, r"messages\[0\] holds a bytes"),
    ],
)
def test_messages_are_checked(messages: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        render("{{ messages }}", messages)


def test_options_are_checked() -> None:
    with pytest.raises(TypeError, match="tools must be a list of tables"):
        render("", tools={"name": "f"})
    with pytest.raises(ValueError, match="excludes continue_final_message"):
        render("", add_generation_prompt=True, continue_final_message=True)
    with pytest.raises(ValueError, match="leaves the last message out, or changes it"):
        render("{{ messages[-1].content | upper }}", continue_final_message=True)
    with pytest.raises(ValueError, match="does not use a message's content"):
        render("x", continue_final_message=True)
    with pytest.raises(ValueError, match="has no text that could be continued"):
        render("{{ messages[0].content }}", [{"role": "user"}], continue_final_message=True)


def test_a_template_is_chosen_by_name_or_given() -> None:
    several = tokenizer(default="d", tool_use="t", rag="r")
    assert [several.render(CHAT, tools=tools) for tools in (None, [], [{"name": "f"}])] == ["d", "d", "t"]
    assert several.render(CHAT, template="rag") == "r"
    assert several.render(CHAT, template="{{ messages[0].content }}!") == "hi!"
    with pytest.raises(ValueError, match="template is 'none', but m has default, rag, tool_use"):
        several.render(CHAT, template="none")
    with pytest.raises(ValueError, match="template must be given: m has a, b, and no default"):
        tokenizer(a="", b="").render(CHAT)
    with pytest.raises(TokenizerError, match="m has no chat template"):
        tokenizer().render(CHAT)
    assert tokenizer().render(CHAT, template="{{ bos_token }}") == "<s>"


def test_messages_are_not_changed() -> None:
    message = {"role": "assistant", "content": "x", "name": None, "reasoning": "y"}
    assert "CONTINUE" not in render("{{ messages[0].content }}", [message], continue_final_message=True)
    assert message == {"role": "assistant", "content": "x", "name": None, "reasoning": "y"}
