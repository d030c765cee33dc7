"""`hf:`: data sets that were saved here; nothing is asked of the network."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_registry.errors import UsageError
from tests.unit.data_sets.conftest import wanted
from workers.data_sets.data_set import Split, Wanted, identify, load
from workers.errors import AttemptError

if find_spec("datasets") is None:
    pytest.skip("datasets is not installed", allow_module_level=True)

#: Saves parts, each a dict of columns, and reads them.
Read = Callable[..., Split]
NUMBERS = Wanted(inputs={"value": ("float32", (2,))}, outputs=2)


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    import datasets
    from datasets import ClassLabel, Features, Image

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def save_and_read(asked: Wanted, images: bool = False, **parts: dict[str, Any]) -> Split:
        features = Features({"picture": Image(), "kind": ClassLabel(names=["cat", "dog"])}) if images else None
        made = {part: datasets.Dataset.from_dict(columns, features=features) for part, columns in parts.items()}
        saved = datasets.DatasetDict(made) if "whole" not in made else made["whole"]
        datasets.disable_progress_bars()
        saved.save_to_disk(str(tmp_path / "saved"))
        found = identify(f"hf:{tmp_path / 'saved'}", None)
        assert found.name == "hf:saved"
        return load(found.spec, asked)

    return save_and_read


def columns(count: int, **more: Any) -> dict[str, Any]:
    return {"v": [[float(n), 1.0] for n in range(count)], "label": [n % 2 for n in range(count)], **more}


def test_columns_are_taken_in_order(read: Read) -> None:
    split = read(NUMBERS, train=columns(10), test=columns(4))
    assert split.train is not None
    assert (len(split.train), len(split.test)) == (10, 4)
    assert split.test.inputs["value"].tolist() == [[n, 1] for n in range(4)]
    assert (split.test.labels.tolist(), split.test.classes) == ([0, 1, 0, 1], ("0", "1"))


def test_a_whole_is_parted_and_hidden_labels_are_not_used(read: Read) -> None:
    split = read(NUMBERS, whole=columns(10))
    assert split.train is not None
    assert (len(split.train), len(split.test)) == (8, 2)


def test_a_test_part_whose_labels_are_secret_gives_way_to_the_validation_part(read: Read) -> None:
    hidden = columns(3) | {"label": [-1, -1, -1]}
    split = read(NUMBERS, train=columns(10), test=hidden, validation=columns(4))
    assert len(split.test) == 4


def test_pictures_are_prepared_and_what_cannot_be_read_is_named(read: Read) -> None:
    from PIL import Image

    pictures: list[Any] = [Image.fromarray(np.full((9, 9, 3), shade, np.uint8)) for shade in range(9)]
    pictures.append({"bytes": b"no image", "path": "tenth.jpg"})
    split = read(wanted(), images=True, test={"picture": pictures, "kind": [n % 2 for n in range(10)]}, train={
        "picture": pictures[:4], "kind": [0, 1, 0, 1],
    })  # fmt: skip
    assert split.test.inputs["image"].shape == (9, 3, 8, 8)
    assert split.test.classes == ("cat", "dog")
    assert split.skipped == ("example 9 (tenth.jpg) is no image of a known format",)
    assert split.test.skipped == 1


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"v": [[0.0, 1.0], [1.0]], "label": [0, 1]}, "examples of v are not all of one shape"),
        ({"v": [[0.0, 1.0]] * 2}, "has no column of labels"),
        ({"v": [[0.0, 1.0]] * 2, "label": [0.5, 1.0]}, "are float64"),
        ({"v": ["a", "b"], "label": [0, 1]}, "has the shape"),
        ({"v": [[0.0, 1.0]] * 2, "w": [1, 2], "label": [0, 1]}, "holds the inputs v, w, and the model takes value"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(read: Read, parts: dict[str, Any], says: str) -> None:
    with pytest.raises(AttemptError, match=says):
        read(NUMBERS, test=parts)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("hf:nobody/nothing", "hf:nobody/nothing is not cached, and cannot be had from the Hugging Face Hub"),
        ("hf:a b", "is no name of a data set"),
        ("hf:./nowhere", "there is no folder"),
        ("hf:/", "is no folder that save_to_disk wrote"),
    ],
)
def test_what_cannot_be_had_is_said_when_it_is_planned(read: Read, spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        identify(spec, None)
