"""core.federated.silos: each side has its own data, in an order of which they exchange digests."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.errors import DataError
from core.federated.silos import FILE, SERVER, aligned, divide, open_party, open_server, order_key
from core.spec import RunSpec
from tests.federated.conftest import MOVIES, histories, make_spec


def changed(folder: Path, **arrays: np.ndarray) -> None:
    """The silo with other arrays in the place of some; None leaves one out."""
    own = load_file(folder / FILE)
    own |= {name.replace("__", "/"): array for name, array in arrays.items()}
    own = {k: np.ascontiguousarray(v) for k, v in own.items() if v is not None}
    save_file(own, folder / FILE, {"format": "1"})


def shuffled(folder: Path) -> None:
    """The rows of a silo in another order, all of them with their names."""
    own, random = load_file(folder / FILE), np.random.default_rng(3)
    for part in ("train", "test"):
        order = random.permutation(len(own[f"{part}/samples"]))
        for name in [n for n in own if n.startswith(part)]:
            own[name] = np.ascontiguousarray(own[name][order])
    save_file(own, folder / FILE, {"format": "1"})


@pytest.fixture
def spec() -> RunSpec:
    return make_spec()


@pytest.fixture
def folder(spec: RunSpec, tmp_path: Path) -> Path:
    divide(histories(), spec, tmp_path)
    return tmp_path


def test_a_party_gets_its_own_columns_and_no_label(folder: Path) -> None:
    data = histories()
    own = load_file(folder / "b" / FILE)
    assert np.array_equal(own["train/history"], data.train.history[:, 4:])
    assert not [name for name in own if "label" in name]
    assert set(load_file(folder / SERVER / FILE)) == {
        f"{part}/{what}" for part in ("train", "test") for what in ("labels", "samples")
    }


def test_sides_agree_on_the_order_and_say_so(spec: RunSpec, folder: Path) -> None:
    a, b = (open_party(folder / n, spec, c) for n, c in (("a", 4), ("b", 6)))
    server = open_server(folder / SERVER, spec)
    assert a.order == b.order == server.order
    assert a.shared == b.shared
    assert np.array_equal(a.rows["train"][:, 0], b.rows["train"][:, 0])  # candidates
    data, order = histories(), aligned(histories().train.samples, order_key(spec))
    assert np.array_equal(a.rows["train"][:, 1:], data.train.history[order, :4])
    assert np.array_equal(server.labels["train"], data.train.labels[order])
    assert not np.array_equal(order, np.arange(len(order)))


def test_digests_are_keyed_by_the_spec(spec: RunSpec, folder: Path) -> None:
    other = make_spec(staleness=3)
    one, two = (open_party(folder / "a", s, 4) for s in (spec, other))
    assert one.order != two.order
    assert np.array_equal(one.rows["train"], two.rows["train"])  # a comparison has equal batches


def test_an_order_is_not_that_of_another_seed(folder: Path) -> None:
    samples = histories().train.samples
    other = RunSpec(make_spec().content | {"seed": 8})
    orders = [aligned(samples, order_key(s)) for s in (make_spec(), other)]
    assert not np.array_equal(*orders)


@pytest.mark.parametrize(("what", "movie"), [("history", MOVIES + 1), ("candidates", MOVIES + 1),
                                            ("history", -1), ("candidates", 0)])  # fmt: skip
def test_movies_outside_the_vocabulary_are_named(
    what: str, movie: int, spec: RunSpec, folder: Path
) -> None:
    array = load_file(folder / "a" / FILE)[f"test/{what}"]
    array.flat[0] = movie
    changed(folder / "a", **{f"test__{what}": array})
    with pytest.raises(DataError, match=f"test/{what}: a movie is outside the vocabulary"):
        open_party(folder / "a", spec, 4)


def test_the_silo_of_another_side_is_refused(spec: RunSpec, folder: Path) -> None:
    with pytest.raises(DataError, match="the silo of another side"):
        open_server(folder / "a", spec)
    with pytest.raises(DataError, match="no table of the genres"):
        open_party(folder / SERVER, spec, 4)
    with pytest.raises(DataError, match=r"train/history is int32 \(60, 6\), expected int32 60 x 4"):
        open_party(folder / "b", spec, 4)


def test_damage_is_named(spec: RunSpec, folder: Path) -> None:
    with pytest.raises(DataError, match="does not exist; make it with"):
        open_party(folder / "c", spec, 4)
    twice = load_file(folder / "a" / FILE)["train/samples"]
    twice[1] = twice[0]
    changed(folder / "a", train__samples=twice)
    with pytest.raises(DataError, match="two rows are of the same rating"):
        open_party(folder / "a", spec, 4)
    (folder / SERVER / FILE).write_bytes(b"no silo")
    with pytest.raises(DataError, match="is damaged"):
        open_server(folder / SERVER, spec)


def test_a_label_that_is_none_is_named(spec: RunSpec, folder: Path) -> None:
    changed(folder / SERVER, train__labels=np.full(60, 2, np.int64))
    with pytest.raises(DataError, match="a label is neither 0 nor 1"):
        open_server(folder / SERVER, spec)
