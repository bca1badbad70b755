"""The main job: train a network of a recipe on handwritten digits, and show how well it reads them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cli
import folder
import guard
import recipes
import runs

EXAMPLES = f"""recipes:
{recipes.table()}
  (minutes on two cores; the kernels compile once before that)

examples:
  python experiments/train.py                          the convolutional network, as long as fits five minutes
  python experiments/train.py cnn --full               thirty epochs, on images moved anew in each
  python experiments/train.py kaggle_cnn               one of the networks that others report on
  python experiments/train.py dense --epochs 5 --seed 1
  python experiments/train.py dense --data train.csv   a CSV file with the label first, such as Kaggle's
  python experiments/train.py simple_cnn --epochs 1    a quick look
  python experiments/train.py --data strokes           digits drawn by the program; needs no download
  python experiments/train.py --data fashion/          any folder with four IDX files
  python experiments/train.py --kernels reference --epochs 1 --limit 1000    your edit of a NumPy kernel, at work

Ctrl-C ends the training and keeps what was learned so far."""


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    parser.add_argument("recipe", nargs="?", default="cnn", help="which network, trained how (default: cnn)")
    cli.add_run_options(parser)
    parser.add_argument("--seed", type=cli.seed, default=0, metavar="N", help="decides every chance (default: 0)")
    cli.add_machine_options(parser)
    parser.add_argument("--out", "--save", metavar="DIR",
                        help="the run's own folder (default: the next runs/<recipe>-<n>)")
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Train, score, write; return the exit status."""
    options = build_parser().parse_args(argv)
    recipe = recipes.find(options.recipe)
    cli.apply_machine_options(options)
    folder.refuse_taken(options.out)
    data = runs.images(options, recipe)
    place = folder.make(options.out, recipe.name)
    try:
        run = runs.planned(options, recipe, data, options.seed, place)
        runs.announce(run)
        with guard.CtrlC() as ctrl_c:
            run.train()
            ctrl_c.hold()
            folder.save_training(place, run)  # before anything else can fail
        finish(run, place, cli.command_line("train", recipe.name, options,
                                            ("epochs", "batch_size", "limit", "data", "seed")))
    except KeyboardInterrupt:
        if contents := folder.list_contents(place):
            print(f"\nWritten to {place}:\n{contents}")
        raise
    finally:
        folder.remove_if_empty(place)
    return cli.INTERRUPTED if run.interrupted else 0


def finish(run: runs.Run, place: Path, command: str) -> None:
    """Score what was saved, and say both."""
    if run.interrupted:
        print(f"\nInterrupted after {len(run.recorder.seconds)} of {run.epochs} epochs; what was learned is saved.",
              flush=True)
    score = run.score()
    folder.save_result(place, run, score, command)
    note = "" if run.digits.fallback is None else " (strokes instead of MNIST, which cannot be had)"
    print(f"\n{score.sentence()}{note}", flush=True)
    if score.undisputed:
        print(score.undisputed_sentence())
    if run.too_short:
        print(f"Too short a training to judge the network: after {run.model.optimizer.iterations} steps "
              "BatchNormalization's moving averages have not settled. Train for more epochs or on more images.")
    print(f"\nWritten to {place}:\n{folder.list_contents(place)}\n"
          f"More pictures, and a page with all of them: python experiments/report.py {place}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
