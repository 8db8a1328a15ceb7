"""Chat templates of our own."""

from __future__ import annotations

#: What is said, one after the other, and the end of an answer: for language models that were taught no template.
CONTINUED = (
    "{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)

#: The special tokens of ``PLAIN``: what begins a message and what ends it.
TURN, END = "<|turn|>", "<|end|>"

#: For models whose vocabulary is learnt here: each message with its role, what is said, and its end, as in ChatML.
PLAIN = (
    "{% for message in messages %}"
    f"{TURN}{{{{ message.role }}}}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}"
    f"{END}\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}"
    f"{TURN}assistant\n"
    "{% endif %}"
)
