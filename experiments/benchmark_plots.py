"""Pictures of what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from benchmark_algorithms import ALGORITHMS
from benchmark_peers import TITLES
from benchmark_tables import AXES, milliseconds
from benchmark_workloads import WORK

COLOURS = {"minicnn": "#c8102e", "torch": "#30638e", "torch-bf16": "#8fb8de", "keras": "#d98324"}
LINES = {"train": "-", "infer": "--"}
LEGENDS = {"train": "training", "infer": "inference"}


def against(result: Mapping[str, Any]) -> Figure:
    """Return bars: how many times as long as minicnn the others take, workload by workload."""
    labels = [f"{row['title']}\n{WORK[row['work']]}, {row['batch_size']:,} image{'s' * (row['batch_size'] > 1)}"
              for row in result["workloads"]]
    factors = {name: [row["medians"][name] / row["medians"]["minicnn"] for row in result["workloads"]]
               for name in result["sides"] if name != "minicnn"}
    return _factors(_title("Time of others over minicnn's", result), labels,
                    {TITLES[name]: (COLOURS[name], each) for name, each in factors.items()},
                    "time, as a multiple of minicnn's (right of the red line: minicnn is faster)")


def algorithms(result: Mapping[str, Any]) -> Figure:
    """Return bars: how many times as long as the algorithm that is chosen each of them takes."""
    labels = [f"{row['title']}: {row['auto']}" for row in result["rows"]]
    factors = {name: [row["medians"][name] / row["medians"][row["auto"]] if name in row["medians"] else math.nan
                      for row in result["rows"]] for name in ALGORITHMS}
    colours = (COLOURS[side] for side in ("torch", "torch-bf16", "keras"))
    return _factors(_title("Time by each algorithm over that of auto's choice", result), labels,
                    {name: (colour, factors[name]) for name, colour in zip(ALGORITHMS, colours)},
                    "forward and backward, as a multiple of the algorithm chosen\n(left of the red line: faster)",
                    inches=0.1)


def scaling(result: Mapping[str, Any]) -> Figure:
    """Return curves: microseconds an image along each axis, training and inference."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    for axes, (axis, label) in zip(figure.subplots(2, 2).flat, AXES.items()):
        points = [point for point in result["points"] if point["axis"] == axis]
        values = [point["value"] for point in points]
        for work, line in LINES.items():
            measured = [point for point in points if work in point["per_image"]]
            places = [point["value"] for point in measured]
            for name in result["sides"]:
                axes.plot(places, [1000 * point["per_image"][work][name] for point in measured], line, marker="o",
                          markersize=4, color=COLOURS[name], label=f"{TITLES[name]}, {LEGENDS[work]}")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(values, [f"{value:,}" for value in values])
        axes.minorticks_off()
        _plain_numbers(axes.yaxis)
        batches = {point["batch_size"] for point in points}
        axes.set_xlabel(label if len(batches) > 1 else f"{label} (batches of {batches.pop()})")
        axes.set_ylabel("microseconds an image")
        _tidy(axes)
    handles, names = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=9)
    where = result["machine"]
    figure.suptitle(f"cnn: time of an image ({where['processor']}, up to {where['threads']} threads, float32)", x=0.01,
                    ha="left")
    return figure


def ladder(result: Mapping[str, Any]) -> Figure:
    """Return bars: the times of all rungs."""
    found = result["convolution"]["rungs"], result["step"]["rungs"]
    figure = Figure(figsize=(10, 8), layout="constrained")
    works = (("forward", "backward"), ("train", "infer"))
    (N, H, W, C), (KH, KW, _, F) = result["convolution"]["shape"], result["convolution"]["kernel"]
    titles = (f"convolution {KH}x{KW}, {C} to {F} channels, {H}x{W} pixels, {N} images",
              f"{result['step']['network']}, {result['step']['batch_size']} images")
    heights = [len(rungs) for rungs in found]
    for axes, rungs, pair, title in zip(figure.subplots(2, 1, height_ratios=heights).flat, found, works, titles):
        for k, (work, colour) in enumerate(zip(pair, (COLOURS["minicnn"], COLOURS["torch"]))):
            times = [rung[work]["median"] for rung in rungs]
            bars = axes.barh([row + 0.4 * k - 0.2 for row in range(len(rungs))], times, 0.37, color=colour,
                             label=WORK.get(work, work))
            axes.bar_label(bars, [milliseconds(each) for each in times], padding=3, fontsize=8)
        axes.set_yticks(range(len(rungs)), [rung["title"] for rung in rungs], fontsize=9)
        axes.invert_yaxis()
        axes.set_xscale("log")
        _plain_numbers(axes.xaxis)
        axes.margins(x=0.15)
        axes.set_xlabel("milliseconds")
        axes.set_title(title, loc="left", fontsize=10)
        axes.legend()
        _tidy(axes)
    figure.suptitle(_title("From the naive loop to the fused plan", result), x=0.01, ha="left")
    return figure


def _factors(title: str, labels: Sequence[str], sides: Mapping[str, tuple[str, Sequence[float]]], what: str,
             inches: float = 0.18) -> Figure:
    """Return bars from 1 on, of some inches: of each side its colour and a factor for each label; NaN is no bar."""
    figure = Figure(figsize=(9, 1.6 + inches * len(labels) * (len(sides) + 1)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(sides)
    for k, (name, (colour, factors)) in enumerate(sides.items()):
        places = [row + (k - (len(sides) - 1) / 2) * height for row in range(len(labels))]
        bars = axes.barh(places, [factor - 1 for factor in factors], height * 0.92, left=1, color=colour, label=name)
        axes.bar_label(bars, ["" if math.isnan(factor) else f"{factor:.2f}" for factor in factors], padding=3,
                       fontsize=7)
    axes.set_yticks(range(len(labels)), [label.replace("`", "") for label in labels], fontsize=8)
    axes.axvline(1, color=COLOURS["minicnn"], linewidth=1)
    axes.set_xscale("log")
    _plain_numbers(axes.xaxis)
    axes.margins(x=0.12)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel(what)
    figure.suptitle(title, x=0.01, ha="left")
    figure.legend(loc="outside lower center", ncols=len(sides), fontsize=8)
    _tidy(axes)
    return figure


def _title(what: str, result: Mapping[str, Any]) -> str:
    where = result["machine"]
    return f"{what} ({where['processor']}, {where['threads']} threads, float32)"


def _plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis by 1, 2, 5, 10, ... in place of powers."""
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:,g}"))


def _tidy(axes: Any) -> None:
    axes.grid(axis="both", alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


PLOTS = {"against": against, "scaling": scaling, "ladder": ladder, "algorithms": algorithms}
