"""Rendering against transformers, and what a template must not do."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import time

import pytest
from modalities.chat import zoo
from transformers.utils.chat_template_utils import render_jinja_template

from sensorium.core import ConfigError, DataError
from sensorium.modalities.chat import ChatTemplate

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>"}
HI = [{"role": "user", "content": "hi"}]
NAMED = {
    "chatml": (zoo.CHATML, False),
    "llama-2": (zoo.LLAMA_2, False),
    "llama-3": (zoo.LLAMA_3, False),
    "qwen-vl": (zoo.QWEN_VL, False),
    "qwen-vl-typed": (zoo.QWEN_VL, True),
    "gemma": (zoo.GEMMA, False),
    "gemma-typed": (zoo.GEMMA, True),
    "llava": (zoo.LLAVA, True),
    "phi-3": (zoo.PHI_3, False),
    "forgetful": (zoo.FORGETFUL, False),
}


def reference(source, messages, prompt=False, **variables):
    texts, spans = render_jinja_template(
        [messages],
        chat_template=source,
        add_generation_prompt=prompt,
        return_assistant_tokens_mask="generation" in source,
        **(VARIABLES | variables),
    )
    return texts[0], [tuple(span) for one in spans for span in one]


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("system", [False, True])
@pytest.mark.parametrize("last", [1, 4])
@pytest.mark.parametrize("prompt", [False, True])
def test_renders_as_the_reference(name, system, last, prompt):
    source, typed = NAMED[name]
    messages = zoo.messages(system=system, typed=typed, last=last)
    (found,) = ChatTemplate(source, variables=VARIABLES).renders(messages, [(len(messages), prompt)])
    text, spans = reference(source, messages, prompt)
    assert found.text == text
    assert list(found.generated) == spans
    assert (name == "llava" and last == 4) == bool(spans)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages | tojson }}{{ {'b': [1, None], 'a': 'ä<&>'} | tojson(indent=2, sort_keys=true) }}",
        "{% for x in [1, 2, 3] %}{% if x == 2 %}{% continue %}{% endif %}{{ x }}{% break %}{% endfor %}",
        "  {% if true %}\n  a\n  {%- endif %}\n b {# c #}\n\n",
        "{% macro f(x, y='-') %}{{ x ~ y }}{% endmacro %}{{ f('a') }}{{ f('b', '+') }}",
        "{% set n = namespace(self=1, x='') %}{% for c in 'abc' %}{% set n.x = c + n.x %}{% endfor %}{{ n.x, n.self }}",
        "{{ tools is none }}{{ documents is none }}{{ nothing is defined }}{{ nothing }}",
        "{{ messages[0].content | upper | replace('H', 'J') | center(9) }}|",
        "{{ '%s-%03d' % ('a', 7) }}|{{ '{:>4}'.format(3) }}|{{ '%5s' | format('b') }}",
        "{{ messages[-1]['role'] | title }}{{ messages | map(attribute='role') | join(',') }}{{ range(3) | list }}",
        "{{ dict(a=1) }}{{ [3, 1] | sort }}{{ 'a\nb' | indent(2) }}{{ 'x' * 3 ~ (1 + 2) }}",
        "{{ 'a' if 'hi' in messages[0].content else 'b' }}{{ messages[0].content[::-1] }}{{ '  x '.strip() }}",
    ],
)
def test_what_templates_are_made_of(source):
    assert ChatTemplate(source).render(HI) == reference(source, HI)[0]


def test_variables_are_names_of_the_template():
    messages = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]
    found = ChatTemplate(zoo.QWEN_VL, variables={"number_pictures": True}).render(messages)
    assert found == reference(zoo.QWEN_VL, messages, number_pictures=True)[0]
    assert "Picture 1: " in found


def test_the_time_is_given():
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(HI) == time.strftime("%Y")


def test_several_renderings_are_one_question():
    messages = zoo.messages()
    template = ChatTemplate(zoo.CHATML)
    found = [one.text for one in template.renders(messages, [(1, True), (2, False), (4, False)])]
    assert found == [
        template.render(messages[:1], prompt=True),
        template.render(messages[:2]),
        template.render(messages),
    ]


def test_generated_stretches_are_found_inside_of_macros_too():
    source = "{% macro say(x) %}[{% generation %}{{ x }}{% endgeneration %}]{% endmacro %}{{ say('ab') }}{{ say('c') }}"
    (found,) = ChatTemplate(source).renders(HI, [(1, False)])
    assert found.text == "[ab][c]"
    assert [found.text[a:b] for a, b in found.generated] == ["ab", "c"]


def test_noncharacters_in_a_text_stay():
    said = "".join(map(chr, range(0xFDD0, 0xFDEE)))
    (found,) = ChatTemplate("{% generation %}{{ messages[0].content }}{% endgeneration %}").renders(
        [{"role": "user", "content": said}], [(1, False)]
    )
    assert (found.text, found.generated) == (said, ((0, len(said)),))
    with pytest.raises(DataError, match=r"U\+FDD0"):
        ChatTemplate("x").render([{"role": "user", "content": said + "\ufdee\ufdef"}])


GROWS = {
    "doubled": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "added": "{% set n = namespace(x='x') %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "lists": "{% set n = namespace(x=[0]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "format": "{{ '%1000000000d' | format(1) }}",
    "braces": "{{ '{:{w}}'.format(1, w='1000000000') }}",
    "times": "{{ 'x' * 10**9 }}",
    "list times": "{{ [0] * 10**9 }}",
    "center": "{{ 'x' | center(10**9) }}",
    "just": "{{ 'x'.ljust(10**9) }}",
    "indent": "{{ 'x\ny' | indent(10**9) }}",
    "join": "{{ range(99999) | join('x' * 99999) }}",
    "replace": "{{ ('x' * 99999).replace('', 'y' * 99999) }}",
    "recursion": "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "loop": "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
    "nesting": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "blocks": "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
    "output": "{% for a in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
    "range": "{% for a in range(10**9) %}{% endfor %}",
}
LOOPS = {
    "loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
    "compared": "{% set n = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}"
    "{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
    "power": "{{ 7 ** (7 ** 9) }}",
}
INSIDE = {
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ namespace.__init__.__globals__ }}",
    "format": "{{ '{0.__class__.__mro__}'.format('') }}{{ 1/0 }}",
    "namespace": "{% set n = namespace(__class__=1) %}",
    "set": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "append": "{{ messages.append(1) }}",
    "include": "{% include 'x' %}",
}


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in GROWS.items()])
def test_what_grows_is_stopped(source):
    with pytest.raises(ConfigError, match=r"^mine: .*(memory|characters|too often|too big)"):
        ChatTemplate(source, name="mine").render(HI)


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in LOOPS.items()])
def test_what_loops_is_stopped(source):
    with pytest.raises(ConfigError, match=r"^mine: it computes for more than 1 second"):
        ChatTemplate(source, name="mine").render(HI)
    assert ChatTemplate("{{ messages[0].content }}").render(HI) == "hi"


@pytest.mark.parametrize("source", [pytest.param(source, id=name) for name, source in INSIDE.items()])
def test_the_inside_of_python_is_out_of_reach(source):
    with pytest.raises(ConfigError, match=r"^mine: "):
        ChatTemplate(source, name="mine").render(HI)


def test_attributes_of_python_are_undefined():
    assert ChatTemplate("{{ raise_exception.__globals__ }}{{ '' | attr('__class__') }}").render(HI) == ""


def test_the_process_has_no_keys(monkeypatch):
    monkeypatch.setenv("SOME_KEY", "secret")
    from sensorium.modalities.chat import rendering

    rendering._of_process.pop(os.getpid()).close()
    ChatTemplate("x").render(HI)
    child = rendering._of_process[os.getpid()]._child
    with open(f"/proc/{child.pid}/environ", "rb") as handle:
        assert b"secret" not in handle.read()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("\n\n{% for %}", "line 3: "),
        ("{% if x %}", "endif"),
        ("{{ 1 | nope }}", "No filter named 'nope'"),
        ("{{ x.y.z }}", "UndefinedError: 'x' is undefined"),
        ("{{ 'a' + 1 }}", "TypeError"),
    ],
)
def test_a_mistake_in_a_template_is_named(source, reason):
    with pytest.raises(ConfigError, match=f"^mine: .*{reason}"):
        ChatTemplate(source, name="mine").render(HI)


def test_a_conversation_that_is_refused_is_the_datas_fault():
    messages = [*HI, *HI]
    with pytest.raises(
        DataError, match=r"^mine does not take this conversation: user and assistant must take turns"
    ):
        ChatTemplate(zoo.LLAMA_2, name="mine", variables=VARIABLES).render(messages)


def test_a_template_has_a_limit():
    with pytest.raises(ConfigError, match=r"mine: has 1,000,001 characters, the limit is 1,000,000"):
        ChatTemplate("x" * 1_000_001, name="mine")


def _rendered(queue):
    queue.put(ChatTemplate(zoo.CHATML).render(HI))


def test_a_fork_renders_in_a_process_of_its_own():
    here = ChatTemplate(zoo.CHATML).render(HI)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_rendered, args=(queue,))
    child.start()
    assert queue.get() == here
    child.join()
    assert ChatTemplate(zoo.CHATML).render(HI) == here


def test_pickle():
    template = ChatTemplate(zoo.LLAMA_2, variables=VARIABLES)
    assert pickle.loads(pickle.dumps(template)).render(HI) == template.render(HI)
