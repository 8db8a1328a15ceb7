"""Only harmless markup gets on the page."""

from __future__ import annotations

import pytest

from sensorium.evaluation.report.fragments import Shelf, clean

PICTURE = '<img src="data:image/png;base64,AAAA" alt="a &amp; b">'


@pytest.mark.parametrize(
    "fragment",
    [
        PICTURE,
        '<audio controls preload="none" src="data:audio/wav;base64,AAAA"></audio>',
        '<figure style="margin:0;width:96px"><figcaption>2 &lt; 3</figcaption></figure>',
        '<svg viewbox="0 0 4 4"><polyline points="0,0 1,1" stroke="red"></polyline></svg>',
    ],
)
def test_media_pass_unchanged(fragment: str) -> None:
    assert clean(fragment) == fragment


@pytest.mark.parametrize(
    ("hostile", "left"),
    [
        ("<script>alert(1)</script>hello", "hello"),
        ("<scr<script>ipt>alert(1)</script>", "ipt&gt;alert(1)"),
        ('<img src="x" onerror="alert(1)">', "<img>"),
        ('<img src="https://example.org/track.png">', "<img>"),
        ('<img src=" javascript:alert(1)">', "<img>"),
        ('<img src="data:text/html;base64,AAAA">', "<img>"),
        ('<iframe src="//example.org">inside</iframe>after', "after"),
        ('<p style="background:url(https://example.org)">x</p>', "<p>x</p>"),
        ('<p style="position:fixed">x</p>', "<p>x</p>"),
        ('<svg><rect fill="url(https://example.org)"/></svg>', "<svg><rect></rect></svg>"),
        ("<style>body{display:none}</style>x", "x"),
        ('<a href="https://example.org">x</a>', "x"),
        ("</div></section>x", "x"),
        ("<p><b>open", "<p><b>open</b></p>"),
        ("<b><p>x</b>y", "<b><p>x</p></b>y"),
        ("&lt;script&gt;", "&lt;script&gt;"),
        ("<!-- --><meta http-equiv=refresh>x", "x"),
    ],
)
def test_the_rest_does_not(hostile: str, left: str) -> None:
    assert clean(hostile) == left


def test_shelf_keeps_to_its_budget() -> None:
    media = {"a": {"image": PICTURE}, "b": {"image": PICTURE}}
    shelf = Shelf(len(PICTURE))
    assert shelf.take(media, "a", "image") == PICTURE
    assert shelf.take(media, "b", "image") == '<span class="absent">image of b</span>'
    assert shelf.take(media, "<c>", "image") == '<span class="absent">image of &lt;c&gt;</span>'
    assert shelf.left_out == 2
