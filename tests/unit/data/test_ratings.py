"""core.data.histories and rating_readers: from ratings to histories of what a user liked before."""

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.data import catalog
from core.data.catalog import Latest
from core.data.fetch import fetch, fetch_entry
from core.data.histories import FILES, open_histories
from core.errors import DataError

MOVIES = "2::Jumanji (1995)::Adventure|Children's\n10::Fa\xe7ade (1999)::Drama\n11::C\x85t::Drama\n"
# user 1 likes 2, dislikes 10, likes 11; user 2 rates in the order of time, not of the file.
RATINGS = (
    "1::2::5::100\n1::10::3::200\n1::11::4::300\n1::2::1::400\n1::10::4::500\n"
    "2::11::5::30\n2::2::4::10\n2::10::2::20\n2::11::3::40\n2::2::4::50\n"
)


def zipped(files: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content.encode("latin-1"))
    return buffer.getvalue()


def million(movies: str | None = MOVIES, ratings: str | None = RATINGS) -> bytes:
    files = {"ml-1m/README": "", "ml-1m/movies.dat": movies, "ml-1m/ratings.dat": ratings}
    return zipped({k: v for k, v in files.items() if v is not None})


@pytest.fixture
def entry(serve: Any) -> Any:
    """entry(archive, ratings) -> MovieLens 1M with this archive at an address on this machine."""

    def made(archive: bytes, ratings: int = 10) -> Any:
        source = replace(serve(archive), filename="ml-1m.zip", member=("ml-1m",))
        shipped = catalog.entry("movielens_1m")
        return replace(shipped, splits=Latest(0.25, ratings), sources=(source,))

    return made


def test_histories_are_what_was_liked_before_the_last_movie_first(
    entry: Any, tmp_path: Path
) -> None:
    fetch_entry(entry(million()), tmp_path / "data", 8, tmp_path)
    data = open_histories(tmp_path / "data")
    # Movies by their numbers: 2, 10, 11 are 1, 2, 3. The last sample of each user is for testing.
    assert data.train.candidates.tolist() == [2, 3, 1, 2, 3, 3]
    assert data.train.labels.tolist() == [0, 1, 0, 0, 1, 0]
    histories = [[m for m in row if m] for row in data.train.history.tolist()]
    assert histories == [[1], [1], [3, 1], [1], [1], [3, 1]]
    assert data.train.samples.tolist() == [[1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    assert data.test.samples.tolist() == [[1, 4], [2, 4]]
    assert data.test.labels.tolist() == [1, 1]
    assert data.train.history.shape == (6, 8)
    # Adventure, Children's, Drama
    assert data.genres.tolist() == [[0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1]]


def test_a_long_history_is_cut(entry: Any, tmp_path: Path) -> None:
    ratings = "".join(f"1::{(2, 10, 11)[n % 3]}::5::{n}\n" for n in range(30))
    fetch_entry(entry(million(ratings=ratings), 30), tmp_path / "data", 8, tmp_path)
    data = open_histories(tmp_path / "data")
    last = data.test.history[-1].tolist()
    assert last == [[1, 2, 3][n % 3] for n in range(28, 20, -1)]


WRONG = {
    "a member that is missing": (million(ratings=None), "holds no file 'ml-1m/ratings.dat'"),
    "movies that are missing": (million(movies=None), "holds no file 'ml-1m/movies.dat'"),
    "a movie outside the list": (million(ratings="1::99::5::1\n"), "movie '99' is not in the list"),
    "a rating above 5": (million(ratings="1::2::6::1\n"), "is no user, movie, rating from 1 to 5"),
    "a user that is none": (million(ratings="x::2::5::1\n"), "is no user, movie"),
    "a time that is none": (million(ratings="1::2::5::soon\n"), "is no user, movie"),
    "a line that is cut": (million(ratings=RATINGS + "1::2"), "line 11: expected 4 fields"),
    "no ratings": (million(ratings=""), "no ratings"),
    "fewer ratings": (million(ratings=RATINGS[:-13]), "9 ratings, the catalog expects 10"),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_archive_that_is_not_what_it_should_be_is_named(
    what: str, entry: Any, tmp_path: Path
) -> None:
    archive, text = WRONG[what]
    with pytest.raises(DataError) as caught:
        fetch_entry(entry(archive), tmp_path / "data", 8, tmp_path)
    assert text in str(caught.value)


ITEMS = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"


def test_atomic_tables_give_the_same_histories(
    entry: Any, package_index: Any, tmp_path: Path
) -> None:
    items = ITEMS + "10\tA\t1999\tDrama\n2\tB\t1995\tAdventure Children's\n11\tC\t\tDrama\n"
    inter = INTER + RATINGS.replace("::", "\t")
    archive = zipped({"x/ml.item": items, "x/ml.inter": inter})
    shipped = catalog.entry("movielens_100k")
    source = package_index("recbole.whl", archive, member=("x/ml",))
    atomic = replace(shipped, splits=Latest(0.25, 10), sources=(source,))
    fetch_entry(atomic, tmp_path / "atomic", 8, tmp_path)
    fetch_entry(entry(million()), tmp_path / "million", 8, tmp_path / "other")
    for file in FILES:
        one, other = (np.load(tmp_path / n / file) for n in ("atomic", "million"))
        assert np.array_equal(one, other), file


def test_an_atomic_table_of_another_layout_is_named(package_index: Any, tmp_path: Path) -> None:
    archive = zipped({"x/ml.item": "id\ttitle\n", "x/ml.inter": INTER})
    source = package_index("recbole.whl", archive, member=("x/ml",))
    shipped = replace(catalog.entry("movielens_100k"), sources=(source,))
    with pytest.raises(DataError, match=r"its head is 'id.*ttitle', expected 'item_id:token"):
        fetch_entry(shipped, tmp_path / "data", 8, tmp_path)


@pytest.mark.parametrize(
    ("file", "text"),
    [("train_history", "history: a movie is outside 0 to 3"),
     ("test_candidates", "candidates: a movie is outside 1 to 3"),
     ("train_labels", "a label is neither 0 nor 1")],
)  # fmt: skip
def test_a_prepared_folder_with_values_outside_is_refused(
    file: str, text: str, entry: Any, tmp_path: Path
) -> None:
    fetch_entry(entry(million()), tmp_path / "data", 8, tmp_path)
    path = tmp_path / "data" / f"{file}.npy"
    array = np.load(path)
    array.flat[0] = 9
    np.save(path, array)
    with pytest.raises(DataError, match=text):
        open_histories(tmp_path / "data")


@pytest.mark.slow
def test_movielens_100k_comes_from_the_package_index(tmp_path: Path) -> None:
    fetch("movielens_100k", tmp_path / "data", 10, Path("results/downloads"))
    data = open_histories(tmp_path / "data")
    assert (len(data.train.labels), len(data.test.labels)) == (78_479, 19_606)
    assert data.genres.shape == (1683, 19)
    assert data.genres[1].sum() == 3  # Toy Story
