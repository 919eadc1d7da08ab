"""core.data.texts, text_readers and arrays: from sentences to tokens and back."""

import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data import catalog, images, manifest, texts
from core.data.arrays import open_arrays
from core.data.catalog import Published
from core.data.fetch import fetch, fetch_entry
from core.data.samples import Images, Part, Text, Texts
from core.data.texts import FILES, VOCABULARY, open_text_split, vocabulary_of, words_of
from core.errors import DataError, StorageError
from core.models.blocks import bilstm

NESTED = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
TABLE = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"

TWO = replace(
    catalog.entry("imdb"), name="two", class_names=("a", "b"), splits=Published(3, 2), sources=()
)


def tar_of(files: dict[str, bytes]) -> bytes:
    """A .tar.gz in the order of `files`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            archive.addfile(item, io.BytesIO(content))
    return buffer.getvalue()


def rows_of_snippets(number: int = 20) -> list[str]:
    """Half of them negative, one more that is neither."""
    rows = [f"{n}\t{-1.5 if n % 2 else 2.25}\tFilm number {n}, isn't it?" for n in range(1, number)]
    return [*rows, f"{number}\t0.0\tNeither"]


def snippets_archive(table: bytes) -> bytes:
    return tar_of({NESTED: tar_of({"hutto_ICWSM_2014/_README_.txt": b"", TABLE: table})})


@pytest.fixture
def snippets(package_index):
    """snippets(archive) -> the entry with this file on an index on this machine."""

    def entry(archive: bytes):
        shipped = catalog.entry("movie_snippets")
        member = shipped.sources[0].member
        return replace(shipped, sources=(package_index("vader.tar.gz", archive, member=member),))

    return entry


def reviews(train: int = 3, test: int = 2) -> dict[str, bytes]:
    """The layout of IMDB, in no order, with what else is in it."""
    files = {"aclImdb/README": b"", "aclImdb/train/unsup/0_0.txt": b"not labelled"}
    for part, number in (("test", test), ("train", train)):
        for n in reversed(range(number)):
            kind = "pos" if n % 2 else "neg"
            text = f"{part} review {n}<br /><br />It was a caf\u00e9."
            files[f"aclImdb/{part}/{kind}/{n}_{5 + n}.txt"] = text.encode()
    return files


@pytest.fixture
def imdb(serve):
    """imdb(archive, train, test) -> the entry with this file at an address on this machine."""

    def entry(archive: bytes, train: int = 3, test: int = 2):
        source = replace(serve(archive), filename="aclImdb.tar.gz", member=("aclImdb",))
        return replace(catalog.entry("imdb"), splits=Published(train, test), sources=(source,))

    return entry


@pytest.fixture
def prepared(tmp_path):
    """A folder with 3 training and 2 test texts of 8 words."""
    train = [Text("t0", 0, "One two two"), Text("t1", 1, "two Three"), Text("t2", 1, "")]
    test = [Text("s0", 0, "two four " * 9), Text("s1", 1, "one")]
    content = texts.prepare(TWO, Texts(("a", "b"), train, test), 8, tmp_path)
    manifest.write(tmp_path, {"kind": "text", "name": "two", **content}, FILES)
    return tmp_path


# Words and tokens.


def test_words_are_small_letters_without_punctuation():
    text = "It's \u201cgood\u201d -- the film\u2019s BEST, caf\u00e9 scene: 10/10!"
    assert words_of(text) == "it's good the film\u2019s best caf\u00e9 scene 10 10".split()
    assert words_of(" ... ") == []


def test_the_most_frequent_words_come_first_and_ties_by_alphabet():
    assert vocabulary_of(["b a c c", "d d c b"]) == ["c", "b", "d", "a"]


def test_the_vocabulary_leaves_room_for_padding_and_unknown_words():
    assert len(vocabulary_of([" ".join(f"w{n}" for n in range(11_000))])) == 9_998
    assert VOCABULARY == bilstm.WORDS


@given(st.lists(st.text(max_size=40), max_size=12))
def test_the_vocabulary_is_sorted_by_count_and_the_same_in_any_order(found):
    vocabulary = vocabulary_of(found)
    words = [word for text in found for word in words_of(text)]
    assert sorted(vocabulary) == sorted(set(words))
    counts = [words.count(word) for word in vocabulary]
    assert counts == sorted(counts, reverse=True)
    assert vocabulary_of(found[::-1]) == vocabulary


def test_texts_become_rows_of_one_length(prepared):
    train, test = (open_text_split(prepared, part) for part in ("train", "test"))
    assert train.vocabulary == test.vocabulary == ("two", "one", "three")
    assert train.tokens.tolist() == [
        [3, 2, 2, 0, 0, 0, 0, 0],
        [2, 4, 0, 0, 0, 0, 0, 0],
        [0] * 8,
    ]
    # "four" is in no training text; a longer text is cut.
    assert test.tokens.tolist() == [[2, 1] * 4, [3, *[0] * 7]]
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 1], [0, 1])
    assert (train.ids, test.ids) == (("t0", "t1", "t2"), ("s0", "s1"))
    assert train.classes == ("a", "b")
    assert train.tokens.dtype == np.int32
    assert isinstance(train.tokens, np.memmap)
    manifest.verify(prepared, "text")


def test_texts_fewer_than_published_are_refused(tmp_path):
    few = Texts(("a", "b"), [Text("t0", 0, "one")], [Text("s0", 0, "two")])
    with pytest.raises(DataError, match="two: 1 train samples, the catalog expects 3"):
        texts.prepare(TWO, few, 8, tmp_path)
    with pytest.raises(DataError, match="two: 1 classes, the catalog expects 2"):
        texts.prepare(TWO, replace(few, classes=("a",)), 8, tmp_path)


def test_a_disk_without_room_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    class Full:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full())
    whole = Texts(("a", "b"), [Text(f"t{n}", 0, "") for n in range(3)], [Text("s", 0, "")] * 2)
    with pytest.raises(StorageError, match=r"train_tokens\.npy"):
        texts.prepare(TWO, whole, 8, tmp_path)


# Damage to what was prepared.


def truncated(folder: Path) -> None:
    os.truncate(folder / "train_tokens.npy", 140)


def tokens_of_another_shape(folder: Path) -> None:
    np.save(folder / "train_tokens.npy", np.zeros((4, 6), np.int32))


def tokens_of_another_type(folder: Path) -> None:
    np.save(folder / "train_tokens.npy", np.zeros((3, 8), np.float32))


def token_without_a_word(folder: Path) -> None:
    np.save(folder / "train_tokens.npy", np.full((3, 8), 5, np.int32))


def negative_token(folder: Path) -> None:
    np.save(folder / "train_tokens.npy", np.full((3, 8), -1, np.int32))


def other_labels(folder: Path) -> None:
    np.save(folder / "train_labels.npy", np.array([1, 1, 1]))


def no_vocabulary(folder: Path) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    del content["vocabulary"]
    (folder / "manifest.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (truncated, r"train_tokens\.npy has 140 bytes, its manifest says 224"),
        (tokens_of_another_shape, r"tokens are int32 \(4, 6\), expected \(3, 8\) int32"),
        (tokens_of_another_type, r"tokens are float32 \(3, 8\), expected \(3, 8\) int32"),
        (token_without_a_word, "a token is outside 0 to 4"),
        (negative_token, "a token is outside 0 to 4"),
        (other_labels, "do not add up to the class counts"),
        (no_vocabulary, "KeyError: 'vocabulary'"),
    ],
)
def test_a_tampered_folder_is_refused_and_says_how_to_fetch_again(prepared, tamper, message):
    tamper(prepared)
    with pytest.raises(DataError, match=message) as caught:
        open_text_split(prepared, "train")
    command = f"python -m core fetch two --out {prepared} --size 8"
    assert f"delete {prepared} and fetch it again: {command}" in str(caught.value)


# Arrays of both kinds.


def test_texts_and_images_are_opened_by_one_function(prepared, tmp_path):
    found = open_arrays(prepared, "test")
    split = open_text_split(prepared, "test")
    assert found.inputs.tolist() == split.tokens.tolist()
    assert found.inputs.dtype == np.int32
    assert (found.ids, found.classes) == (split.ids, split.classes)
    assert found.labels.tolist() == split.labels.tolist()

    folder = tmp_path / "images"
    folder.mkdir()
    entry = replace(catalog.entry("stanford_dogs"), classes=2, splits=Published(1, 1))
    content = images.prepare(entry, Images(("a", "b"), one_image(), one_image()), 8, folder)
    manifest.write(folder, {"kind": "images", "name": "dogs", **content}, images.FILES)
    pixels = open_arrays(folder, "train")
    assert pixels.inputs.shape == (1, 8, 8, 3)
    assert pixels.inputs.dtype == np.uint8
    assert isinstance(pixels.inputs, np.memmap)
    assert pixels.classes == ("a", "b")


def one_image() -> Part:
    from PIL import Image

    from core.data.samples import Sample

    return Part(1, iter([Sample("i0", 1, Image.new("RGB", (9, 9)))]))


def test_weights_are_no_arrays(tmp_path):
    manifest.write(tmp_path, {"kind": "weights", "name": "some"}, [])
    with pytest.raises(DataError, match="holds weights, not images or text"):
        open_arrays(tmp_path, "train")


# Snippets.


def test_snippets_are_fetched_split_by_class_and_described(tmp_path, snippets):
    entry = snippets(snippets_archive("\r\r\n".join(rows_of_snippets(21)).encode()))
    path = fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads")
    content = json.loads(path.read_text())
    assert content["kind"] == "text"
    assert content["words"] == 16
    assert content["classes"] == ["negative", "positive"]
    assert content["splits"]["train"]["class_counts"] == [8, 8]
    assert content["splits"]["test"]["class_counts"] == [2, 2]
    parts = [open_arrays(tmp_path / "out", part) for part in ("train", "test")]
    for part in parts:
        assert [int(name) % 2 == 0 for name in part.ids] == part.labels.tolist()
    ids = [name for part in parts for name in part.ids]
    assert sorted(ids, key=int) == [str(n) for n in range(1, 21)]  # 21 is rated zero
    assert content["vocabulary"][:4] == ["film", "isn't", "it", "number"]
    before = path.stat().st_mtime_ns
    assert fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads") == path
    assert path.stat().st_mtime_ns == before
    fetch_entry(entry, tmp_path / "out", 24, tmp_path / "downloads")
    assert open_arrays(tmp_path / "out", "train").inputs.shape == (16, 24)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"7\t1.5", r"'7\\t1\.5'"),
        (b"7\tgood\tfilm", r"'7\\tgood\\tfilm'"),
        (b"7\t4.5\tfilm", r"'7\\t4\.5\\tfilm'"),
        (b"7\tnan\tfilm", r"'7\\tnan\\tfilm'"),
        (b"x" * 10_000, "'x{60}'$"),
    ],
)
def test_lines_of_another_layout_are_named(tmp_path, snippets, line, found):
    entry = snippets(snippets_archive(b"1\t2.0\tfine\n\n" + line))
    wanted = r"GroundTruth\.txt, line 3: expected id, rating from -4 to 4 and text, found "
    with pytest.raises(DataError, match=wanted + found):
        fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads")


def test_a_table_that_is_no_text_is_named(tmp_path, snippets):
    entry = snippets(snippets_archive(b"1\t2.0\t\xff\xfe"))
    with pytest.raises(DataError, match=r"movieReviewSnippets_GroundTruth\.txt: not a text in UTF"):
        fetch_entry(entry, tmp_path / "out", 16, tmp_path / "downloads")


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (tar_of({"other": b""}), f"holds no file '{NESTED}'"),
        (tar_of({NESTED: tar_of({"other": b""})}), f"{NESTED}: holds no file '{TABLE}'"),
        (tar_of({NESTED: b"nothing"}), f"{NESTED}: damaged or not an archive"),
        (snippets_archive(b"1\t1.0\tx\n")[:200], "vader.tar.gz: damaged or not an archive"),
    ],
    ids=["no inner archive", "no table", "damaged inside", "cut short"],
)
def test_archives_that_are_damaged_or_lack_a_member_are_named(tmp_path, snippets, archive, message):
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        fetch_entry(snippets(archive), tmp_path / "out", 16, tmp_path / "downloads")
    assert str(caught.value).startswith("movie_snippets: none of its sources can be used\n")
    assert not (tmp_path / "out").exists()


# Reviews.


def test_reviews_are_read_in_the_order_of_their_names(tmp_path, imdb):
    entry = imdb(tar_of(reviews()))
    fetch_entry(entry, tmp_path / "out", 8, tmp_path / "downloads")
    train, test = (open_text_split(tmp_path / "out", part) for part in ("train", "test"))
    assert train.ids == ("train/neg/0_5.txt", "train/neg/2_7.txt", "train/pos/1_6.txt")
    assert train.labels.tolist() == [0, 0, 1]
    assert test.ids == ("test/neg/0_5.txt", "test/pos/1_6.txt")
    words = [train.vocabulary[token - 2] for token in train.tokens[2] if token > 1]
    assert words == ["train", "review", "1", "it", "was", "a", "caf\u00e9"]


def test_reviews_that_are_missing_are_counted(tmp_path, imdb):
    files = reviews()
    del files["aclImdb/train/neg/0_5.txt"]
    with pytest.raises(DataError, match="imdb: 2 train samples, the catalog expects 3"):
        fetch_entry(imdb(tar_of(files)), tmp_path / "out", 8, tmp_path / "downloads")


def test_reviews_in_a_zip_are_read_as_well(tmp_path, imdb):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in reviews().items():
            archive.writestr(name, content)
    fetch_entry(imdb(buffer.getvalue()), tmp_path / "out", 8, tmp_path / "downloads")
    assert len(open_arrays(tmp_path / "out", "train").labels) == 3


def test_a_review_that_is_no_text_is_named(tmp_path, imdb):
    files = reviews() | {"aclImdb/test/pos/1_6.txt": b"\xff"}
    with pytest.raises(DataError, match=r"aclImdb/test/pos/1_6\.txt: not a text in UTF-8"):
        fetch_entry(imdb(tar_of(files)), tmp_path / "out", 8, tmp_path / "downloads")


def test_a_damaged_archive_of_reviews_is_named(tmp_path, imdb):
    archive = tar_of(reviews(300, 300))
    with pytest.raises(DataError, match=r"aclImdb\.tar\.gz: damaged or not an archive"):
        fetch_entry(imdb(archive[: len(archive) // 2]), tmp_path / "out", 8, tmp_path / "dl")


def test_an_archive_of_reviews_in_a_mirror_is_found(tmp_path, monkeypatch):
    archive = tar_of(reviews())
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "aclImdb_v1.tar.gz").write_bytes(archive)
    monkeypatch.setenv("DATA_MIRROR", str(mirror))
    shipped = catalog.entry("imdb")
    checksum = hashlib.sha256(archive).hexdigest()
    source = replace(shipped.sources[0], checksum=checksum, size=len(archive))
    entry = replace(shipped, splits=Published(3, 2), sources=(source,))
    fetch_entry(entry, tmp_path / "out", 8, tmp_path / "downloads")
    assert len(open_arrays(tmp_path / "out", "test").labels) == 2


@pytest.mark.slow
def test_the_real_snippets_are_fetched_from_the_index(tmp_path):
    fetch("movie_snippets", tmp_path / "out", 64, tmp_path / "downloads")
    train, test = (open_text_split(tmp_path / "out", part) for part in ("train", "test"))
    assert (train.tokens.shape, test.tokens.shape) == ((8455, 64), (2113, 64))
    counts = np.bincount(train.labels) + np.bincount(test.labels)
    assert counts.tolist() == [5326, 5242]
    assert len(train.vocabulary) == 9998
    assert train.vocabulary[:4] == ("the", "a", "and", "of")
