"""Measure how well a recipe reads digits: several seeds, one JSON file, and the README's table of results."""

from __future__ import annotations

import argparse
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cli
import digits
import folder
import recipes
import runs
import tables
from minicnn import strict_json
from minicnn.errors import ArgumentError, StateError
from minicnn.files import make_folder
from minicnn.layers.conv2d import ALGORITHMS, Conv2D
from minicnn.statistics import wilson_interval

HERE = Path(__file__).resolve().parent
BEGIN, END = tables.markers("results")
# Shared by a file's seeds; some files are older than two of them.
SAME = ("recipe", "full", "parameters", "batch_size", "epochs_planned", "training", "data", "algorithm", "fuse")
USUAL: dict[str, Any] = {"algorithm": "auto", "fuse": True}
ALL = "all"
OTHERS: dict[str, Any] = {strict_json.OTHERS: None}
# What of a file the table reads, and what of its seeds is read when others join them.
FILE = {"command": str, "recipe": str, "trained_on": str, "tested_on": str, "parameters": int, "epochs": int,
        "seconds_per_epoch": float, "accuracy_mean": float, "accuracy_deviation": (float, type(None)),
        "interval_95": [float],
        "seeds": [{"seed": int, "accuracy": float, "total": int, "epochs": int, "recipe": str, "parameters": int,
                   "test_data": str, "seconds_per_epoch": [float], "data": {"name": str} | OTHERS} | OTHERS]} | OTHERS
EXAMPLES = f"""recipes:
{recipes.table()}

examples:
  python experiments/accuracy.py all --full --keep runs                       every recipe, three seeds each
  python experiments/accuracy.py cnn --epochs 5 --seeds 0 1 2
  python experiments/accuracy.py cnn --epochs 5 --data strokes --test mnist   trained on strokes, judged on MNIST
  python experiments/accuracy.py cnn --epochs 5 --algorithm im2col --no-fuse  by matrix products, layer by layer
  python experiments/accuracy.py --table                                      rewrite the README's table only

A seed that is in the file already is not trained again; stop and start as you like."""


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    parser.add_argument("recipe", nargs="*", help=f"what to measure, one after the other; {ALL!r} means every recipe")
    parser.add_argument("--seeds", type=cli.seed, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    cli.add_run_options(parser)
    parser.add_argument("--test", metavar="mnist|strokes|DIR", help="judge on the test images of another data set")
    parser.add_argument("--algorithm", choices=ALGORITHMS, help="how convolutions are computed (default: auto)")
    parser.add_argument("--no-fuse", action="store_true", default=None, help="compute layer by layer")
    cli.add_machine_options(parser)
    parser.add_argument("--keep", type=Path, metavar="DIR",
                        help="keep every run in a folder of its own in DIR, as train.py does, for report.py")
    parser.add_argument("--force", action="store_true", help="forget what the file holds and train every seed")
    parser.add_argument("--table", action="store_true", help="rewrite the table in the README from all files")
    parser.add_argument("--results", type=Path, default=HERE / "results", metavar="DIR", help="folder of the files")
    parser.add_argument("--readme", type=Path, default=HERE.parent / "README.md", metavar="FILE",
                        help="where the table is")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Train and judge the seeds that are missing; return the exit status."""
    options = build_parser().parse_args(argv)
    if not options.recipe and not options.table:
        raise ArgumentError("name a recipe to measure, or --table. Try --help: it says what is expected.")
    cli.apply_machine_options(options)
    for recipe in [recipes.find(name) for name in (recipes.RECIPES if options.recipe == [ALL] else options.recipe)]:
        measure(recipe, options)
    if options.table:
        rewrite_table(options.readme, options.results)
    return 0


def measure(recipe: recipes.Recipe, options: argparse.Namespace) -> None:
    """Run every seed and write the file after each."""
    data = runs.images(options, recipe, allow_fallback=False)
    same = options.test in (None, options.data or recipe.data)
    judge = data if same else digits.load(options.test, allow_fallback=False)
    command = cli.command_line("accuracy", recipe.name, options, ("epochs", "data", "test", "limit", "batch_size",
                                                                      "algorithm", "no_fuse"))
    way = {"algorithm": options.algorithm or USUAL["algorithm"], "fuse": not options.no_fuse}
    refuse_another_algorithm(runs.planned(options, recipe, data, options.seeds[0], **way))
    name = "-".join([recipe.name, *(["full"] if options.full and recipe.full is not None else []), *unusual(way)])
    epochs = options.epochs or recipe.trained(options.full).epochs
    make_folder(options.results)
    path = options.results / file_name(name, epochs, options.limit, data.name, judge.name)
    old = [] if options.force or not path.exists() else folder.read_json(path, FILE)["seeds"]
    results = {result["seed"]: result for result in old}
    for seed in options.seeds:
        if seed in results:
            print(f"seed {seed}: {100 * results[seed]['accuracy']:.2f} %, from {path}")
            continue
        run = runs.planned(options, recipe, data, seed, **way)
        refuse_another(run, next(iter(results.values()), None))
        if options.keep is not None:
            run.place = folder.first_free(options.keep, f"{name}-seed-{seed}")
        score = run_seed(run, judge)
        results[seed] = run.record() | score.record()
        folder.save_json(path, summary(command, list(results.values())))  # before a picture can fail
        if run.place is not None and judge is data:
            folder.save_result(run.place, run, score, f"{command} --seeds {seed}")
    print(f"\n{sentence(summary('', list(results.values())))}\nWritten to {path}")


def refuse_another_algorithm(run: runs.Run) -> None:
    """Refuse an algorithm for convolutions where there are none: it would be the usual measurement by another name.

    Raises
    ------
    ArgumentError
    """
    if run.algorithm != USUAL["algorithm"] and not any(isinstance(layer, Conv2D) for layer in run.model.layers):
        raise ArgumentError(f"{run.recipe.name} has no convolution that --algorithm {run.algorithm} could compute; "
                            "expected a recipe with one. Leave the option out.")


def refuse_another(run: runs.Run, sibling: dict[str, Any] | None) -> None:
    """Refuse a run that differs from one already measured in more than the seed.

    Raises
    ------
    StateError
    """
    record = run.record()
    different = [] if sibling is None else [key for key in SAME if record[key] != sibling.get(key, USUAL.get(key))]
    if different:
        raise StateError(f"the seeds already measured differ from this run in {', '.join(different)}; their mean would "
                         "mean nothing. --force measures all of them anew.")


def run_seed(run: runs.Run, judge: digits.Digits) -> runs.Score:
    """Train one seed, keep what it learned if it has a place, and judge it."""
    runs.announce(run)
    run.train()
    if run.interrupted:
        raise KeyboardInterrupt  # seeds that ended are in the file
    if run.place is not None:
        folder.save_training(run.place, run)
    score = run.score(judge)
    print(f"seed {run.seed}: {score.sentence()}", flush=True)
    if score.remembered and judge is not run.digits:
        print(f"Beware: {score.remembered:,} of these images are among the training images of {run.digits.name}.")
    return score


def file_name(recipe: str, epochs: int, limit: int | None, data: str, test: str) -> str:
    """Name a file after what was measured, so that no two measurements share one."""
    parts = ["accuracy", recipe, f"{epochs}-epochs"]
    parts += [f"first-{limit}"] if limit is not None else []
    parts += [data.lower()] if data == test != "MNIST" else [] if data == test else [f"{data}-to-{test}".lower()]
    return re.sub(r"[^\w.-]+", "-", "-".join(parts)) + ".json"


def unusual(way: Mapping[str, Any]) -> list[str]:
    """Return in words how a run, or a file, was computed where that is not the usual way."""
    algorithm, fused = (way.get(key, usual) for key, usual in USUAL.items())
    return [algorithm] * (algorithm != USUAL["algorithm"]) + ["unfused"] * (not fused)


def summary(text: str, results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the file holds: mean, deviation and interval, then every seed."""
    accuracies, total = [result["accuracy"] for result in results], results[0]["total"]
    mean = statistics.mean(accuracies)
    seconds = [second for result in results for second in result["seconds_per_epoch"]]
    return {
        "command": text, "recipe": results[0]["recipe"], "full": results[0].get("full", False),
        **{key: results[0].get(key, usual) for key, usual in USUAL.items()},
        "trained_on": results[0]["data"]["name"],
        "tested_on": results[0]["test_data"], "parameters": results[0]["parameters"],
        "epochs": results[0]["epochs"], "seconds_per_epoch": round(statistics.median(seconds), 1),
        "accuracy_mean": mean,
        "accuracy_deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        # Seeds share their test images, so the interval is that of one network of the mean accuracy.
        "interval_95": list(wilson_interval(round(mean * total), total)),
        "seeds": results,
    }


def sentence(file: dict[str, Any]) -> str:
    """Say the summary in one line."""
    low, high = file["interval_95"]
    count = len(file["seeds"])
    return (f"{file['recipe']}, trained on {file['trained_on']}, on {file['tested_on']} test images: "
            f"{_accuracy(file)} % ({count} seed{'s' * (count != 1)}), "
            f"95 % interval {100 * low:.2f} to {100 * high:.2f} %")


def rewrite_table(readme: Path, results: Path) -> None:
    """Write the table of all files between the two markers.

    Raises
    ------
    ArgumentError
        If a marker is missing, or there is no file.
    FileFormatError
        If one is damaged.
    """
    paths = sorted(results.glob("accuracy-*.json"))
    if not paths:
        raise ArgumentError(f"there is no accuracy-*.json in {results}; expected one at least. Measure a recipe first.")
    place = tables.Place(readme, "results")
    files = [folder.read_json(path, FILE) for path in paths]
    place.put(table(files))
    print(f"Wrote {len(files)} rows to {readme}")


def table(files: list[dict[str, Any]]) -> str:
    """Return the files as a Markdown table."""
    head = ["recipe", "trained on", "tested on", "parameters", "epochs", "seconds an epoch",
            "accuracy %, mean ± deviation", "seeds", "95 % interval", "others report %", "command"]
    order = list(recipes.RECIPES)
    files = sorted(files, key=lambda file: (file["trained_on"] != "MNIST", order.index(file["recipe"])
                                            if file["recipe"] in order else len(order), file["epochs"], unusual(file)))
    rows = [[", ".join([f"`{file['recipe']}{' --full' if file.get('full') else ''}`", *unusual(file)]),
             file["trained_on"], f"{file['tested_on']} ({file['seeds'][0]['total']:,})",
             f"{file['parameters']:,}", _epochs(file), f"{file['seconds_per_epoch']:.1f}",
             _accuracy(file), str(len(file["seeds"])),
             "{:.2f} to {:.2f}".format(*(100 * end for end in file["interval_95"])), _reported(file),
             f"`{file['command']}`"] for file in files]
    return tables.markdown(head, rows)


def _reported(file: dict[str, Any]) -> str:
    """Return what others report of this network, trained likewise on such images; a dash where nobody does."""
    recipe = recipes.RECIPES.get(file["recipe"])
    if recipe is None or file["trained_on"] != "MNIST":
        return "–"
    reported = recipe.trained(file.get("full", False)).reported
    return "–" if reported is None else f"{reported:g}"


def _epochs(file: dict[str, Any]) -> str:
    """Return how many epochs the seeds took; they differ where training is stopped early."""
    least, most = (pick(seed["epochs"] for seed in file["seeds"]) for pick in (min, max))
    return str(least) if least == most else f"{least} to {most}"


def _accuracy(file: dict[str, Any]) -> str:
    deviation = file["accuracy_deviation"]
    return f"{100 * file['accuracy_mean']:.2f}" + ("" if deviation is None else f" ± {100 * deviation:.2f}")


if __name__ == "__main__":
    sys.exit(main())
