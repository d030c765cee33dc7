"""Inductor's account of its kernels: which event each is, and what was fused into it."""

from __future__ import annotations

from workers.runtimes.inductor_trace import nodes_of, places_of, with_fused
from workers.runtimes.torch_compile import cache_story, unwrapped
from workers.runtimes.torch_events import Event


def test_kernels_are_found_among_events_in_their_order() -> None:
    kernels = ["cpp_fused_relu_0:1", "torch.ops.mkldnn._linear_pointwise.default:2", "extern_kernels.addmm:3"]
    events = ["aten::empty", "graph_1_cpp_fused_relu_0", "mkldnn::_linear_pointwise", "aten::empty", "aten::addmm"]
    assert places_of(kernels, events) == [1, 2, 4]


def test_an_account_that_does_not_match_the_events_tells_nothing() -> None:
    assert places_of(["cpp_fused_relu_0:1", "cpp_fused_add_1:2"], ["graph_0_cpp_fused_add_1"]) == []


def test_a_call_of_a_library_is_its_last_node_and_a_buffer_written_twice_is_the_last_writers() -> None:
    kernels = {"torch.ops.mkldnn.a.default:1": ["sum"], "cpp_fused_x_0:2": ["b", "a"], "aten.mm:3": ["view", "sum"]}
    assert nodes_of(kernels, ["a", "b", "view", "sum"]) == [[], ["a", "b"], ["sum"]]


def test_a_product_is_in_the_kernel_that_bears_the_name_of_what_follows_it() -> None:
    nodes = [["relu"], ["mean"], ["relu_1"]]
    products = [("conv", ["norm", "relu"]), ("conv_1", ["relu_1"])]
    assert with_fused(nodes, [True, False, True], products, [("norm", "conv")]) == [
        ["conv", "norm", "relu"],
        ["mean"],
        ["conv_1", "relu_1"],
    ]


def test_a_kernel_without_a_name_is_the_one_product_that_is_left() -> None:
    assert with_fused([["add"], []], [True, True], [("conv", ["add"]), ("shortcut", [])], []) == [
        ["conv", "add"],
        ["shortcut"],
    ]


def test_kernels_stay_without_a_name_when_nobody_can_tell() -> None:
    assert with_fused([[], []], [True, True], [("conv", [])], []) == [[], []]


def test_containers_give_way_to_what_they_hold() -> None:
    kernel = Event("aten::mm", 2, 1)
    graph = Event("## Call CompiledFxGraph f00 ##", 1, 3, children=[kernel])
    region = Event("Torch-Compiled Region: 0/0", 0, 5, children=[Event("Pregraph bytecode", 0, 1), graph])
    assert [event.name for event in unwrapped([region])] == ["Pregraph bytecode", "aten::mm"]


def test_the_story_of_the_cache_is_that_of_torchs_counters() -> None:
    assert cache_story({"fxgraph_cache_hit": 1}, 0) == "hit"
    assert cache_story({"fxgraph_cache_miss": 1}, 7) == "miss, 7 libraries built"
    assert cache_story({"fxgraph_cache_bypass": 1}, 0) == "bypassed, 0 libraries built"
