"""benchmark_model: every generation of its output, what proves a delegate, and the words it is started with."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android import outputs
from tests.unit.android.mutations import mutated
from tests.unit.android.tasks import DELEGATE, files, task
from workers.android.tools.benchmark_model import BenchmarkModel
from workers.android.tools.result_proto import read_result_proto
from workers.android.tools.tool import PROFILE_FILE, RESULT_FILE, DelegateProof, ToolOutput, environment, least_proven

TOOL = BenchmarkModel()
ALL = [
    outputs.TFLITE_2019,
    outputs.TFLITE_2020,
    outputs.TFLITE,
    outputs.TFLITE_LOGCAT,
    outputs.GPU_FULL,
    outputs.NNAPI_FELL_BACK,
    outputs.NNAPI_PARTIAL,
    outputs.QNN_NONE,
    outputs.QNN_PARTIAL,
    outputs.LITERT_2,
    outputs.OPS_OLD,
    outputs.OPS_NEW,
    outputs.OPS_INNER,
]


def read(text: str, asked: str | None = None, **extra: str) -> ToolOutput:
    return TOOL.read(text, extra, asked)


def test_output_of_2019_has_a_mean_and_no_first_inference_line() -> None:
    found = read(outputs.TFLITE_2019)
    assert (found.generation, found.statistic, found.value_ms) == ("tflite 2019", "mean", pytest.approx(65.4325))
    assert (found.init_ms, found.first_ms, found.warm_up_runs, found.runs) == (9.5, 130.5, 7, 15)
    assert found.warm_up_ms == pytest.approx(77.0015)
    assert found.errors == found.unread == ()


def test_output_of_2020_has_a_mean_and_the_old_memory_line() -> None:
    found = read(outputs.TFLITE_2020)
    assert (found.generation, found.statistic, found.value_ms) == ("tflite", "mean", pytest.approx(54.3215))
    assert (found.min_ms, found.max_ms, found.std_ms, found.runs) == pytest.approx((52.9, 59.9, 1.4, 50))
    assert found.memory_growth_bytes == 12.5 * 2**20
    assert found.peak_memory_bytes is None  # a growth is no peak


def test_current_output_has_a_median_and_percentiles() -> None:
    found = read(outputs.TFLITE)
    assert (found.generation, found.statistic, found.value_ms) == ("tflite with percentiles", "median", 5.2)
    assert (found.p5_ms, found.p95_ms) == (5.12, 5.4)
    assert (found.warm_up_runs, found.runs) == (96, 190)  # the first count is the warm-up, the second the run
    assert found.peak_memory_bytes == 21.5 * 2**20


def test_logcat_prefixes_change_nothing() -> None:
    plain, logged = read(outputs.TFLITE), read(outputs.TFLITE_LOGCAT)
    assert (logged.value_ms, logged.runs, logged.init_ms) == (plain.value_ms, plain.runs, plain.init_ms)
    assert logged.delegate.delegated_nodes == plain.delegate.delegated_nodes == 60


def test_litert_2_is_told_by_its_block_and_has_milliseconds() -> None:
    found = read(outputs.LITERT_2, "gpu")
    assert (found.generation, found.statistic, found.value_ms, found.runs) == ("litert 2", "mean", 7.25, 135)
    assert (found.init_ms, found.first_ms, found.warm_up_ms, found.warm_up_runs) == (200.5, 60.25, 7.5, 21)
    assert found.memory_growth_bytes == 64.5 * 2**20
    assert found.delegate.compute_unit == "gpu"
    assert found.delegate.share == 1.0


def test_equal_runs_and_a_single_run_print_one_time() -> None:
    same = read("count=3 curr=120 (all same)\ncount=50 curr=100 (all same)\n")
    assert (same.value_ms, same.statistic, same.runs, same.min_ms) == (0.1, "mean", 50, 0.1)
    single = read("count=1 curr=905463 p5=905463 median=905463 p95=905463\ncount=1 curr=900000 median=900000\n")
    assert (single.value_ms, single.statistic, single.first_ms) == (900.0, "median", 905.463)


def test_counts_inside_tables_of_a_profile_are_no_runs() -> None:
    found = read(outputs.TFLITE + outputs.OPS_OLD)
    assert (found.runs, found.value_ms) == (190, 5.2)
    assert [op.type for op in found.ops] == ["CONV_2D", "SOFTMAX"]


def test_delegates_that_print_into_a_line_do_not_hide_its_numbers() -> None:
    torn = outputs.TFLITE.replace("INFO: count=190", "[Qnn] <W> tearing down count=190")
    assert read(torn).runs == 190


def test_log_that_ends_in_the_warm_up_is_not_measured() -> None:
    text = outputs.TFLITE[: outputs.TFLITE.index("INFO: count=190")]
    found = read(text)
    assert found.value_ms is None
    assert found.warm_up_runs == 96
    assert "inference" in (found.why_not_measured or "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '9'\nBenchmarking failed.",
            "Benchmarking failed.",
        ),
        ('CANNOT LINK EXECUTABLE "b": library "libx.so" not found', "libx.so"),
        ("Segmentation fault", "Segmentation fault"),
        ("", "inference"),
    ],
)
def test_failed_run_says_why_it_has_no_time(text: str, said: str) -> None:
    found = read(text)
    assert found.value_ms is None
    assert said in (found.why_not_measured or "")


def test_delegate_that_took_everything_back_is_no_accelerator() -> None:
    """NNAPI claims all nodes, then none: exit status 0, plausible CPU times."""
    found = read(outputs.NNAPI_FELL_BACK)
    assert found.delegate.asked == "nnapi"
    assert (found.delegate.share, found.delegate.compute_unit) == (0.0, "cpu")
    refusal = found.delegate.refuse(require_full=False)
    assert refusal is not None
    assert (refusal.cause, refusal.code) == ("model", "not_delegated")


def test_partial_delegation_is_a_share_of_the_nodes_of_the_delegate_asked_for() -> None:
    found = read(outputs.NNAPI_PARTIAL)
    assert (found.delegate.delegated_nodes, found.delegate.total_nodes) == (6, 70)  # not XNNPACK's 60 of 66
    assert found.delegate.share == pytest.approx(6 / 70)
    assert found.delegate.compute_unit == "nnapi+cpu"
    assert found.delegate.refuse(require_full=False) is None
    refusal = found.delegate.refuse(require_full=True)
    assert refusal is not None
    assert refusal.code == "partially_delegated"


def test_vendor_delegate_counts_by_its_own_line() -> None:
    none, part = read(outputs.QNN_NONE), read(outputs.QNN_PARTIAL)
    assert (none.delegate.asked, none.delegate.share, none.delegate.compute_unit) == ("qnn", 0.0, "cpu")
    assert (part.delegate.share, part.delegate.partitions) == (pytest.approx(40 / 47), 2)
    assert part.delegate.compute_unit == "npu+cpu"


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: Restored original execution plan after delegate application failure.",
        "ERROR: [dispatch_delegate.cc:122] Failed to create a dispatch delegate kernel: No usable Dispatch runtime",
        "WARN: Unconsumed cmdline flags: --use_gpu=true",
        "GPU acceleration is unsupported on this platform.",
        "INFO: Created 0 GPU delegate kernels.",
    ],
)
def test_claims_are_taken_back_by_a_failure_of_the_delegate(line: str) -> None:
    claim = "VERBOSE: Replacing 64 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions\n"
    for text in (claim + line, line + "\n" + claim):
        assert read(text, "gpu").delegate.share == 0.0, text


def test_all_nodes_in_one_delegate_need_no_other_word() -> None:
    """LiteRT prints no "explicitly applied"."""
    text = "INFO: Replacing 1 out of 1 node(s) with delegate (DispatchDelegate) node, yielding 1 partitions"
    assert read(text, "tensor").delegate.compute_unit == "npu"


def test_unproven_delegate_is_labelled_unknown() -> None:
    proof = read("INFO: Use gpu: [1]\ncount=1 curr=9\ncount=5 curr=9\n").delegate
    assert (proof.asked, proof.share, proof.compute_unit) == ("gpu", None, "unknown")
    assert proof.refuse(require_full=False) is None
    assert proof.refuse(require_full=True) is not None


def test_tool_that_ended_itself_for_a_partial_delegation_is_told_apart_from_a_crash() -> None:
    text = "VERBOSE: Replacing 48 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 3 partitions\n"
    proof = read(text + "ERROR: Disallowed CPU fallback detected.\nERROR: Benchmarking failed.", "gpu").delegate
    assert proof.share == 0.75
    refusal = proof.refuse(require_full=True)
    assert refusal is not None
    assert refusal.code == "partially_delegated"
    assert "75%" in refusal.message


def test_partial_without_counts_is_partial_with_an_unknown_share() -> None:
    line = "Explicitly applied GPU delegate, and the model graph will be partially executed by the delegate"
    line += " w/ 4 delegate kernels."
    proof = read(line, "gpu").delegate
    assert (proof.share, proof.took_part, proof.compute_unit, proof.partitions) == (None, True, "gpu+cpu", 4)


def test_one_invocation_that_fell_back_takes_the_label_from_all() -> None:
    full, part, none = read(outputs.GPU_FULL), read(outputs.NNAPI_PARTIAL), read(outputs.NNAPI_FELL_BACK)
    assert least_proven([full, none, part]).share == 0.0
    assert least_proven([full, part]).share == pytest.approx(6 / 70)


def test_cpu_share_is_none_because_there_is_no_delegate_to_doubt() -> None:
    facts = TOOL.facts([read(outputs.TFLITE, "cpu")], task(), "2.19 (0123456789ab)")
    assert (facts.compute_unit, facts.delegated_share, facts.precision) == ("cpu", None, "fp32")
    assert "XNNPACK" in facts.evidence


def test_gpu_precision_is_what_the_tool_echoed() -> None:
    facts = TOOL.facts([read(outputs.GPU_FULL, "gpu")], task("gpu"), "v")
    assert (facts.compute_unit, facts.delegated_share, facts.precision) == ("gpu", 1.0, "fp32")
    unheard = outputs.GPU_FULL.replace("INFO: Allow lower precision in gpu: [0]\n", "")
    assert TOOL.facts([read(unheard, "gpu")], task("gpu"), "v").precision == "unknown"


def test_nnapi_is_marked_deprecated() -> None:
    assert "deprecated since Android 15" in TOOL.facts([read(outputs.NNAPI_PARTIAL)], task("nnapi"), "v").evidence


def test_result_file_has_more_digits_and_never_changes_the_statistic() -> None:
    """A run that was ended early has no result file, and means and medians are never compared."""
    raw = _message(
        (2, _message((1, 7.26), (2, 7.0), (5, 7.125), (6, 7.0625), (7, 7.5), (8, 200.5), (9, 60.25), (10, 7.5))),
        (3, _message((3, 42.5))),
        (4, _message((2, 135), (3, 21))),
    )
    found = read(outputs.LITERT_2, "gpu", **{RESULT_FILE: raw.decode("latin-1")})
    assert (found.statistic, found.value_ms, found.p95_ms, found.runs) == ("mean", pytest.approx(7.26), 7.5, 135)
    assert found.peak_memory_bytes == 42.5 * 2**20
    assert read(outputs.TFLITE, **{RESULT_FILE: raw.decode("latin-1")}).value_ms == 7.125  # its text has medians


def test_result_file_that_is_damaged_changes_nothing() -> None:
    assert read(outputs.LITERT_2, "gpu", **{RESULT_FILE: "\xff\xff\xff\x12\x00"}).value_ms == 7.25


def test_words_force_the_arithmetic_that_the_recipe_names() -> None:
    assert "--xnnpack_force_fp16=true" in TOOL.command(task(recipe="fp16"), files(), 1.0)
    assert "--gpu_precision_loss_allowed=false" in TOOL.command(task("gpu"), files(), 1.0)
    assert "--gpu_precision_loss_allowed=true" in TOOL.command(task("gpu", recipe="fp16"), files(), 1.0)


def test_words_of_a_run() -> None:
    words = TOOL.command(task("qnn", full=True, threads=2, rate_hz=30.0), files(vendor=True), 2.5)
    assert words[0] == files().binary
    flags = dict(word.removeprefix("--").split("=", 1) for word in words[1:])
    assert flags["num_threads"] == "2"
    assert (flags["min_secs"], flags["max_secs"], flags["run_frequency"]) == ("2.5", "50", "30")
    assert (flags["warmup_runs"], flags["warmup_min_secs"]) == ("3", "0.5")
    assert (flags["external_delegate_path"], flags["external_delegate_options"]) == (DELEGATE, "backend_type:htp")
    assert flags["require_full_delegation"] == "true"
    assert "enable_op_profiling" not in flags
    assert "enable_op_profiling" in str(TOOL.command(task(), files(), 1.0, profile=True))


def test_flags_that_the_binary_lists_choose_its_dialect() -> None:
    listed = ("graph", "num_threads", "use_cpu", "use_gpu", "use_npu", "dispatch_library_path", "result_file_path")
    words = TOOL.command(task("qnn"), files(*listed, vendor=True), 1.0)
    assert "--use_npu=true" in words
    assert f"--dispatch_library_path={DELEGATE.rpartition('/')[0]}" in words
    assert not any("external_delegate" in word or "min_secs" in word for word in words)


def test_libraries_are_found_by_the_linker_and_the_dsp() -> None:
    assert environment(files()) == {}
    found = environment(files(libraries=True))
    assert found["LD_LIBRARY_PATH"] == "/data/local/tmp/benchfarm/tools/abc"
    assert found["ADSP_LIBRARY_PATH"].startswith("/data/local/tmp/benchfarm/tools/abc;")


def test_any_damaged_output_is_read() -> None:
    for text in mutated(ALL):
        found = TOOL.read(text, {PROFILE_FILE: text[:2000], RESULT_FILE: text[:200]}, None)
        _is_sane(found)


@given(st.text(max_size=400), st.text(max_size=100), st.sampled_from([None, "cpu", "gpu", "nnapi", "qnn", ""]))
def test_any_text_is_read(text: str, result: str, asked: str | None) -> None:
    _is_sane(TOOL.read(text, {RESULT_FILE: result, PROFILE_FILE: text}, asked))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_as_a_result_file(data: bytes) -> None:
    assert all(value >= 0 for value in read_result_proto(data).values())


@given(
    st.floats(1, 1e6),
    st.integers(1, 10**6),
    st.sampled_from(["", "INFO: ", "11-20 10:15:44.123  338  338 I tflite  : "]),
)
def test_numbers_come_back_as_they_were_printed(median_us: float, runs: int, prefix: str) -> None:
    text = f"{prefix}count=3 curr=9\n{prefix}count={runs} first=9 curr=9 min=1 max=9 avg=9 median={median_us:.6g}\n"
    found = read(text)
    assert (found.runs, found.statistic) == (runs, "median")
    assert found.value_ms == pytest.approx(float(f"{median_us:.6g}") / 1e3)


def test_share_is_never_above_all() -> None:
    assert DelegateProof(asked="gpu", delegated_nodes=9, total_nodes=3).share == 1.0


def _is_sane(found: ToolOutput) -> None:
    assert found.value_ms is None or found.value_ms >= 0
    assert (found.value_ms is None) == (found.statistic is None) == (found.why_not_measured is not None)
    assert found.delegate.share is None or 0 <= found.delegate.share <= 1
    assert all(op.time_us >= 0 for op in found.ops)


def _message(*fields: tuple[int, float | int | bytes]) -> bytes:
    """A protobuf message: floats of 32 bits, whole numbers below 16,384, and nested messages below 128 bytes."""
    out = b""
    for number, value in fields:
        if isinstance(value, bytes):
            out += bytes([number << 3 | 2, len(value)]) + value
        elif isinstance(value, int):
            out += bytes([number << 3, value & 0x7F | (0x80 if value > 127 else 0)])
            out += bytes([value >> 7]) if value > 127 else b""
        else:
            out += bytes([number << 3 | 5]) + struct.pack("<f", value)
    return out
