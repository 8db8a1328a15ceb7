"""Chat templates in the manner of public ones, and conversations for them."""

from __future__ import annotations

CHATML = """
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

#: A system message unless there is one, and roles that are checked.
LLAMA_2 = """
{%- if messages[0]['role'] == 'system' %}
    {%- set about = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set about = '' %}
    {%- set turns = messages %}
{%- endif %}
{%- for turn in turns %}
    {%- if (turn['role'] == 'user') != (loop.index0 is even) %}
        {{- raise_exception('user and assistant must take turns') }}
    {%- endif %}
    {%- set said = (about if loop.first else '') + turn['content'] %}
    {%- if turn['role'] == 'user' %}
        {{- bos_token + '[INST] ' + said | trim + ' [/INST]' }}
    {%- elif turn['role'] == 'assistant' %}
        {{- ' ' + said | trim + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
"""

LLAMA_3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

#: Typed parts, counted media, a system message that is always there.
QWEN_VL = """{% set pictures = namespace(count=0) %}{% for message in messages %}
{% if loop.first and message.role != 'system' %}<|im_start|>system
You are helpful.<|im_end|>
{% endif %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}<|im_end|>
{% else %}{% for part in message.content %}{% if part.type == 'image' or 'image_url' in part %}
{% set pictures.count = pictures.count + 1 %}{% if number_pictures %}Picture {{ pictures.count }}: {% endif %}
<|vision_start|><|image_pad|>{% elif 'text' in part %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>
{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

#: The system message goes into the first of the user; the assistant is called model.
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}{%- set first = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}{%- set first = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set first = '' -%}{%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('roles must alternate: user, assistant, user') }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role'])
       + '\\n' + (first if loop.first else '') }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- else -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
"""

#: All pictures of a message first, then its texts, and answers that are marked.
LLAVA = """{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'][0]['text'] + ' ' }}
{%- else %}{{ message['role'].upper() + ': ' }}{% endif %}
{%- for item in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}
{%- if message['role'] == 'user' %}
{%- for item in message['content'] | selectattr('type', 'equalto', 'text') %}{{ item['text'] + ' ' }}{% endfor %}
{%- elif message['role'] == 'assistant' %}
{%- for item in message['content'] | selectattr('type', 'equalto', 'text') %}
{%- generation %}{{ item['text'] + '</s>' }}{% endgeneration %}{% endfor %}
{%- endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"""

#: The thoughts of earlier answers are left out: what was said before changes with what follows.
FORGETFUL = """{% set last = messages | map(attribute='role') | list | length - 1 %}
{% for message in messages %}<|im_start|>{{ message.role }}
{% if message.role == 'assistant' and loop.index0 < last %}{{ message.content.split('</think>')[-1] | trim }}
{%- else %}{{ message.content }}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""

#: An end after the whole conversation, and none after answers within it.
PHI_3 = """{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% else %}<|endoftext|>{% endif %}"""

TEXTS = (
    ("user", "What is  on the picture?\n"),
    ("assistant", "A red circle, left of a <b>blue</b> square & 'more'."),
    ("user", " Größe? 12,5 cm 😀 "),
    ("assistant", "Ja.\n\nZwei Zeilen"),
)


def messages(*, system: bool = False, typed: bool = False, last: int = 4) -> list[dict]:
    """A conversation of plain texts."""
    said = [*([("system", "Be brief.")] if system else []), *TEXTS[:last]]
    return [
        {"role": role, "content": [{"type": "text", "text": text}] if typed else text} for role, text in said
    ]
