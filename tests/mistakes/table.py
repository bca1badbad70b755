"""The page docs/mistakes.md: every mistake, and which kinds of test catch it.

A kind is a selection of quick tests, so that all mistakes against all kinds take minutes, not hours. The last column
names the test that the suite holds each mistake to; it need not be one of the selection.
"""

from __future__ import annotations

from mistakes import ALL, CATALOGUE, ROOT
from mistakes.runner import Job, Outcome

PAGE = ROOT / "docs" / "mistakes.md"
COMMAND = "python -m pytest tests/test_mistakes.py --all-tests"

CLASSES: dict[str, list[str]] = {
    "exact": [f"test_kernels_exact.py::{name}" for name in (
        "test_same_padding_is_tensorflows", "test_output_size_counts_the_places", "test_conv2d_reads_any_layout",
        "test_conv2d_without_what_is_not_needed", "test_reference_conv2d_in_blocks", "test_max_pool2d_reads_any_layout",
        "test_padding_never_wins", "test_a_window_without_pixels_has_no_winner", "test_dense")],
    "numeric": ["test_kernels_numeric.py", "test_kernels_dropout.py::test_dropout_bits", "test_kernels_optimizers.py"],
    "gradients": ["test_gradients.py::test_linear_layer", "test_gradients.py::test_other_layer",
                  "test_gradients.py::test_loss"],
    "layers": ["test_layers.py", "test_losses.py"],
    "training": ["test_training.py"],
    "determinism": [f"test_determinism.py::{name}" for name in (
        "test_the_same_seed_gives_the_same_weights_twice", "test_different_seeds_give_different_weights",
        "test_equal_layers_at_different_places_start_differently", "test_every_epoch_has_its_own_order_and_all_samples",
        "test_dropout_masks_differ_from_step_to_step_and_from_layer_to_layer",
        "test_every_training_step_of_a_model_draws_its_own_masks", "test_what_a_user_holds_is_not_overwritten",
        "test_prediction_and_evaluation_change_nothing", "test_an_image_predicts_the_same_alone_as_in_a_batch")],
    "data": ["test_idx.py::test_the_bytes_are_those_of_the_format", "test_statistics.py",
             "test_datasets.py::test_a_folder_of_four_files_is_a_data_set", "test_models.py",
             "test_kernels_affine_warp.py::test_affine_warp_by_whole_pixels_is_exact",
             "test_kernels_affine_warp.py::test_affine_warp_by_default_repeats_the_edge",
             "test_strokes.py::test_distance_is_that_to_the_nearest_segment"],
    "found": ["test_mistakes_found.py"],
}

INTRODUCTION = f"""# Mistakes, and the tests that catch them

Written by `{COMMAND}`. Do not edit.

A suite that has never been seen red proves little. These are {len(ALL)} mistakes that somebody makes who writes a
network from scratch. The ordinary suite makes each of them, one after the other in a process of its own, and asserts
that the test in the last column fails by an assertion; a crash is no catch. Each is a few lines in `tests/mistakes/`:
the file, the old text, the new text. Where a mistake stands in the fast kernels, its tests run on these, uncompiled;
else on the reference kernels.

The columns between say which kinds of test catch it: **C** caught, **x** only an error that is no assertion (a shape
that does not fit, a file that cannot be read), empty: not noticed. That a kind of test misses a mistake is no fault of
the test: the table shows why one kind is not enough.

| kind | tests |
|---|---|
"""


def jobs() -> list[Job]:
    """Return every mistake with every kind of test, mistake by mistake."""
    return [Job(tests, mistake) for _, mistake in ALL for tests in CLASSES.values()]


def write(outcomes: list[Outcome]) -> None:
    """Write the page from the outcomes of ``jobs``."""
    kinds = list(CLASSES)
    rows = [outcomes[start:start + len(kinds)] for start in range(0, len(outcomes), len(kinds))]
    marks = {mistake: [{"caught": "C", "crashed": "x"}.get(cell.outcome, "") for cell in row]
             for (_, mistake), row in zip(ALL, rows, strict=True)}
    lines = [INTRODUCTION + "\n".join(f"| {kind} | {_tests(tests)} |" for kind, tests in CLASSES.items()), "",
             f"Caught of {len(ALL)}: " + ", ".join(
                 f"{kind} {sum(row[at] == 'C' for row in marks.values())}" for at, kind in enumerate(kinds)) + "."]
    for topic, mistakes in CATALOGUE.items():
        lines += ["", f"## {topic[0].upper()}{topic[1:]}: {len(mistakes)}", "",
                  f"| mistake | what goes wrong | {' | '.join(kinds)} | held to |",
                  f"|---|---|{':-:|' * len(kinds)}---|"]
        lines += [f"| {_text(mistake.name)} | {_text(mistake.wrong)} | {' | '.join(marks[mistake])} "
                  f"| `{mistake.test.partition('::')[2]}` |" for mistake in mistakes]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _tests(tests: list[str]) -> str:
    """Return the files, each with the number of its functions if not all of it runs."""
    files: dict[str, int] = {}
    for test in tests:
        file, _, name = test.partition("::")
        files[file] = files.get(file, 0) + bool(name)
    return ", ".join(f"`{file}`" + (f" ({count} of its tests)" if count else "") for file, count in files.items())
