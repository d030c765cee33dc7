"""What TensorFlow's and LiteRT's runtimes are made of, without either: names, times, products, scales, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract import ModelRequest
from workers.errors import BadModelError
from workers.models.channels_last import photographs, pixels
from workers.models.file_inputs import fixed_shapes, make_values
from workers.models.files import ModelFile
from workers.models.savedmodel_safety import refuse_code
from workers.models.source import UnknownModelError
from workers.models.tf_export import in_order
from workers.models.tf_files import _names
from workers.models.tf_operators import COMPUTE, RESTORE, SAVE
from workers.runtimes.lite_rt_interface import Scale
from workers.runtimes.tf_graph import Node, einsum_macs, layers_of, macs_by_precision
from workers.runtimes.tf_trace import TracedRun, executor_time, kernel_times, own_times

KNOWN = frozenset({"conv", "conv_1", "body", "depthwise"})


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("StatefulPartitionedCall/net_1/conv_1/convolution", ("conv",)),
        ("StatefulPartitionedCall/net_1/conv_1_2/Reshape/shape", ("conv_1",)),
        ("net_1/body_1/conv_1/BiasAdd", ("body.conv",)),
        ("net_1/depthwise_1/depthwise/ReadVariableOp", ("depthwise",)),
        ("net_1/body_1/while/body/_66/net_1/body_1/while/conv_1/add", ("body.conv",)),
        ("net_1/Add_3", ()),
        ("Identity", ()),
    ],
)
def test_a_node_belongs_to_the_keras_layer_whose_scope_it_is_in(name: str, layers: tuple[str, ...]) -> None:
    assert layers_of(name, KNOWN) == layers


def test_without_known_layers_the_scopes_are_the_path() -> None:
    assert layers_of("StatefulPartitionedCall/model/conv/Conv2D", frozenset()) == ("model.conv",)
    assert layers_of("StatefulPartitionedCall/Relu", frozenset()) == ()


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("abc,cd->abd", [(2, 3, 4), (4, 5)], 120),
        ("aecd,abcd->acbe", [(1, 16, 4, 16), (1, 16, 4, 16)], 16384),
        ("...c,cd->...d", [(2, 4), (4, 5)], None),
        ("ab->ba", [(2, 3)], None),
        ("ab,bc->ac", [(2, 3, 4), (4, 5)], None),
    ],
)
def test_an_einstein_sum_multiplies_over_all_its_axes(
    equation: str, shapes: list[tuple[int, ...]], macs: int | None
) -> None:
    assert einsum_macs(equation, shapes) == macs


def test_products_are_counted_by_the_type_of_their_operands() -> None:
    nodes = [Node("Conv2D", "", kind, macs, None, ()) for kind, macs in (("fp32", 3), ("bf16", 4), ("fp32", None))]
    assert macs_by_precision(nodes) == {"fp32": 3, "bf16": 4}


def test_own_time_is_without_what_ran_inside() -> None:
    assert own_times([(0, 100), (10, 40), (20, 30), (50, 60), (200, 210)]) == [60, 20, 10, 10, 10]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=20))
def test_own_times_of_spans_one_after_the_other_are_their_lengths(gaps: list[tuple[int, int]]) -> None:
    spans, at = [], 0
    for gap, length in gaps:
        spans.append((at + gap, at + gap + length))
        at += gap + length
    assert own_times(spans) == [length for _, length in gaps]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 15)), max_size=8))
def test_own_times_are_together_what_the_spans_cover_however_they_overlap(given_: list[tuple[int, int]]) -> None:
    spans = sorted(((begin, begin + length) for begin, length in given_), key=lambda span: (span[0], -span[1]))
    own = own_times(spans)
    assert all(time >= 0 for time in own)
    assert sum(own) == len({moment for begin, end in spans for moment in range(begin, end)})


def traced_run(executor_us: float, **kernels: float) -> TracedRun:
    """A run of these kernels."""
    return TracedRun(1.0, kernels={(name, "T"): took for name, took in kernels.items()}, executor_us=executor_us)


def test_a_kernel_has_the_median_of_the_runs_that_show_it_and_else_that_of_the_fresh_copy() -> None:
    seen = [traced_run(0, conv=4.0), traced_run(0, conv=6.0, relu=1.0), traced_run(0, conv=8.0, relu=2.0)]
    whole = [traced_run(0, conv=90.0, relu=9.0, mean=3.0)]
    times = kernel_times(seen, whole)
    assert times == {("conv", "T"): 6.0, ("relu", "T"): 1.5, ("mean", "T"): 3.0}
    assert [name for name, _ in times] == ["conv", "relu", "mean"]


def test_the_executors_row_is_without_kernels_that_another_row_has() -> None:
    seen = [traced_run(10, conv=4.0), traced_run(8, conv=4.0, relu=2.0)]
    assert executor_time(seen, {("conv", "T"): 4.0, ("relu", "T"): 2.0, ("mean", "T"): 3.0}) == 5.0
    assert executor_time(seen, {("mean", "T"): 99.0}) == 0.0


@given(st.floats(1e-4, 10), st.integers(-128, 127), st.lists(st.integers(-128, 127), min_size=1, max_size=50))
def test_integers_stand_for_the_reals_they_came_from(step: float, zero: int, values: list[int]) -> None:
    scale = Scale(np.dtype(np.int8), step, zero)
    given_ = np.array(values, dtype=np.int8)
    assert np.array_equal(scale.integers(scale.reals(given_)), given_)


def test_reals_outside_of_the_range_become_its_ends() -> None:
    scale = Scale(np.dtype(np.uint8), 0.5, 10)
    assert scale.integers(np.array([-1e9, 0.0, 0.24, 0.26, 1e9])).tolist() == [0, 10, 10, 11, 255]


def test_outputs_are_in_the_programs_order() -> None:
    assert in_order({f"output_{index}": index for index in (10, 2, 0)}) == [0, 2, 10]


def test_names_of_inputs_are_names_of_arguments_and_differ() -> None:
    assert _names(["ids", "feat.ures", "ids", "1st"]) == ["ids", "feat_ures", "input_2", "input_3"]


def test_images_have_their_channels_where_the_shape_has_them() -> None:
    values = pixels(np.random.default_rng(0), 2, (1, 12, 16, 3))
    assert values.shape == (2, 1, 12, 16, 3)
    assert values.dtype == np.float32
    assert 0 <= values.min() < values.max() <= 255
    assert abs(photographs(np.random.default_rng(0), 2, (1, 12, 16, 3)).mean()) < 1
    shapes = fixed_shapes({"x": ([None, 12, 16, 3], np.dtype(np.float32))}, ModelRequest(name="m.keras", batch=2))
    assert make_values(np.random.default_rng(0), 3, shapes, of_pixels=True)["x"].max() > 100
    assert make_values(np.random.default_rng(0), 3, shapes)["x"].max() < 10


def test_operators_that_touch_files_or_code_are_none_that_compute() -> None:
    evil = {"ReadFile", "WriteFile", "MatchingFiles", "PyFunc", "EagerPyFunc", "PyFuncStateless", "Abort", "PrintV2"}
    evil |= {"ImmutableConst", "DebugIdentity", "DecodeProtoV2", "XlaCallModule", "InitializeTableFromTextFile"}
    assert not evil & COMPUTE
    assert not (SAVE | RESTORE) & COMPUTE


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_files_of_keras_2_are_refused_with_the_way_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"old{suffix}"
    path.write_bytes(b"\x89HDF")
    with pytest.raises(UnknownModelError, match=r"model\.save\('old\.keras'\)"):
        ModelFile().resolve(ModelRequest(name=str(path)))


def test_a_folder_with_a_saved_model_is_a_model_and_another_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="folder of a SavedModel"):
        ModelFile().resolve(ModelRequest(name=str(tmp_path)))
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    resolved = ModelFile().resolve(ModelRequest(name=str(tmp_path)))
    assert resolved is not None
    assert (resolved.format, resolved.recipe, resolved.weights) == ("savedmodel", "original", "of the file")


def test_a_keras_file_becomes_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "m.keras").write_bytes(b"PK")
    resolved = ModelFile().resolve(ModelRequest(name=str(tmp_path / "m.keras")))
    assert resolved is not None
    assert (resolved.name, resolved.format, resolved.recipe) == ("m.keras", "savedmodel", "original")


@pytest.mark.parametrize("extra", ["saved_model.cpb", "saved_model.pbtxt", "assets/words.txt", "variables/evil.so"])
def test_files_that_a_saved_model_does_not_need_are_refused(tmp_path: Path, extra: str) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    (tmp_path / extra).parent.mkdir(exist_ok=True)
    (tmp_path / extra).write_bytes(b"")
    with pytest.raises(BadModelError, match="benchfarm does not load it"):
        refuse_code(tmp_path)
