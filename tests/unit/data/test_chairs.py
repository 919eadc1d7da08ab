"""Chairs: rendered here, read from an archive of the published layout, and transformed."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data import catalog, chair_readers, chair_styles, chair_transforms
from core.data.catalog import Entry, Fraction, Generated, Reader, Url
from core.data.chair_transforms import IDENTITY, Changes
from core.data.chairs import IMAGES, open_chairs, row_of
from core.data.fetch import fetch_entry
from core.data.manifest import verify
from core.errors import DataError

WORDING = dict.fromkeys(("title", "task", "licence", "citation"), "none")
ROOT = "rendered_chairs"
STYLES = ("0b3d", "a1f0", "c9")
VIEWS = ("image_000_p020_t011_r096.png", "image_001_p030_t180_r096.png")


# Rendered.


def generated(classes: int = 3, azimuths: int = 8) -> Entry:
    sources, splits = (Generated(azimuths, (20,)),), Fraction(0.25, 0)
    return Entry("few", "chairs", **WORDING, sources=sources, classes=classes, splits=splits)


def test_the_same_chair_is_the_same_pixels_and_another_one_is_not() -> None:
    first, again, other = (chair_styles.picture(style, 30, 20, 32) for style in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_chair_stands_inside_its_picture_on_white_under_its_mask() -> None:
    for style in range(40):
        for azimuth in (0, 100, 215):
            image = chair_styles.picture(style, azimuth, 30, 32)
            mask = image[..., 3]
            assert (image[mask == 0][:, :3] == 255).all()
            assert 0.04 < (mask > 127).mean() < 0.6, style
            border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
            assert not border.any(), style


def test_all_styles_differ_in_shape_not_in_colour_alone() -> None:
    masks = {chair_styles.picture(style, 40, 20, 32)[..., 3].tobytes() for style in range(48)}
    assert len(masks) == 48


def test_solids_are_shaded_and_seen_from_the_side_that_the_camera_is_on() -> None:
    """A back is behind the seat as seen from the front, and hides it from behind."""
    style = next(s for s in range(40) if chair_styles.chair(s)[0].shape == "box")
    front, side = (chair_styles.picture(style, azimuth, 20, 48) for azimuth in (0, 90))
    assert len(np.unique(front[front[..., 3] == 255][:, :3], axis=0)) > 3
    assert not np.array_equal(front[..., 3], side[..., 3])
    # Every solid is mirrored in itself, so that the mask of the front view is as well.
    assert np.abs(front[..., 3].astype(int) - front[:, ::-1, 3]).mean() < 3


def test_rendered_chairs_are_prepared_split_by_style_and_opened(tmp_path: Path) -> None:
    fetch_entry(generated(), tmp_path / "out", 16, tmp_path)
    train, test = (open_chairs(tmp_path / "out", part) for part in ("train", "test"))
    assert train.images is not None
    assert (train.images.shape, train.images.dtype) == ((18, 16, 16, 4), np.uint8)
    assert [(test.inputs[:, 0] == style).sum() for style in range(3)] == [2, 2, 2]
    assert not set(train.ids) & set(test.ids)
    place = train.ids.index(train.ids[5])
    style, azimuth = int(train.inputs[place, 0]), float(train.ids[5].split("_t")[1])
    assert train.inputs[place] == pytest.approx(row_of(style, azimuth, 20), abs=1e-6)
    assert np.array_equal(train.images[5], chair_styles.picture(style, azimuth, 20, 16))
    verify(tmp_path / "out", "chairs")


def test_a_side_without_the_images_opens_the_inputs_alone(tmp_path: Path) -> None:
    fetch_entry(generated(2, 4), tmp_path / "out", 16, tmp_path)
    for name in IMAGES:
        (tmp_path / "out" / name).unlink()
    assert open_chairs(tmp_path / "out", "test", images=False).images is None
    with pytest.raises(DataError, match=r"train_images\.npy is missing"):
        open_chairs(tmp_path / "out", "test")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (np.zeros((6, 4), np.float32), r"inputs are float32 \(6, 4\), expected \(6, 5\)"),
        (np.full((6, 5), 7, np.float32), "a style is outside 0 to 1"),
    ],
)
def test_damaged_inputs_are_named(tmp_path: Path, inputs: np.ndarray, message: str) -> None:
    fetch_entry(generated(2, 4), tmp_path / "out", 16, tmp_path)
    path = tmp_path / "out" / "train_inputs.npy"
    size = path.stat().st_size
    np.save(path, inputs)
    (tmp_path / "out" / "manifest.json").write_text(
        (tmp_path / "out" / "manifest.json")
        .read_text()
        .replace(f'"bytes": {size}', f'"bytes": {path.stat().st_size}')
    )
    with pytest.raises(DataError, match=message):
        open_chairs(tmp_path / "out", "train")


# The published archive.


def picture(side: int = chair_readers.PUBLISHED_SIZE) -> bytes:
    """White, with a dark square in the middle."""
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[side // 2 - 100 : side // 2 + 100, side // 2 - 100 : side // 2 + 100] = (20, 90, 160)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def archive(left_out: str = "", more: dict[str, bytes] | None = None) -> bytes:
    """Laid out as published: a table beside the folders of the styles."""
    members = {f"{ROOT}/all_chair_names.mat": b"MATLAB"}
    members |= {f"{ROOT}/{style}/renders/{view}": picture() for style in STYLES for view in VIEWS}
    members |= more or {}
    members.pop(left_out, None)
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def published(serve, tmp_path):
    """published(content) -> fetches an archive with this content from a server on loopback."""

    def fetch(content: bytes, classes: int = 2) -> Path:
        source = replace(serve(content), member=(ROOT,))
        entry = Entry(
            "few",
            "chairs",
            **WORDING,
            sources=(source,),
            classes=classes,
            splits=Fraction(0.5, 0),
            reader=Reader("seeing_3d_chairs"),
        )
        fetch_entry(entry, tmp_path / "out", 40, tmp_path / "downloads")
        return tmp_path / "out"

    return fetch


def test_an_archive_of_the_published_layout_is_cropped_and_masked(published) -> None:
    out = published(archive())
    train, test = (open_chairs(out, part) for part in ("train", "test"))
    assert train.styles == STYLES[:2]  # the first of three
    assert sorted([*train.ids, *test.ids]) == [f"{s}/{v}" for s in STYLES[:2] for v in VIEWS]
    assert train.images is not None
    (place,) = [i for i, name in enumerate(train.ids) if name.startswith(STYLES[1])]
    azimuth = 11 if "t011" in train.ids[place] else 180
    elevation = 20 if "p020" in train.ids[place] else 30
    assert train.inputs[place] == pytest.approx(row_of(1, azimuth, elevation), abs=1e-6)
    image = train.images[place]  # 40 pixels of 400: the square has 20
    assert image[20, 20].tolist() == [20, 90, 160, 255]
    assert image[5, 5].tolist() == [255, 255, 255, 0]
    assert (image[..., 3] > 127).sum() == 20 * 20


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            archive(left_out=f"{ROOT}/{STYLES[1]}/renders/{VIEWS[0]}"),
            f"{STYLES[1]} lacks 1 of 2 views, the first is {STYLES[1]}/renders/{VIEWS[0]}",
        ),
        (
            archive(more={f"{ROOT}/{STYLES[0]}/renders/{VIEWS[1]}": picture(300)}),
            f"{STYLES[0]}/renders/{VIEWS[1]}: 300 × 300 pixels, expected 600 × 600",
        ),
        (
            archive(more={f"{ROOT}/{STYLES[0]}/renders/{VIEWS[1]}": b"GIF"}),
            f"{STYLES[0]}/renders/{VIEWS[1]}: not an image, or a damaged one",
        ),
        (archive(more={f"{ROOT}/../../x": b""}), "points outside the archive"),
        (archive()[:-30_000], "damaged or not an archive"),
    ],
    ids=["view", "size", "image", "path", "truncated"],
)
def test_a_wrong_archive_is_named(published, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("(", r"\(")):
        published(content)


def test_an_archive_with_too_few_styles_is_named(published) -> None:
    with pytest.raises(DataError, match="few: 3 classes, the catalog expects 4"):
        published(archive(), classes=4)


def test_the_published_entry_is_that_of_its_users() -> None:
    entry = catalog.entry("seeing_3d_chairs")
    (source,) = entry.sources
    assert isinstance(source, Url)
    assert (entry.classes, source.member) == (809, (ROOT,))
    assert source.url.startswith("https://www.di.ens.fr/willow/research/seeing3Dchairs/")


# Transforms.


def numbers(**changes: float) -> np.ndarray:
    names = "across down sine cosine zoom stretch hue_sine hue_cosine saturation brightness"
    places = {name: i for i, name in enumerate(f"{names} contrast mirrored".split())}
    found = IDENTITY.copy()
    for name, value in changes.items():
        found[places[name]] = value
    return found


IMAGE = chair_styles.picture(7, 40, 20, 32)


def test_drawn_numbers_follow_from_their_generator_and_are_none_without_strength() -> None:
    one, two = (
        chair_transforms.draw(np.random.default_rng(3), 5, Changes(True, 4, 1.0, 32))
        for _ in range(2)
    )
    assert np.array_equal(one, two)
    assert one.shape == (5, chair_transforms.NUMBERS)
    assert (np.abs(one[:, :2]) <= 4 / 32).all()
    assert one[:, 2] ** 2 + one[:, 3] ** 2 == pytest.approx(np.ones(5))
    still = chair_transforms.draw(np.random.default_rng(3), 5, Changes(False, 0, 0.0, 32))
    assert np.array_equal(still, np.tile(IDENTITY, (5, 1)))


def test_an_image_and_its_mask_move_together() -> None:
    mirrored = chair_transforms.transformed(IMAGE, numbers(mirrored=1))
    assert np.abs(mirrored.astype(int) - IMAGE[:, ::-1]).max() <= 1
    moved = chair_transforms.transformed(IMAGE, numbers(across=4 / 32, down=-2 / 32))
    assert np.abs(moved[:-2, 4:].astype(int) - IMAGE[2:, :-4]).max() <= 1
    assert (moved[:, :4, 3] == 0).all()
    assert (moved[:, :4, :3] == 255).all()
    turned = chair_transforms.transformed(IMAGE, numbers(sine=1, cosine=0))
    assert np.abs(turned.astype(int) - np.rot90(IMAGE, -1)).max() <= 1
    larger = chair_transforms.transformed(IMAGE, numbers(zoom=0.2))
    assert 1.4 < larger[..., 3].mean() / IMAGE[..., 3].mean() < 1.6  # e to the power of 0.4


def test_colours_change_where_the_chair_is_and_nowhere_else() -> None:
    for changes in ({"hue_sine": 1, "hue_cosine": 0}, {"saturation": 0.5}, {"brightness": -0.3}):
        changed = chair_transforms.transformed(IMAGE, numbers(**changes))
        inside = IMAGE[..., 3] == 255
        assert np.abs(changed[inside][:, :3].astype(int) - IMAGE[inside][:, :3]).max() > 10
        assert (changed[IMAGE[..., 3] == 0][:, :3] == 255).all()
        assert np.array_equal(changed[..., 3], IMAGE[..., 3])
