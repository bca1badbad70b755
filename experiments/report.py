"""Show what a run can do and where it fails: pictures, and one page with all of them; or say which of two is better."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cli
import digits
import folder
import page
import pictures
from minicnn.errors import ArgumentError
from minicnn.files import make_folder
from minicnn.statistics import confusion_matrix, mcnemar, precision_recall_f1, wilson_interval
from minicnn.visualize.drawing import counted
from runs import Score, accuracy_text

PAGE = "report.html"
EXAMPLES = """examples:
  python experiments/report.py runs/cnn-1                 pictures and report.html, in the run's folder
  python experiments/report.py runs/cnn-1 --digit 18      look inside the network at test image no. 18
  python experiments/report.py runs/cnn-1 --out figures   pictures and page in another folder
  python experiments/report.py runs/cnn-1 runs/dense-1    is one of the two better?"""


def build_parser() -> cli.Parser:
    """Return the parser of this script."""
    parser = cli.Parser(description=__doc__, examples=EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a folder that experiments/train.py wrote; two compare")
    parser.add_argument("--digit", type=cli.seed, default=0, metavar="N",
                        help="the test image whose feature maps are drawn (default: 0)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where to write (default: the run's folder)")
    cli.add_machine_options(parser)
    return parser


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of one run, or compare two; return the exit status."""
    options = build_parser().parse_args(argv)
    cli.apply_machine_options(options)
    if len(options.runs) > 2:
        raise ArgumentError(f"report.py got {len(options.runs)} runs; expected one, or two to compare. Leave some out.")
    expected = folder.RESULT if len(options.runs) == 1 else folder.COMPARED
    saved = [folder.read(run, expected) for run in options.runs]
    if len(saved) == 2:
        print(compare(*saved))
    else:
        write(saved[0], options.digit, options.out or saved[0].place)
    return 0


# --- one run -----------------------------------------------------------------------------------------------------

def write(saved: folder.Saved, digit: int, place: Path) -> None:
    """Draw every picture there is something for, and the page that shows them."""
    material = saved.material(digit)
    make_folder(place)
    shown, contents = [], []
    for name, entry in pictures.PICTURES.items():
        if entry.can_be_drawn(material):
            figure = entry.draw(material)
            folder.save_figure(figure, place / name)
            shown.append(page.heading(entry.title))
            shown.append(page.picture(place / name, figure.get_suptitle(), entry.caption))
            contents.append(f"  {name:<24} {entry.what}")
    text = page.document(f"{saved.result['recipe']} on {material.score.what}", parts(saved, material.score, shown))
    folder.save_text(place / PAGE, text)
    print("\n".join([f"{material.score.sentence()}.", material.score.undisputed_sentence()]).strip())
    print(f"\nWritten to {place}:\n" + "\n".join([*contents, f"  {PAGE:<24} all of it on one page, to be opened in any "
                                                  "browser"]))


def parts(saved: folder.Saved, score: Score, shown: Sequence[str]) -> list[str]:
    """Return the page: the finding, what to beware of, the pictures, each class, how it was trained."""
    result = saved.result
    share = f"{100 * score.correct / score.total:.2f} %"
    blocks = [page.heading(f"{result['recipe']} reads {share} of {score.total:,} {score.what} right", 1)]
    low, high = (100 * end for end in wilson_interval(score.correct, score.total))
    wrong = "none wrong" if score.correct == score.total else f"{score.total - score.correct:,} wrong"
    lead = f"95 % interval {low:.2f} to {high:.2f} %; {wrong}. {score.undisputed_sentence()}"
    blocks += [page.paragraph(lead.strip(), "lead")]
    blocks += [page.paragraph(text, "note") for text in warnings(result)]
    blocks += [*shown, page.heading("Class by class, with 95 % intervals"), classes(score),
               page.heading("How it was trained"), page.facts(facts(result)), page.command(result["command"])]
    return blocks


def warnings(result: dict[str, Any]) -> list[str]:
    """Say what a reader must know before believing the numbers."""
    notes = []
    if result["interrupted"]:
        notes.append(f"The training was interrupted after {result['epochs']} of {result['epochs_planned']} epochs.")
    return notes + digits.cautions(result["data"])


def classes(score: Score) -> str:
    """Return the table of precision, recall with its interval, and F1 of each class."""
    matrix = confusion_matrix(score.digits.y_test, score.predicted, score.digits.classes)
    rows = []
    for k, (precision, recall, f1) in enumerate(precision_recall_f1(matrix).T):
        total, right = int(matrix[k].sum()), int(matrix[k, k])
        if total:
            interval = "{:.2f} to {:.2f}".format(*(100 * end for end in wilson_interval(right, total)))
            rows.append([str(k), f"{total:,}", f"{right:,}", f"{100 * recall:.2f}", interval,
                         "–" if math.isnan(precision) else f"{100 * precision:.2f}", f"{100 * f1:.2f}"])
    return page.numbers(["class", "images", "found", "recall %", "95 % interval", "precision %", "F1 %"], rows)


def facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what was trained on what, in names and values."""
    data, machine, training = result["data"], result["machine"], result["training"]
    seconds, kept = result["seconds_per_epoch"], result["epoch_kept"]
    return [
        ("recipe", result["recipe"] + (" --full" if result["full"] else "")),
        ("parameters", f"{result['parameters']:,}"),
        ("epochs", f"{result['epochs']} of {result['epochs_planned']}, in batches of {result['batch_size']}"
                   + ("" if kept is None else f"; the weights are those of epoch {kept}")),
        ("optimizer, loss", f"{_setting(training['optimizer'])}, {training['loss']}"),
        ("callbacks", "; ".join(map(_setting, training["callbacks"])) or "none"),
        ("augmentation", "none" if training["augmentation"] is None else _setting(training["augmentation"])),
        ("seconds an epoch", f"{statistics.median(seconds):.1f}, {sum(seconds):,.0f} in all" if seconds else "–"),
        ("data", f"{data['name']}: {data['training_images']:,} training, {data['validation_images']:,} validation and "
                 f"{data['test_images']:,} test images"),
        ("seed", str(result["seed"])),
        ("weights, SHA-256", result["weights_sha256"]),
        ("test images, SHA-256", data["sha256"]["x_test"]),
        ("machine", f"{machine['processor']}, {counted(machine['threads'], 'thread')}, {machine['kernels']} kernels, "
                    f"{machine['system']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in result["versions"].items()))]


def _setting(record: dict[str, Any]) -> str:
    """Write a class and its arguments as Python does."""
    arguments = ", ".join(f"{name}={value!r}" for name, value in record.items() if name != "class")
    return f"{record['class']}({arguments})"


# --- two runs ----------------------------------------------------------------------------------------------------

def compare(first: folder.Saved, second: folder.Saved) -> str:
    """Say how two runs did on the same test images, and whether that tells them apart.

    Raises
    ------
    ArgumentError
        If they were tested on different images.
    """
    digests = [[saved.result["data"]["sha256"][part] for part in ("x_test", "y_test")] for saved in (first, second)]
    if digests[0] != digests[1]:
        raise ArgumentError(f"{first.place} and {second.place} were tested on different images "
                            f"({first.result['test_data']} and {second.result['test_data']}); expected the same. Test "
                            "both on one data set.")
    right = first.right, second.right
    found = mcnemar(*right)
    width = max(len(str(saved.place)) for saved in (first, second))
    what = f"{first.result['test_data']} test images"
    lines = [f"{saved.place!s:<{width}}  {accuracy_text(int(one.sum()), len(one), what)}"
             for saved, one in zip((first, second), right)]
    lines += ["", f"Both right {int((right[0] & right[1]).sum()):,}; only {first.place} {found.only_first:,}; only "
                  f"{second.place} {found.only_second:,}; both wrong {int((~right[0] & ~right[1]).sum()):,}."]
    chance = f"two equally good ones would differ so much in {_share(found.p_value)} of all cases"
    if found.can_be_told_apart():
        better, worse = (first, second) if found.only_first > found.only_second else (second, first)
        lines.append(f"{better.place} is better than {worse.place}: {chance}")
    else:
        lines.append(f"They cannot be told apart by these {len(right[0]):,} images: {chance}")
    p_value = "p < 0.0001" if found.p_value < 1e-4 else f"p = {found.p_value:.2g}"    # it may be too small for a float
    return "\n".join([*lines[:-1], f"{lines[-1]} (McNemar's exact test, {p_value})."])


def _share(p: float) -> str:
    return "less than 0.01 %" if p < 1e-4 else f"{100 * p:.2g} %" if p < 0.1 else f"{100 * p:.0f} %"


if __name__ == "__main__":
    sys.exit(main())
