"""Chat templates of our own."""

from __future__ import annotations

#: What is said, one after the other, and the end of an answer: for language models that were taught no template.
CONTINUED = (
    "{% for message in messages %}{{ message.content }}"
    "{% if message.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)

#: The special tokens of ``PLAIN``: what begins the message of each role, and what ends a message.
TURNS, END = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"), "<|end|>"

#: For models whose vocabulary is learnt here: the token of the role, what is said, and the end.
PLAIN = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for part in message.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}"
    f"{END}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
