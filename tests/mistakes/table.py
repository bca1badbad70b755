"""The page docs/mistakes.md: every mistake, and which kinds of test catch it.

A kind is a selection of quick tests, those of the mistake's topic where there are such, so that all mistakes against
all kinds take minutes, not hours. The last column names the test that the suite holds each mistake to; it need not be
one of the selection.
"""

from __future__ import annotations

from mistakes import ALL, CATALOGUE, ROOT
from mistakes.runner import Job, Outcome

PAGE = ROOT / "docs" / "mistakes.md"
COMMAND = "python -m pytest tests/test_mistakes.py --all-tests"

REST = "initial weights, loaders, training"


def _of(file: str, *names: str) -> list[str]:
    return [f"{file}.py::{name}" for name in names]


def _gradients(test: str, *cases: str) -> list[str]:
    return [f"test_gradients.py::{test}[reference-{case}]" for case in cases] + [
        f"test_gradients.py::{test}[fast-{case}]" for case in cases]


_EXACT = _of(
    "test_kernels_exact", "test_same_padding_is_tensorflows", "test_output_size_counts_the_places",
    "test_conv2d_reads_any_layout", "test_conv2d_without_what_is_not_needed", "test_reference_conv2d_in_blocks",
    "test_max_pool2d_reads_any_layout", "test_padding_never_wins", "test_a_window_without_pixels_has_no_winner",
    "test_dense")

# Kind of test -> topic -> tests; "" stands for every other topic.
SELECTION: dict[str, dict[str, list[str]]] = {
    "exact": {"": _EXACT, "pooling": [*_EXACT, "test_kernels_avg_pool2d.py"]},
    "numeric": {
        "conv": _of("test_kernels_numeric", "test_conv2d_auto"),
        "batch norm": _of("test_kernels_numeric", "test_batch_norm", "test_batch_norm_backward",
                          "test_batch_norm_inference", "test_constant_channel"),
        "dropout": _of("test_kernels_dropout", "test_dropout_bits"),
        "softmax cross-entropy": _of("test_kernels_numeric", "test_softmax_cross_entropy",
                                     "test_cross_entropy_of_large_logits",
                                     "test_a_small_probability_keeps_its_gradient"),
        "activations": _of("test_kernels_numeric", "test_activation", "test_activations_at_the_extremes",
                           "test_relu_at_zero_and_nan", "test_leaky_relu", "test_softmax_of_large_logits"),
        "optimizers": ["test_kernels_optimizers.py"],
        REST: [*_of("test_kernels_affine_warp", "test_affine_warp_by_whole_pixels_is_exact"),
               *_of("test_strokes", "test_distance_is_that_to_the_nearest_segment")],
        "augmentation": _of("test_augmentation", "test_each_image_is_scipys_for_the_transform_drawn",
                            "test_shifts_go_where_their_names_say",
                            "test_ranges_are_filled_evenly_and_independently",
                            "test_whole_numbers_and_sequences_are_drawn_from",
                            "test_a_float_of_one_or_more_is_in_pixels")},
    "gradients": {
        "conv": [*_gradients("test_linear_layer", "conv valid 3x2", "conv same 2x5", "conv same strides 3x2"),
                 *_gradients("test_other_layer", "conv relu", "conv sigmoid strides 2x1")],
        "pooling": [*_gradients("test_other_layer", "pool 2x3", "pool overlapping 3x3 strides 2x1",
                                "pool same, padded"),
                    *_gradients("test_linear_layer", "average pool 2x3", "average pool overlapping, padded",
                                "global average pool")],
        "batch norm": [*_gradients("test_linear_layer", "batch norm frozen"),
                       *_gradients("test_other_layer", "batch norm 2D", "batch norm 4D", "batch norm epsilon 0.1")],
        "dropout": _gradients("test_linear_layer", "dropout 2D", "dropout 4D"),
        "dense": [*_gradients("test_linear_layer", "dense", "dense, no bias"),
                  *_gradients("test_other_layer", "dense relu", "dense softmax")],
        "softmax cross-entropy": _of("test_gradients", "test_loss"),
        "activations": _gradients("test_other_layer", "relu", "leaky relu", "sigmoid", "tanh", "softmax 2D",
                                  "softmax 4D"),
        "": [*_gradients("test_linear_layer", "dense", "flatten", "conv valid 3x2"),
             *_gradients("test_other_layer", "batch norm 4D")]},
    "laws": {topic: [f"test_laws_{file}.py" for file in files.split()] for topic, files in {
        "conv": "conv", "pooling": "pool average_pool", "batch norm": "batch_norm", "dropout": "dropout",
        "dense": "dense", "softmax cross-entropy": "functions", "activations": "functions average_pool",
        "optimizers": "optimizers"}.items()},
    "layers": {"": ["test_layers.py", "test_losses.py"]},
    "training": {"": ["test_training.py", "test_training_losses.py", "test_training_settings.py",
                      "test_training_callbacks.py"],
                 "callbacks": ["test_training_callbacks.py", "test_callbacks.py", "test_callbacks_state.py"],
                 "resume": ["test_callbacks_state.py"],
                 "augmentation": ["test_augmentation_flow.py"]},
    "determinism": {"": [*_of(
        "test_determinism", "test_the_same_seed_gives_the_same_weights_twice",
        "test_different_seeds_give_different_weights",
        "test_equal_layers_at_different_places_start_differently", "test_every_epoch_has_its_own_order_and_all_samples",
        "test_dropout_masks_differ_from_step_to_step_and_from_layer_to_layer",
        "test_every_training_step_of_a_model_draws_its_own_masks",
        "test_an_image_predicts_the_same_alone_as_in_a_batch"), *_of(
        "test_overwriting", "test_what_a_user_holds_is_not_overwritten",
        "test_prediction_and_evaluation_change_nothing")], "augmentation": _of(
        "test_augmentation", "test_the_seed_decides_the_bits_and_the_threads_do_not",
        "test_an_image_gets_the_same_transform_in_whatever_batch", "test_a_flow_goes_on_where_another_stood")},
    "models, files": {"": ["test_models.py", "test_model_files.py", "test_statistics.py",
                           *_of("test_idx", "test_the_bytes_are_those_of_the_format"),
                           *_of("test_datasets", "test_a_folder_of_four_files_is_a_data_set")],
                      "resume": ["test_saving.py", "test_resume_files.py"],
                      "tables": _of("test_kaggle", "test_label_first_with_and_without_a_header", "test_without_labels",
                                    "test_chunks_are_joined_in_order", "test_a_bad_cell_is_named",
                                    "test_a_file_is_examined_as_far_as_it_can_be_read",
                                    "test_what_is_written_can_be_read")},
    "found": {"": ["test_mistakes_found.py"]},
}
KINDS = list(SELECTION)
ONLY = {"resume": ("training", "models, files")}  # the kinds that have to do with a topic, where few do

UNTRIED = "fast conv"  # uncompiled, whole networks on these kernels take minutes a test


def tests_of(kind: str, topic: str) -> list[str]:
    """Return the selection of a kind of test for a topic; empty: they have nothing to do with each other."""
    if topic == UNTRIED or kind not in ONLY.get(topic, KINDS):
        return []
    return SELECTION[kind].get(topic, SELECTION[kind].get("", []))


INTRODUCTION = f"""# Mistakes, and the tests that catch them

Written by `{COMMAND}`. Do not edit.

A suite that has never been seen red proves little. These are {len(ALL)} mistakes that somebody makes who writes a
network from scratch. The ordinary suite makes each of them, one after the other in a process of its own, and asserts
that the test in the last column fails by an assertion; a crash is no catch. Each is a few lines in `tests/mistakes/`:
the file, the old text, the new text. Where a mistake stands in the fast kernels, its tests run on these, uncompiled;
else on the reference kernels.

The columns between say which kinds of test catch it, tried with a quick selection of each: **C** caught, **x** only an
error that is no assertion (a shape that does not fit, a file that cannot be read), empty: not noticed, · not tried,
because the kind has no test for the topic, or, of "{UNTRIED}", one that takes minutes where nothing is compiled. That a
kind misses a mistake is no fault of it: the table shows why one kind of test is not enough. "Found" are the tests that
the catalogue showed to be missing. No column have the slow or broad checks, among them `test_exact_*.py`,
`test_gradients_tight.py`, `test_gradients_complex_step.py`, `test_parity_*.py`, `test_contract.py`, `test_plan*.py`,
and the tests of single fast kernels (`test_simd.py`, `test_product.py`, `test_winograd.py`, `test_direct.py`,
`test_fused_kernels.py`): what they catch beyond the test in the last column is not shown, so that an empty line does
not mean that one test alone notices.

| kind | tests |
|---|---|
"""


def jobs() -> list[Job]:
    """Return every mistake with every kind of test that has a selection for its topic, mistake by mistake."""
    return [Job(tests_of(kind, topic), mistake) for topic, mistake in ALL for kind in KINDS if tests_of(kind, topic)]


def write(outcomes: list[Outcome]) -> None:
    """Write the page from the outcomes of ``jobs``."""
    assert not any(outcome.outcome == "no test" for outcome in outcomes), "a selection names a test that is not there"
    following = iter(outcomes)
    marks = {(topic, mistake.name): [
        {"caught": "C", "crashed": "x"}.get(next(following).outcome, "") if tests_of(kind, topic) else "·"
        for kind in KINDS] for topic, mistake in ALL}
    lines = [INTRODUCTION + "\n".join(f"| {kind} | {_files(kind)} |" for kind in KINDS), "",
             f"Caught, of {len(ALL)}: " + ", ".join(
                 f"{kind} {sum(row[at] == 'C' for row in marks.values())}" for at, kind in enumerate(KINDS)) + "."]
    for topic, mistakes in CATALOGUE.items():
        lines += ["", f"## {topic[0].upper()}{topic[1:]}: {len(mistakes)}", "",
                  f"| mistake | what goes wrong | {' | '.join(KINDS)} | held to |",
                  f"|---|---|{':-:|' * len(KINDS)}---|"]
        lines += [f"| {_text(mistake.name)} | {_text(mistake.wrong)} | {' | '.join(marks[topic, mistake.name])} "
                  f"| `{mistake.test.partition('::')[2].partition('[')[0]}` |" for mistake in mistakes]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _text(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _files(kind: str) -> str:
    """Return the files a kind of test is taken from."""
    files = dict.fromkeys(test.partition("::")[0] for tests in SELECTION[kind].values() for test in tests)
    return ", ".join(f"`{file}`" for file in files)
