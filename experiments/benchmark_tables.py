"""What was measured as tables, for the screen and for the pages: docs/speed.md and the README."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import folder
from benchmark_algorithms import ALGORITHMS
from benchmark_peers import TITLES
from benchmark_scaling import growth
from benchmark_workloads import WORK
from minicnn import strict_json
from minicnn.errors import ArgumentError, FileFormatError
from tables import Place, markdown, plain

Table = tuple[list[str], list[list[str]]]  # head and rows
Result = Mapping[str, Any]
FILES = {"against": "benchmark.json", "scaling": "scaling.json", "ladder": "ladder.json",
         "algorithms": "algorithms.json"}
MEASURED: dict[str, Any] = {"kind": str, strict_json.OTHERS: None}
COMMANDS = {"against": "--against torch,keras", "scaling": "--scaling", "ladder": "--ladder",
            "algorithms": "--algorithms"}
AXES = {"batch": "images in a batch", "image": "pixels a side", "channels": "filters of the first block",
        "threads": "threads"}


def against(result: Result) -> Table:
    """Return all workloads: ours, and beside it the others with how many times as long they take."""
    names = [name for name in result["sides"] if name != "minicnn"]
    rows = []
    for row in result["workloads"]:
        ours = row["medians"]["minicnn"]
        rows.append([row["title"], WORK[row["work"]], f"{row['batch_size']:,}", milliseconds(ours),
                     *(f"{milliseconds(row['medians'][name])}, {row['medians'][name] / ours:.2f}x" for name in names)])
    return ["network", "what", "images", "minicnn", *(TITLES[name] for name in names)], rows


def short(result: Result) -> Table:
    """Return the lines of `cnn` alone."""
    rows = [row for row in result["workloads"] if row["network"] == "cnn"]
    return against({**result, "workloads": rows})


def processes(result: Result) -> Table:
    """Return the first step of a new process and the peak of its memory."""
    first, memory = result["first_step"]["medians"], result["peak_memory"]["megabytes"]
    rows = []
    for name in memory:
        cold = f"{first[f'{name}, cold']:.1f} s" if f"{name}, cold" in first else "-"
        rows.append([TITLES[name], cold, f"{first[name]:.1f} s", f"{memory[name]:,.0f} MB"])
    return ["process", "first step, nothing compiled", "first step", "peak memory"], rows


def ladder(result: Result) -> Table:
    """Return the rungs of one convolution."""
    found = result["convolution"]
    rows = []
    for rung in found["rungs"]:
        row = [rung["title"]]
        for work, errors in (("forward", ("out",)), ("backward", ("dx", "dw"))):
            speed = found["operations"][work] / rung[work]["median"] / 1e6
            row += [milliseconds(rung[work]["median"]), f"{speed:,.0f}", *(f"{rung['error'][e]:.0e}" for e in errors)]
        rows.append(row)
    return ["rung", "forward", "GFLOP/s", "error", "backward", "GFLOP/s", "error of dx", "error of dw"], rows


def steps(result: Result) -> Table:
    """Return the rungs of the whole network."""
    rows = [[rung["title"], milliseconds(rung["train"]["median"]), milliseconds(rung["infer"]["median"]),
             f"{rung['error']:.0e}"] for rung in result["step"]["rungs"]]
    return ["rung", "training step", "inference", "error of the outputs"], rows


def algorithms(result: Result) -> Table:
    """Return the time by each algorithm, and how many times that of the one ``auto`` takes it is."""
    rows = []
    for row in result["rows"]:
        chosen = row["medians"][row["auto"]]
        cells = {name: milliseconds(each) + ("" if name == row["auto"] else f", {each / chosen:.2f}x")
                 for name, each in row["medians"].items()}
        rows.append([row["title"], "-" if row["saved"] is None else f"{row['saved']:.2f}",
                     *(cells.get(name, "-") for name in ALGORITHMS), row["auto"]])
    return ["convolution", "multiplications saved", *ALGORITHMS, "auto takes"], rows


def scaling(result: Result) -> Table:
    """Return microseconds per image along all axes, and how many times as long others take."""
    names = [name for name in result["sides"] if name != "minicnn"]
    rows = []
    for point in result["points"]:
        row = [AXES[point["axis"]], f"{point['value']:,}", f"{point['batch_size']:,}"]
        for work in ("train", "infer"):
            if work not in point["per_image"]:
                row += ["-"] * (1 + len(names))
                continue
            each = point["per_image"][work]
            ours = each["minicnn"]
            row += [f"{1000 * ours:,.0f}", *(f"{1000 * each[name]:,.0f}, {each[name] / ours:.2f}x" for name in names)]
        rows.append(row)
    head = [f"{title}, {TITLES[name]}" for title in ("training", "inference") for name in ("minicnn", *names)]
    return ["what grows", "to", "images", *head], rows


def growths(result: Result) -> Table:
    """Return by which factor the time of an image grows."""
    names = list(result["sides"])
    rows = [[title, WORK[work], *(f"{factors[name]:.2f}" for name in names)] for title, work, factors in growth(result)]
    return ["time of an image", "what", *(TITLES[name] for name in names)], rows


def milliseconds(value: float) -> str:
    """Return a time with three digits."""
    return f"{value:,.0f} ms" if value >= 99.95 else f"{value:.1f} ms" if value >= 9.995 else f"{value:.2f} ms"


def calls(result: Result) -> str:
    """Say how often a workload was timed."""
    return f"Medians of {_counted(result['repeats'], 'turn')}."


def starts(result: Result) -> str:
    """Say how often processes were started."""
    count = min(map(len, result["first_step"]["seconds"].values()))
    return f"Times are medians of {_counted(count, 'process', 'es')}, memory is that of one."


def climbs(result: Result) -> str:
    """Say how often a rung was timed; loops take seconds."""
    titles: dict[int, list[str]] = {}
    for rung in result["convolution"]["rungs"]:
        titles.setdefault(len(rung["forward"]["milliseconds"]), []).append(f"“{rung['title']}”")
    most, *fewer = sorted(titles, reverse=True)
    return f"Medians of {_counted(most, 'call')}" + "".join(
        f", of {count} for {' and '.join(titles[count])}" for count in fewer) + "."


def _counted(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{plural if number != 1 else ''}"


def circumstances(result: Result, how: Callable[[Result], str] = calls, sides: Sequence[str] | None = None) -> str:
    """Say in a sentence or two where and how it was measured; of ``sides``, or all."""
    versions, where = result["versions"], result["machine"]
    text = (f"{where['processor']}, {where['threads']} threads, float32; minicnn {versions['minicnn']} with NumPy "
            f"{versions['numpy']} and Numba {versions['numba']}")
    for name, about in result.get("sides", {}).items():
        if name != "minicnn" and (sides is None or name in sides):
            packages = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
            text += f"; {TITLES[name]} ({packages}; {about['settings']})"
    text += f". {how(result)}"
    for name, reason in result.get("missing", {}).items():
        text += f" {TITLES[name]} was not there: {reason}."
    return text


TABLES: dict[str, dict[str, Callable[[Result], Table]]] = {
    "against": {"against": against, "processes": processes}, "scaling": {"growth": growths, "scaling": scaling},
    "ladder": {"ladder": ladder, "steps": steps}, "algorithms": {"algorithms": algorithms}}


def report(result: Result) -> str:
    """Return all tables of a measurement for the screen."""
    return "\n\n".join(f"{plain(*table(result))}\n\n{caption(name, result)}"
                       for name, table in TABLES[result["kind"]].items())


def caption(name: str, result: Result) -> str:
    """Return what stands below a table."""
    if name == "processes":
        return circumstances(result, starts, list(result["peak_memory"]["megabytes"]))
    return circumstances(result, climbs if name == "ladder" else calls)


def rewrite(results: Path, page: Path, readme: Path) -> list[str]:
    """Write all tables between their markers; return the kinds that were measured.

    Parameters
    ----------
    results : Path
        The folder of FILES. A table without its file is a line that says how to measure it.
    page, readme : Path
        docs/speed.md, and the README with the short table.

    Raises
    ------
    ArgumentError
        If a marker or the folder is missing; no page is changed then.
    FileFormatError
        If a file is damaged; no page is changed then.
    """
    wanted = [(kind, page, name, table) for kind, tables in TABLES.items() for name, table in tables.items()]
    wanted.append(("against", readme, "speed", short))
    if not results.is_dir():
        raise ArgumentError(f"there is no folder {results}; expected that of the results. Correct --results.")
    found = {kind: folder.read_json(results / name, MEASURED) for kind, name in FILES.items()
             if (results / name).exists()}
    texts = [_text(results, kind, name, table, found) for kind, _, name, table in wanted]
    for place, text in zip([Place(where, name) for _, where, name, _ in wanted], texts):
        place.put(text)
    return list(found)


def _text(results: Path, kind: str, name: str, table: Callable[[Result], Table], found: Mapping[str, Result]) -> str:
    if kind not in found:
        return f"*Not measured yet: `python experiments/benchmark.py {COMMANDS[kind]} --table`*"
    try:
        return f"{markdown(*table(found[kind]))}\n\n{caption(name, found[kind])}"
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise FileFormatError(f"{results / FILES[kind]} is no measurement this script wrote: {error!r}; expected one. "
                              "Measure anew.") from None


def names(kinds: Sequence[str]) -> str:
    """Return kinds of measurements as words of a sentence."""
    return ", ".join(kinds) or "nothing; no file was there"
