"""The least that can time a LiteRT artifact: `python bare_loop.py FOLDER` prints the median in milliseconds.

overhead.py compares the runner with it: same order, same length, none of benchfarm's code.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.hardware_accelerator import HardwareAccelerator
from ai_edge_litert.options import CpuOptions, Options

_WARM_UP_S = 0.5


def main(folder: Path) -> None:
    """Load, warm up, time."""
    order = json.loads((folder / "order.json").read_bytes())
    wanted = order["measure"]["options"]
    cpu = CpuOptions(num_threads=wanted["threads"])
    options = Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
    model = CompiledModel.from_file(order["paths"]["artifact"], options=options)
    ins, outs = model.create_input_buffers(0), model.create_output_buffers(0)
    details = model.get_input_tensor_details(next(iter(model.get_signature_list())))
    for buffer, detail in zip(ins, details.values(), strict=True):
        buffer.write(np.random.default_rng(0).standard_normal(detail["shape"]).astype(detail["dtype"]))
    _times_ms(lambda: model.run_by_index(0, ins, outs), _WARM_UP_S)
    times_ms = _times_ms(lambda: model.run_by_index(0, ins, outs), wanted["min_seconds"])
    print(statistics.median(times_ms))


def _times_ms(run: object, seconds: float) -> list[float]:
    assert callable(run)
    times: list[float] = []
    until = time.perf_counter() + seconds
    while (start := time.perf_counter()) < until:
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return times


if __name__ == "__main__":
    main(Path(sys.argv[1]))
