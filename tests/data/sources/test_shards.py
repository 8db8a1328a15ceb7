from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sensorium.core import ConfigError, DataError
from sensorium.data.sources import ShardSource
from sensorium.data.sources.shards import expand_shards


def _tar(path: Path, *members: tuple[str, bytes | dict[str, Any]] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            name, content = member
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def _found(source: ShardSource) -> list[tuple[str | None, str | None, str]]:
    return [(error.key, error.field, error.reason) for error in source.problems]


PAIR = [("a.png", b"image a"), ("a.txt", b"a cat\n")]


def test_round_trip(fakes, tmp_path) -> None:
    first = _tar(
        tmp_path / "0.tar",
        _special("./set", tarfile.DIRTYPE),
        ("./set/a.png", b"image a"),
        ("./set/a.txt", b"a cat\n"),
        ("b.left.png", b"image left"),
        ("b.cls", b"dog"),
        ("b.right.png", b"image right"),
    )
    second = _tar(
        tmp_path / "1.tar",
        ("c.wav", b"audio c"),
        ("c.json", {"text": "meow", "split": "test", "labels": {"n": 1}}),
        ("d.depth.png", b"depth d"),
    )
    source = ShardSource([first, second], modalities=fakes)
    assert source.problems == []
    assert [(s.key, s.file, [(x.modality, x.value) for x in s.segments]) for s in source] == [
        ("set/a", str(first), [("image", b"image a"), ("text", "a cat")]),
        ("b", str(first), [("image", b"image left"), ("image", b"image right"), ("text", "dog")]),
        ("c", str(second), [("audio", b"audio c"), ("text", "meow")]),
        ("d", str(second), [("depth", b"depth d")]),
    ]
    assert (source[2].split, source[2].labels, source[1].labels) == ("test", {"n": 1}, {"label": "dog"})
    assert [source[i] for i in (3, 0, 2, 1)] == [list(source)[i] for i in (3, 0, 2, 1)]
    assert list(pickle.loads(pickle.dumps(source))) == list(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.tar", "1.tar"]
    assert [s.key for s in ShardSource([first, second], modalities=fakes, split="test")] == ["c"]


def test_hostile_members_are_skipped_and_named(fakes, tmp_path) -> None:
    path = _tar(
        tmp_path / "x.tar",
        *PAIR,
        _special("l.png", tarfile.SYMTYPE, "/etc/passwd"),
        _special("h.png", tarfile.LNKTYPE, "a.png"),
        _special("dev.png", tarfile.CHRTYPE),
        _special("pipe.png", tarfile.FIFOTYPE),
        ("../up.png", b"image"),
        ("/abs.png", b"image"),
        ("sub/../../up.png", b"image"),
        ("back\\slash.png", b"image"),
        ("noending", b"image"),
        (".hidden", b"image"),
        ("e.xyz", b"image"),
        ("a.pkl", b"cos\nsystem\n"),
        ("a.pyd", b"cos\nsystem\n"),
        ("a.png", b"image again"),
        ("z.png", b"image z"),
    )
    source = ShardSource([path], modalities=fakes)
    assert [sample.key for sample in source] == ["a", "z"]
    assert source[0].segments[0].value == b"image a"
    link = "skipped: expected a plain file, found a link, device or sparse file"
    outside = "skipped: the name leads outside the shard"
    form = "skipped: expected a name of the form key.extension"
    assert [(field, reason) for _, field, reason in _found(source)] == [
        ("l.png", link),
        ("h.png", link),
        ("dev.png", link),
        ("pipe.png", link),
        ("../up.png", outside),
        ("/abs.png", outside),
        ("sub/../../up.png", outside),
        ("back\\slash.png", outside),
        ("noending", form),
        (".hidden", form),
        (
            "e.xyz",
            "skipped: unknown kind of file; expected .cls, .csv, .depth.png, .jpg, .json, .png, .txt, .wav",
        ),
        ("a.pkl", "refused: to read a pickle is to run a program"),
        ("a.pyd", "refused: to read a pickle is to run a program"),
        ("a.png", "skipped: the shard has two members of this name"),
    ]
    assert all(error.file == str(path) for error in source.problems)


def test_names_that_are_no_text(fakes, tmp_path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("\udcff.png", "a.png"):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    source = ShardSource([path], modalities=fakes)
    assert [sample.key for sample in source] == ["a"]
    assert source.problems[0].reason == "skipped: the name is not UTF-8 text"
    str(source.problems[0]).encode()


def test_bad_records_lose_only_their_sample(fakes, tmp_path) -> None:
    path = _tar(
        tmp_path / "x.tar",
        *PAIR,
        ("bad.json", b"{"),
        ("bad.png", b"image"),
        ("unknown.json", {"image": "a.png", "width": 3}),
        ("twice.json", {"text": "one"}),
        ("twice.txt", b"two"),
        ("blank.png", b"image"),
        ("blank.txt", b" "),
        ("latin.txt", b"\xe9"),
        ("nothing.json", {"labels": {}}),
        ("out.json", {"image": "../x.png"}),
        ("huge.png", b"image" * 100),
        ("huge.txt", b"huge"),
        *[("z.png", b"image z")],
    )
    source = ShardSource([path], modalities=fakes, limit=400)
    assert [sample.key for sample in source] == ["a", "z"]
    assert [(key, field) for key, field, _ in _found(source)] == [
        ("huge", "huge.png"),
        ("bad", "bad.json"),
        ("unknown", "width"),
        ("twice", "text"),
        ("blank", "text"),
        ("latin", "latin.txt"),
        ("nothing", None),
        ("out", "image"),
    ]
    reasons = {key: reason for key, _, reason in _found(source)}
    assert reasons["huge"] == "500 bytes are over the limit of 400"
    assert "not JSON" in reasons["bad"]
    assert "your own values belong below 'labels'" in reasons["unknown"]
    assert reasons["twice"] == "two members of the sample give this field"
    assert reasons["latin"] == "not UTF-8 text: byte 0 is 0xe9"


def test_repeated_key_over_shards(fakes, tmp_path) -> None:
    first, second = _tar(tmp_path / "0.tar", *PAIR), _tar(tmp_path / "1.tar", *PAIR, ("b.txt", b"b"))
    source = ShardSource([first, second], modalities=fakes)
    assert [sample.key for sample in source] == ["a", "b"]
    (error,) = source.problems
    assert (error.file, error.key, error.field) == (str(second), "a", "key")
    assert error.reason == f"this key is already used in {first}"


THREE = [("a.png", b"image" * 200), ("b.png", b"image" * 200), ("c.png", b"image" * 200), ("c.txt", b"see")]
# each member: a header of 512 bytes and 1,024 bytes for its content


@pytest.mark.parametrize(
    ("length", "kept", "key", "reason"),
    [
        (1536 * 2 + 700, ["a", "b"], "c", "truncated: the member goes on beyond the end of the file"),
        (1536 + 512, ["a"], "b", "truncated: the member goes on beyond the end of the file"),
        (1536 * 2 + 100, ["a"], "b", "truncated: .*; the sample 'b' may lack members and is left out"),
        (1536 * 3, ["a", "b"], "c", "truncated: the shard has no end mark; the sample 'c' may lack members"),
        (100, [], None, "not a tar file, or damaged"),
        (0, [], None, "not a tar file, or damaged: empty file"),
    ],
)
def test_truncated_shard(fakes, tmp_path, length, kept, key, reason) -> None:
    whole = _tar(tmp_path / "whole.tar", *THREE).read_bytes()
    path = tmp_path / "cut.tar"
    path.write_bytes(whole[:length])
    next_one = _tar(tmp_path / "next.tar", ("n.txt", b"next"))
    source = ShardSource([path, next_one], modalities=fakes)
    assert [sample.key for sample in source] == [*kept, "n"]
    (error,) = source.problems
    assert (error.file, error.key) == (str(path), key)
    with pytest.raises(DataError, match=reason):
        raise error


def test_a_broken_header_is_not_the_end(fakes, tmp_path) -> None:
    path = _tar(tmp_path / "x.tar", *THREE)
    content = bytearray(path.read_bytes())
    content[1536 * 2 : 1536 * 2 + 512] = b"\x07" * 512
    path.write_bytes(content)
    source = ShardSource([path], modalities=fakes)
    assert [sample.key for sample in source] == ["a"]
    (error,) = source.problems
    assert error.reason.startswith("damaged: no header at byte 3072, and what follows cannot be read")


def test_a_negative_size_ends(fakes, tmp_path) -> None:
    info = tarfile.TarInfo("b.png")
    info.size = -2048
    path = tmp_path / "x.tar"
    pair = _tar(tmp_path / "pair.tar", *PAIR).read_bytes()[:2048]
    path.write_bytes(pair + info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    source = ShardSource([path], modalities=fakes)
    (error,) = source.problems
    assert "damaged" in error.reason


def test_a_size_beyond_the_file(fakes, tmp_path) -> None:
    info = tarfile.TarInfo("b.png")
    info.size = 1 << 50
    path = tmp_path / "x.tar"
    path.write_bytes(_tar(tmp_path / "p.tar", *PAIR).read_bytes()[:2048] + info.tobuf(tarfile.GNU_FORMAT))
    source = ShardSource([path], modalities=fakes)
    assert [sample.key for sample in source] == ["a"]
    assert source.problems[0].reason == "truncated: the member goes on beyond the end of the file"


def test_a_chain_of_headers_ends(fakes, tmp_path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 0
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) * 5000)
    source = ShardSource([path], modalities=fakes)
    assert (len(source), len(source.problems)) == (0, 1)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_compressed_shard(fakes, tmp_path, mode) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, mode) as tar:
        tar.addfile(tarfile.TarInfo("a.png"), io.BytesIO())
    source = ShardSource([path], modalities=fakes)
    assert len(source) == 0
    assert "not a tar file" in source.problems[0].reason


def test_a_shard_that_changes_is_noticed(fakes, tmp_path) -> None:
    path = _tar(tmp_path / "x.tar", ("a.png", b"image"))
    source = ShardSource([path], modalities=fakes)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="expected 5 bytes, found 0") as caught:
        source[0]
    assert (caught.value.file, caught.value.key, caught.value.field) == (str(path), "a", "a.png")


def test_patterns(tmp_path) -> None:
    names = [f"data-{number:03}.tar" for number in range(3)]
    for name in names:
        (tmp_path / name).touch()
    assert expand_shards(f"{tmp_path}/data-{{000..002}}.tar") == [tmp_path / name for name in names]
    assert expand_shards(f"{tmp_path}/{{data-000,data-002}}.tar") == [
        tmp_path / names[0],
        tmp_path / names[2],
    ]
    with pytest.raises(ConfigError, match=r"no such file .*data-003.tar \(1 of 4 are missing\)"):
        expand_shards(f"{tmp_path}/data-{{000..003}}.tar")
    with pytest.raises(ConfigError, match="more than 100,000 shards"):
        expand_shards("data-{0..99999999}.tar")
    with pytest.raises(ConfigError, match="the braces are not balanced"):
        expand_shards("data-{000..003.tar")
