"""Time minicnn against PyTorch and TensorFlow, along growing sizes, and rung by rung from a naive loop upwards."""

from __future__ import annotations

import guard  # noqa: F401  first of all: Ctrl-C during the imports ends in one word

# isort: split
import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import benchmark_against
import benchmark_algorithms
import benchmark_ladder
import benchmark_plots
import benchmark_scaling
import benchmark_tables
import cli
import folder
from benchmark_peers import SIDES
from minicnn.kernels.threads import get_threads, set_threads

HERE = Path(__file__).resolve().parent
PEERS = ("torch", "keras")
EXAMPLES = """examples:
  python experiments/benchmark.py                                   against PyTorch
  python experiments/benchmark.py --against torch,keras --table     against both; into the results and the pages
  python experiments/benchmark.py --scaling --plot scaling.png
  python experiments/benchmark.py --ladder --repeats 3
  python experiments/benchmark.py --algorithms --table
  python experiments/benchmark.py --table                           the pages anew, nothing is measured

Each side runs in a process of its own, and all take turns, so that a machine that is busy for a while slows every one;
what counts are ratios of medians. PyTorch runs eagerly in float32 and channels_last, which is its fastest way here, and
with bf16 autocast as an extra column; TensorFlow, through Keras, as a compiled graph."""


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--against", type=peers, metavar="NAMES",
                      help=f"whom to compare with, of {', '.join(PEERS)}, separated by commas (default: torch)")
    what.add_argument("--scaling", action="store_true",
                      help="time of an image against batch, image size, channels and threads, beside PyTorch's")
    what.add_argument("--ladder", action="store_true", help="one convolution and one step, from a naive loop upwards")
    what.add_argument("--algorithms", action="store_true",
                      help="convolutions by each algorithm, and which of them is chosen")
    parser.add_argument("--repeats", type=cli.positive, default=10, metavar="N", help="turns (default: 10)")
    parser.add_argument("--threads", type=cli.positive, metavar="N", help="for all sides (default: all cores)")
    parser.add_argument("--python", type=interpreter, action="append", default=[], metavar="NAME=FILE",
                        help="the Python that has a library, if it is in an environment of its own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw them there")
    parser.add_argument("--table", action="store_true",
                        help="also write the times to the results, and rewrite the tables of the pages from there")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="DIR", help="folder of the results")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs/speed.md", metavar="FILE",
                        help="the page with the tables")
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md", metavar="FILE",
                        help="the page with the short table")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for, print it, and write what was asked for; return the exit status."""
    options = build_parser().parse_args(argv)
    only_table = options.table and not (options.against or options.scaling or options.ladder or options.algorithms)
    if not only_table:
        result = measure(options)
        print(f"\n{benchmark_tables.report(result)}")
        keep(result, options)
    if options.table:
        kinds = benchmark_tables.rewrite(options.results, options.page, options.readme)
        print(f"Tables written to {options.page} and {options.readme}: {benchmark_tables.names(kinds)}")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the measurement the options name."""
    if options.threads is not None:
        set_threads(options.threads)
    threads = get_threads()
    note_busy_machine()
    if options.ladder:
        return benchmark_ladder.measure(options.repeats)
    if options.algorithms:
        return benchmark_algorithms.measure(options.repeats)
    pythons = dict(options.python)
    if options.scaling:
        return benchmark_scaling.measure(["minicnn", "torch"], threads, options.repeats, pythons)
    names = ["minicnn"]
    for name in options.against or ["torch"]:
        names += [name, "torch-bf16"] if name == "torch" else [name]
    if "torch" in pythons:
        pythons.setdefault("torch-bf16", pythons["torch"])
    return benchmark_against.measure(names, threads, options.repeats, pythons)


def keep(result: dict[str, Any], options: argparse.Namespace) -> None:
    """Write the JSON files and the picture."""
    files = [options.json] if options.json is not None else []
    if options.table:
        files.append(options.results / benchmark_tables.FILES[result["kind"]])
    for path in files:
        folder.save_json(path, result)
        print(f"Written to {path}")
    if options.plot is not None:
        folder.save_figure(benchmark_plots.PLOTS[result["kind"]](result), options.plot)
        print(f"Drawn to {options.plot}")


def note_busy_machine() -> None:
    """Say so if other programs use the cores: programs that share them lose unequally."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows
    if load > 0.5 * (os.cpu_count() or 1):
        print(f"note: this machine is busy (load average {load:.1f}); even the ratios are uncertain", file=sys.stderr)


def peers(text: str) -> list[str]:
    """Read names separated by commas."""
    names = [name.strip() for name in text.split(",")]
    if not names or len(set(names)) < len(names) or not set(names) <= set(PEERS):
        raise argparse.ArgumentTypeError(f"got {text!r}; expected some of {', '.join(PEERS)}, each once, separated by "
                                         "commas")
    return names


def interpreter(text: str) -> tuple[str, str]:
    """Read ``name=file``."""
    name, equals, file = text.partition("=")
    if not equals or name not in SIDES or not Path(file).is_file():
        raise argparse.ArgumentTypeError(f"got {text!r}; expected NAME=FILE with one of {', '.join(SIDES)} and the "
                                         "file of an interpreter")
    return name, file


if __name__ == "__main__":
    sys.exit(main())
