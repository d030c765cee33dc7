"""Does the command line start fast? Interleaved with the bare imports that no such command can do without.

`benchfarm --help` and `benchfarm devices list` (second call, data directory there) take at most 1.5 times as long as
`python -c "import typer, rich, sqlmodel"`, and import no ML package, no Ray and no scipy.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Figure, arguments, at_most, counted, finish, ratio_interval, say
from farm import command, own_environment

BAR = 1.5
BASELINE = [sys.executable, "-c", "import typer, rich, sqlmodel"]
COMMANDS = {"--help": ["--help"], "devices list": ["devices", "list"]}
#: None of these belongs into the command line's own process before there is work.
HEAVY = (
    *("ray", "scipy", "torch", "torchvision", "torchao", "onnx", "onnxruntime", "onnxscript", "tensorflow", "keras"),
    *("ai_edge_litert", "ai_edge_quantizer", "litert_torch", "coremltools", "executorch", "openvino", "transformers"),
    *("tensorrt", "jax", "pandas", "pyarrow"),
)
#: Runs the command in this process and prints, last, which modules stand.
_WRAPPER = """
import json, sys
sys.argv = ["benchfarm", *sys.argv[1:]]
from benchfarm.__main__ import main
try:
    main()
except SystemExit:
    pass
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def main() -> int:
    """Alternate, compare, and look at what was imported."""
    wanted = arguments(__doc__, alternations=25)
    with tempfile.TemporaryDirectory(prefix="benchfarm-bench-") as folder:
        home = Path(folder)
        commands = {
            "baseline": BASELINE,
            **{name: [command("benchfarm"), *words] for name, words in COMMANDS.items()},
        }
        say("first calls: bytecode, data directory")
        first_ms = {name: _milliseconds(words, home) for name, words in commands.items()}
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for index in range(wanted.alternations):
            say(f"start: {index + 1} of {wanted.alternations}")
            order = list(commands) if index % 2 == 0 else list(commands)[::-1]
            for name in order:
                taken[name].append(_milliseconds(commands[name], home))
        figures: list[Figure] = []
        for name, words in COMMANDS.items():
            ratio = statistics.median(taken[name]) / statistics.median(taken["baseline"])
            interval = ratio_interval(taken[name], taken["baseline"])
            figures.append(at_most(f"benchfarm {name} / bare imports", ratio, interval, BAR, "ratio"))
            heavy = _heavy(words, home)
            figures.append(counted(f"heavy packages after {name}", len(heavy), 0, "packages", packages=heavy))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return finish("startup", wanted.quick, figures, median_ms=medians, first_ms=first_ms, all_ms=taken)


def _milliseconds(words: list[str], home: Path) -> float:
    began = time.perf_counter()
    subprocess.run(words, stdout=subprocess.DEVNULL, env=own_environment(home), cwd=home, check=True)
    return (time.perf_counter() - began) * 1e3


def _heavy(words: list[str], home: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", _WRAPPER, *words],
        stdout=subprocess.PIPE,
        text=True,
        env=own_environment(home),
        cwd=home,
        check=True,
    )
    return sorted(set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY))


if __name__ == "__main__":
    sys.exit(main())
