"""Strings of many scripts and odd shapes, always the same."""

# ruff: noqa: RUF001  (characters that look alike are what is wanted)

from __future__ import annotations

import random

TEXTS = (
    "A red circle is left of a blue square, isn't it? They're 12,5 cm apart; I'd say 1/3.",
    "a photo of the cat's mat. Two dogs run over the hill and don't stop!",
    "Das größte Haus hat fünf Türen, und die Straße führt übers Feld.",
    "L'élève où çà et là naïf, cœur brisé; ¿Qué pasó, señor? ¡Mañana!",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň. İstanbul'da ılık ağaç şöyle. Tiếng Việt rất đẹp.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Їжак і ґанок.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. Ο ΟΔΥΣΣΕΥΣ είναι εδώ.",
    "نص حكيم له سر قاطع وذو شأن عظيم. السَّلَامُ عَلَيْكُمْ ١٢٣",
    "דג סקרן שט בים מאוכזב. שָׁלוֹם עֲלֵיכֶם",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश। क्षत्रिय १२३",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ทำน้ำ",
    "我能吞下玻璃而不伤身体。視野無限廣，窗外有藍天。",
    "いろはにほへと ちりぬるを、ワガヨタレゾ。ｶﾀｶﾅ ガ゛",
    "키스의 고유조건은 입술끼리 만나야 하고. 한글 가나다",
    "See https://example.org/a_b?c=d&e=%20f#top or mail me@example.com now.",
    "def f(x: int) -> str:\n\treturn {'a': x ** 2, \"b\": [1, 2]}  # no </w> here ## ### ## ## ####",
    "Tom &amp; Jerry &lt;3 &#39;quoted&#39; &nbsp; 50% off $9.99 @home #tag",
)
_RANGES = (
    (0x20, 0x7F),
    (0xA0, 0x250),
    (0x250, 0x370),
    (0x370, 0x400),
    (0x400, 0x530),
    (0x531, 0x590),
    (0x591, 0x600),
    (0x600, 0x700),
    (0x900, 0x980),
    (0xB80, 0xC00),
    (0xE01, 0xE5C),
    (0x10A0, 0x1100),
    (0x1E00, 0x2000),
    (0x2000, 0x2070),
    (0x2070, 0x2400),
    (0x3040, 0x3100),
    (0x4E00, 0x4F00),
    (0xAC00, 0xAD00),
    (0xF900, 0xFA00),
    (0xFB00, 0xFB50),
    (0xFE70, 0xFF00),
    (0xFF01, 0xFFEF),
    (0x1D400, 0x1D480),
    (0x1F300, 0x1F680),
    (0x20000, 0x20040),
)
_ODD = (
    "", " ", "\t\n ", "\u3000", "\u200b", "\x00", "\x07a\x1bb", "a\u00adb", "\ufeffa", "\ufffd", "a\u2028b\x85c",
    "e\u0301e\u0323\u0302 n\u0303", "a" + "\u0300\u0301\u0327" * 9, "x" * 300, "aaaa " * 60, "1234567890" * 20,
    "👩\u200d👩\u200d👧\u200d👦 👍🏽 🇩🇪🇫🇷 ❤\ufe0f", "☺\ufe0f ☺",
    "ﬁ ﬂ ① Ⅳ ½ ™ Å ℡ ㍿", "  two  spaces   and more    ", "\r\nline\r\n",
    "İI ıi ẞß ſ Σς", "don't won't we'll I'VE they'D", "...!!!???", "''''", "_under__score_", "#hash ## ###",
    "▁ ▁▁a▁", "a▁b", " ▁", "C++ & <b>bold</b>", "Ω≈ç√∫˜µ≤≥÷", "ab" * 150, "你" * 120, "🙂" * 90,
    "\u0301", "\u200d\u200d",
)  # fmt: skip


def strings(count: int = 1000) -> list[str]:
    """``count`` strings: odd ones, sentences, pieces of sentences, and characters drawn from one or many scripts."""
    draw = random.Random(0)
    words = [word for text in TEXTS for word in text.split(" ")]
    characters = [chr(code) for begin, end in _RANGES for code in range(begin, end)]
    found = [*_ODD, *TEXTS]
    while len(found) < count:
        kind = draw.randrange(4)
        if kind == 0:
            text = draw.choice((" ", "  ", "\u00a0", "\n", "-")).join(
                draw.choices(words, k=draw.randint(1, 30))
            )
        elif kind == 1:
            begin, end = draw.choice(_RANGES)
            text = "".join(chr(draw.randrange(begin, end)) for _ in range(draw.randint(1, 24)))
        elif kind == 2:
            text = "".join(draw.choices(characters, k=draw.randint(1, 40)))
        else:
            text = "".join(
                draw.choices([*words, *characters[:95], " ", "\u0301", "\u200d"], k=draw.randint(1, 20))
            )
        found.append(draw.choice((str, str.upper, str.title))(text))
    return found[:count]
