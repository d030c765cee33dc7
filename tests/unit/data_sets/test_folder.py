"""`folder:`: which files are which examples, what is left out, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from device_registry.errors import UsageError
from tests.unit.data_sets.conftest import MakeImages, wanted
from workers.data_sets.data_set import Split, Wanted, identify, load
from workers.data_sets.labelled import Labelled
from workers.errors import AttemptError


def colours(part: Labelled) -> list[tuple[int, int]]:
    """Of each image its class and number, as its colour says."""
    return [tuple(np.round((image[:2, 0, 0] * 0.5 + 0.5) * 255).astype(int)) for image in part.inputs["image"]]


def read(root: Path, asked: Wanted | None = None) -> Split:
    return load(identify(f"folder:{root}", None).spec, asked or wanted())


def test_a_folder_is_parted_by_class_and_normalised(images: MakeImages) -> None:
    split = read(images(count=10))
    assert split.train is not None
    assert (len(split.train), len(split.test), split.test.classes) == (16, 4, ("cat", "dog"))
    assert split.test.inputs["image"].shape == (4, 3, 8, 8)
    assert split.test.name == "folder:pets"
    seen = colours(split.train) + colours(split.test)
    assert sorted(seen) == [(label, number) for label in range(2) for number in range(10)]
    for part in (split.train, split.test):
        assert [label for label, _ in colours(part)] == part.labels.tolist()
    assert np.bincount(split.test.labels).tolist() == [2, 2]


def test_parts_that_are_there_are_kept(images: MakeImages) -> None:
    images("train")
    split = read(images("val", count=3))
    assert split.train is not None
    assert (len(split.train), len(split.test)) == (10, 6)


def test_a_folder_of_tests_alone_has_nothing_to_learn_from(images: MakeImages) -> None:
    split = read(images("test"))
    assert split.train is None
    assert len(split.test) == 10


def test_a_limit_takes_of_all_classes(images: MakeImages) -> None:
    root = images(count=10)
    split = read(root, wanted(limit=2))
    assert split.train is not None
    assert (sorted(split.train.labels), sorted(split.test.labels)) == ([0, 1], [0, 1])
    assert identify(f"folder:{root}", 2).digest != identify(f"folder:{root}", None).digest


def test_classes_called_by_numbers_are_in_their_order(images: MakeImages) -> None:
    assert read(images(classes=("10", "9", "2"))).test.classes == ("2", "9", "10")


def test_what_cannot_be_read_is_left_out_counted_and_named(images: MakeImages) -> None:
    root = images(count=10)
    (root / "cat" / "a-notes.txt").write_text("no image")
    (root / "cat" / "broken.jpg").write_bytes(b"no image")
    (root / "dog" / "cut.png").write_bytes(png(3000, 3000, bytes(1000)))
    (root / "dog" / "bomb.png").write_bytes(png(50_000, 50_000, bytes(100)))
    split = read(root)
    assert split.train is not None
    assert len(split.train) + len(split.test) == 20
    assert split.test.skipped == split.train.skipped == 3
    by_name = dict(text.split(" ", 1) for text in split.skipped)
    assert set(by_name) == {"cat/broken.jpg", "dog/cut.png", "dog/bomb.png"}
    assert by_name["cat/broken.jpg"] == "is no image of a known format"
    assert "pixels" in by_name["dog/bomb.png"]


def png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG that says it is so large, and holds no more than these."""
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(pixels)]
    framed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def test_a_class_of_which_nothing_can_be_read_is_refused(images: MakeImages) -> None:
    root = images(count=1)
    (root / "dog" / "0.png").write_bytes(b"no image")
    with pytest.raises(AttemptError, match=r"folder:pets: no image of class dog can be read: dog/0.png is no image"):
        read(root)


def test_the_identity_is_that_of_the_content(images: MakeImages, tmp_path: Path) -> None:
    root = images()
    before = identify(f"folder:{root}", None)
    moved = root.rename(tmp_path / "moved")
    assert identify(f"folder:{moved}", None).digest == before.digest
    file = moved / "cat" / "0.png"
    file.write_bytes((moved / "cat" / "1.png").read_bytes())
    assert identify(f"folder:{moved}", None).digest != before.digest


def test_links_that_lead_out_of_the_folder_are_refused(images: MakeImages, tmp_path: Path) -> None:
    root = images()
    (root / "cat" / "same.png").symlink_to(root / "cat" / "0.png")
    identify(f"folder:{root}", None)
    (tmp_path / "secret.png").write_bytes(b"")
    (root / "dog" / "link.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(UsageError, match=r"dog/link.png is a link that leads out of the folder"):
        identify(f"folder:{root}", None)


def test_what_is_no_folder_of_classes_is_refused(images: MakeImages, tmp_path: Path) -> None:
    root = images(classes=("cat",))
    with pytest.raises(UsageError, match="two at least; it has 1"):
        identify(f"folder:{root}", None)
    (root / "dog").mkdir()
    with pytest.raises(UsageError, match="class dog has no image"):
        identify(f"folder:{root}", None)
    with pytest.raises(UsageError, match="there is no data set"):
        identify(f"folder:{tmp_path / 'none'}", None)
    with pytest.raises(UsageError, match=r"unknown data set 'foldr:.*': did you mean folder"):
        identify("foldr:pets", None)


@pytest.mark.parametrize(
    ("inputs", "takes"),
    [
        ({"ids": ("int64", (128,))}, r"takes no image but ids int64 \(128,\)"),
        ({"a": ("float32", (3, 8, 8)), "b": ("float32", (3, 8, 8))}, "the model takes a float32"),
        ({"audio": ("float32", (4, 80, 300))}, "takes no image but audio"),
    ],
)
def test_a_model_without_image_input_refuses_images(
    images: MakeImages, inputs: dict[str, tuple[str, tuple[int, ...]]], takes: str
) -> None:
    with pytest.raises(AttemptError, match=takes):
        read(images(), Wanted(inputs=inputs))


@pytest.mark.parametrize(
    ("shape", "kind"), [((1, 8, 8), "float32"), ((8, 8, 3), "float32"), ((8, 10, 3), "uint8"), ((3, 6, 4), "float16")]
)
def test_images_are_prepared_as_the_input_is(images: MakeImages, shape: tuple[int, ...], kind: str) -> None:
    split = read(images(), Wanted(inputs={"x": (kind, shape)}))
    assert split.test.inputs["x"].dtype == kind
    assert split.test.inputs["x"].shape[1:] == shape
