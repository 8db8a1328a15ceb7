"""What an HTML fragment must not hold: code, and anything from outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_FORBIDDEN = {"script", "link", "iframe", "object", "embed", "base", "meta", "form"}
_ADDRESSES = {"src", "srcset", "href", "xlink:href", "poster", "action", "formaction", "data", "background"}
_OUTSIDE = re.compile(r"@import|url\(\s*['\"]?(?!data:|#)", re.IGNORECASE)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.faults: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _FORBIDDEN:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            text = (value or "").strip()
            outside = name in _ADDRESSES and not text.lower().startswith(("data:", "#"))
            if outside or name.startswith("on") or _OUTSIDE.search(text):
                self.faults.append(f'<{tag} {name}="{text[:60]}">')

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style" and _OUTSIDE.search(data):
            self.faults.append("<style> with an outside address")


def faults(fragment: str) -> list[str]:
    """The tags and attributes with which ``fragment`` would run code or load something."""
    page = _Page()
    page.feed(fragment)
    page.close()
    return page.faults
