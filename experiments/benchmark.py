"""Time a training step and inference of the `cnn` recipe against PyTorch: the same network, one process, by turns."""

from __future__ import annotations

import guard  # noqa: F401  first of all: Ctrl-C during the imports ends in one word

# isort: split
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import cli
import folder
import machine
import recipes
from minicnn.errors import ArgumentError
from minicnn.kernels.threads import get_threads, set_threads
from minicnn.models import Sequential
from runs import LOSS

EXAMPLES = """examples:
  python experiments/benchmark.py
  python experiments/benchmark.py --threads 2 --repeats 20 --json experiments/results/benchmark.json

The two take turns within every repeat, so that a machine that is busy for a while slows both; what counts is the
ratio of the medians. PyTorch runs eagerly, in float32 and channels_last, which is its fastest way here."""
STEPS = 5  # timed in a row, after one that is not: the caches then hold the one's own data
POOLED = (7, 7, 64)  # what the last pooling gives for a 28x28 image

Work = Callable[[], Any]


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    parser.add_argument("--batch-size", type=cli.positive, default=128, metavar="N", help="images (default: 128)")
    parser.add_argument("--repeats", type=cli.positive, default=10, metavar="N",
                        help=f"turns of {STEPS} steps (default: 10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times there")
    cli.add_machine_options(parser)
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Time, print a table, and write the JSON if asked; return the exit status."""
    options = build_parser().parse_args(argv)
    if importlib.util.find_spec("torch") is None:
        raise ArgumentError("benchmark.py compares with PyTorch, which is not installed. "
                            'Install it: python -m pip install -e ".[compare]"')
    cli.apply_machine_options(options)
    set_threads(get_threads())
    note_busy_machine()
    x, y = batch(options.batch_size)
    print(f"cnn, batches of {options.batch_size}, float32, {get_threads()} threads; compiling ...", flush=True)
    ours = recipes.cnn(x.shape[1:], 10, seed=0)
    ours.compile(optimizer="adam", loss=LOSS, metrics=["accuracy"])
    theirs = Torch(ours, x, y)
    difference = theirs.difference(ours.predict(x, verbose=0))
    workloads: dict[str, tuple[Work, Work]] = {
        "training step": (lambda: ours.train_on_batch(x, y), theirs.step),
        "inference": (lambda: ours.predict(x, batch_size=len(x), verbose=0), theirs.infer),
    }
    result = {
        "workload": "cnn", "batch_size": options.batch_size, "largest_output_difference": difference,
        "torch_threads": theirs.threads(), "machine": machine.machine(), "versions": machine.versions("torch"),
        "milliseconds": {name: by_turns(*pair, options.repeats) for name, pair in workloads.items()},
    }
    print(report(result))
    if options.json is not None:
        folder.save_json(options.json, result)
        print(f"Written to {options.json}")
    return 0


def note_busy_machine() -> None:
    """Say so if other programs use the cores: two programs that share them lose unequally."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # not on Windows
    if load > 0.5 * (os.cpu_count() or 1):
        print(f"note: this machine is busy (load average {load:.1f}); even the ratios are uncertain", file=sys.stderr)


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images (N, 28, 28, 1) and labels (N,); the time does not depend on what is in them."""
    rng = np.random.default_rng(0)
    return rng.random((size, 28, 28, 1), dtype=np.float32), rng.integers(0, 10, size)


def by_turns(ours: Work, theirs: Work, repeats: int) -> dict[str, list[float]]:
    """Time both, one after the other and in changing order; return every time in milliseconds."""
    times: dict[str, list[float]] = {"minicnn": [], "torch": []}
    for turn in range(repeats):
        pairs = [("minicnn", ours), ("torch", theirs)]
        for name, work in pairs if turn % 2 == 0 else reversed(pairs):
            work()
            for _ in range(STEPS):
                begin = time.perf_counter()
                work()
                times[name].append(round(1000 * (time.perf_counter() - begin), 3))
    return times


def report(result: dict[str, Any]) -> str:
    """Return the medians as a table, and add them to the result."""
    lines = [f"{'':<15}{'minicnn':>12}{'PyTorch':>12}{'minicnn / PyTorch':>20}{'images/s':>12}"]
    result["medians"] = {}
    for name, times in result["milliseconds"].items():
        ours, theirs = (statistics.median(times[who]) for who in ("minicnn", "torch"))
        result["medians"][name] = {"minicnn": ours, "torch": theirs, "time_ratio": ours / theirs}
        lines.append(f"{name:<15}{ours:>9.1f} ms{theirs:>9.1f} ms{ours / theirs:>20.2f}"
                     f"{1000 * result['batch_size'] / ours:>12,.0f}")
    count = len(next(iter(result["milliseconds"].values()))["torch"])
    versions = result["versions"]
    lines.append(f"Medians of {count}. Both predict the same before the first step (largest difference "
                 f"{result['largest_output_difference']:.0e}).\n{result['machine']['processor']}; PyTorch "
                 f"{versions['torch']} on {result['torch_threads']} threads, NumPy {versions['numpy']}, Numba "
                 f"{versions['numba']}")
    return "\n".join(lines)


class Torch:
    """The `cnn` recipe in PyTorch, with the weights of ours.

    Parameters
    ----------
    ours : Sequential
        Built; its weights are copied.
    x, y : ndarray
        The batch: images (N, H, W, 1) and labels (N,).
    """

    def __init__(self, ours: Sequential, x: np.ndarray, y: np.ndarray) -> None:
        import torch

        torch.set_num_threads(get_threads())
        torch.manual_seed(0)
        self.torch, self.model = torch, network(torch)
        copy_weights(torch, ours, self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3, eps=1e-7)
        self.x = torch.from_numpy(x.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)
        self.y = torch.from_numpy(y)
        count = sum(p.numel() for p in self.model.parameters())
        if count != recipes.RECIPES["cnn"].parameters:
            raise ArgumentError(f"PyTorch's network has {count:,} parameters, the recipe "
                                f"{recipes.RECIPES['cnn'].parameters:,}; bring network() up to date.")

    def threads(self) -> int:
        """Return the threads PyTorch really uses."""
        return int(self.torch.get_num_threads())

    def difference(self, probabilities: np.ndarray) -> float:
        """Return the largest difference between its probabilities and ours."""
        theirs = self.torch.softmax(self.infer(), dim=1).numpy()
        return float(np.abs(theirs - probabilities).max())

    def step(self) -> float:
        """Do one training step and return the loss."""
        self.model.train()
        self.optimizer.zero_grad()
        loss = self.torch.nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def infer(self) -> Any:
        """Return the logits."""
        self.model.eval()
        with self.torch.inference_mode():
            return self.model(self.x)


def network(torch: Any) -> Any:
    """Return the `cnn` recipe for 28x28 images as a PyTorch module, batch normalization as Keras has it."""
    nn = torch.nn
    norm = {"momentum": 0.01, "eps": 1e-3}  # PyTorch's momentum is one minus Keras'

    def block(channels: int, filters: int, kernel: int) -> list[Any]:
        layers = []
        for c in (channels, filters):
            layers += [nn.Conv2d(c, filters, kernel, padding=kernel // 2), nn.ReLU(), nn.BatchNorm2d(filters, **norm)]
        return [*layers, nn.MaxPool2d(2), nn.Dropout(0.25)]

    return nn.Sequential(
        *block(1, 32, 5), *block(32, 64, 3), nn.Flatten(), nn.Linear(POOLED[0] * POOLED[1] * POOLED[2], 256), nn.ReLU(),
        nn.BatchNorm1d(256, **norm), nn.Dropout(0.5), nn.Linear(256, 10),
    ).to(memory_format=torch.channels_last)


def copy_weights(torch: Any, ours: Sequential, theirs: Any) -> None:
    """Give PyTorch's convolutions and dense layers our kernels and biases; the rest starts equal anyway."""
    sources = [layer for layer in ours.layers if "kernel" in layer.params]
    targets = [module for module in theirs if hasattr(module, "weight") and module.weight.ndim in (2, 4)]
    for source, target in zip(sources, targets):
        kernel = source.params["kernel"]
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)  # (KH, KW, C, F) -> (F, C, KH, KW)
        elif len(kernel) == np.prod(POOLED):  # after Flatten, PyTorch's features are channels-first
            kernel = kernel.reshape(*POOLED, -1).transpose(3, 2, 0, 1).reshape(kernel.shape[1], -1)
        else:
            kernel = kernel.T
        with torch.no_grad():
            target.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            target.bias.copy_(torch.from_numpy(source.params["bias"]))


if __name__ == "__main__":
    sys.exit(main())
