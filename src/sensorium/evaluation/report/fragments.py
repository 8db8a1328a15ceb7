"""HTML fragments of media, made safe to put on the page, within a limit on its size.

A gallery is a file that may come from anywhere, so only harmless markup is let through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html.parser import HTMLParser

from markupsafe import Markup, escape

_TAG_NAMES = """
audio b blockquote br circle code dd div dl dt ellipse em figcaption figure g i img li line ol p path
polygon polyline pre rect rp rt ruby s small source span strong sub sup svg table tbody td text th thead title
tr u ul video
"""
_ATTRIBUTE_NAMES = """
alt aria-label autoplay colspan controls cx cy d dir dx dy fill fill-opacity font-size height lang loop muted
opacity playsinline points poster preload preserveaspectratio r role rowspan rx ry src stroke stroke-linecap
stroke-linejoin stroke-opacity stroke-width style text-anchor title transform type viewbox width x x1 x2 y
y1 y2
"""
_TAGS = frozenset(_TAG_NAMES.split())
_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())
_VOID = frozenset({"br", "img", "source"})
_DATA = re.compile(r"data:(image|audio|video)/[\w.+-]+[;,]", re.IGNORECASE)
_STYLE = re.compile(r"[\w\s.,:;%#()-]*")  # no quotes, escapes, at-rules or addresses
_REACHES_OUT = re.compile(r"url|expression|image-set|position", re.IGNORECASE)
# what is inside these is not for readers
_SILENT = frozenset({"script", "style", "template", "noscript", "iframe", "object"})


def clean(fragment: str) -> Markup:
    """The fragment with only harmless tags and attributes, and no address but data of media."""
    cleaner = _Cleaner()
    cleaner.feed(fragment)
    cleaner.close()
    return Markup("").join([*cleaner.out, *(Markup(f"</{tag}>") for tag in reversed(cleaner.open))])


class Shelf:
    """Hands out the cleaned fragments of one data set's media until ``budget`` characters are spent."""

    def __init__(self, budget: int) -> None:
        self._free = budget
        self.left_out = 0

    def take(self, media: Mapping[str, Mapping[str, str]], key: str, modality: str) -> Markup:
        """The fragment of a sample's modality, or a placeholder where there is none or no room."""
        fragment = media.get(key, {}).get(modality)
        if fragment is not None:
            found = clean(fragment)
            if len(found) <= self._free:
                self._free -= len(found)
                return found
        self.left_out += 1
        return Markup('<span class="absent">{} of {}</span>').format(modality, key)


class _Cleaner(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[Markup] = []
        self.open: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _SILENT:
            self.silent += 1
        if tag not in _TAGS or self.silent:
            return
        kept = Markup("").join(_attribute(name, value) for name, value in attrs if _harmless(name, value))
        self.out.append(Markup("<{}{}>").format(Markup(tag), kept))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SILENT:
            self.handle_starttag(tag, attrs)
            if tag in _TAGS and tag not in _VOID:
                self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT and self.silent:
            self.silent -= 1
        if tag in self.open and not self.silent:
            while (last := self.open.pop()) != tag:
                self.out.append(Markup(f"</{last}>"))
            self.out.append(Markup(f"</{tag}>"))

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.out.append(escape(data))


def _harmless(name: str, value: str | None) -> bool:
    if name not in _ATTRIBUTES:
        return False
    if name in ("src", "poster"):
        return value is not None and _DATA.match(value) is not None
    if name == "style":
        return value is not None and _STYLE.fullmatch(value) is not None and not _REACHES_OUT.search(value)
    return value is None or "url(" not in value.lower().replace(" ", "")


def _attribute(name: str, value: str | None) -> Markup:
    return Markup(' {}="{}"').format(Markup(name), value) if value is not None else Markup(f" {name}")
