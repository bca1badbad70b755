"""Mistakes in the fast convolutions: vectors, the micro-kernel, Winograd's and direct, and what rides inside them."""

from __future__ import annotations

from mistakes.record import Mistake

SIMD, PRODUCT, SUMS = (f"kernels/fast/{name}.py" for name in ("simd", "product", "sums"))
TRANSFORMS, WINOGRAD, STRIPS, DIRECT = (f"kernels/fast/{name}.py" for name in (
    "winograd_transforms", "winograd", "winograd_strips", "direct"))
ROWS, FUSED = "kernels/fast/rows.py", "kernels/fast/fused.py"
COUNTER, FINITE, WEIGHTS = (f"kernels/fast/{name}.py" for name in ("counter", "finite", "winograd_weights"))

MEMORY, PROGRAM = "kernels/fast/memory.py", "program.py"

FIRST = "test_simd.py::test_the_first_numbers_alone_are_read_and_written"
SMALL = "test_product.py::test_small_products_of_every_kind"
MATRICES = "test_winograd.py::test_the_transforms_are_their_matrices"
ALONG = "test_winograd.py::test_the_transforms_along_an_axis"
TILES = "test_winograd.py::test_few_tiles_in_a_group"
EXACT = "test_direct.py::test_direct_is_exact"
PARTS = "test_parts.py::test_a_part_needs_no_other"
WEIGHT = "test_program.py::test_every_weight_is_looked_at"
# Uncompiled, its cases take seconds each: the one is named that catches the mistake.
BETWEEN = "test_fused_kernels.py::test_all_that_stands_between_two_convolutions"
EQUALS = "test_fused_kernels.py::test_of_equals_in_a_window_the_first_gets_the_gradient"
PLACES = "test_pooled_rows.py::test_places_are_those_of_the_first_that_wins"
INSIDE = "test_fused_kernels.py::test_strips_that_lie_wholly_inside_the_image[batch-5-float32]"
MOMENTS = "test_fused_kernels.py::test_moments_of_large_numbers_close_to_each_other"

MISTAKES = [
    # --- vectors ---
    Mistake("vector: square of numbers not turned", SIMD, "            target[t + j * t_row + i] = source",
            "            target[t + i * t_row + j] = source", "Rows stay rows, and columns columns.",
            "test_simd.py::test_transpose_exchanges_rows_and_columns"),
    Mistake("vector: NaN loses against a number", SIMD, "return np.where(~(a <= b), a, b)",
            "return np.where(a > b, a, b)", "A NaN in a window is forgotten by pooling.",
            "test_simd.py::test_maximum_and_minimum_give_the_first_where_one_is_nan"),
    Mistake("vector: what follows the first numbers is not zero", SIMD, "vector = np.zeros(LANES, array.dtype)",
            "vector = np.ones(LANES, array.dtype)", "The lanes beyond the last channel take part in sums.", FIRST),
    Mistake("vector: a view of the array", SIMD, "return array[index:index + LANES].copy()",
            "return array[index:index + LANES]", "A vector changes when the array is written.",
            "test_simd.py::test_a_vector_keeps_its_numbers"),
    Mistake("vector: one number too few written", SIMD, "array[index:index + count] = vector[:count]",
            "array[index:index + max(count - 1, 0)] = vector[:max(count - 1, 0)]",
            "The last channel of a partial vector is never written.", FIRST),
    # --- the micro-kernel ---
    Mistake("product: rows left over are dropped", PRODUCT, "few, longer = M // tiles, M % tiles",
            "few, longer = M // tiles, 0", "Where tiles of one height do not make all rows, the last rows are missing.",
            SMALL),
    Mistake("product: last half tile of columns skipped", PRODUCT, "if N % COLUMNS:", "if N < 0:",
            "An odd vector of columns is never computed.", SMALL),
    Mistake("product: rows left over by fours are dropped", PRODUCT, "eights, fours, ones = M // 8, M % 8 // 4, M % 4",
            "eights, fours, ones = M // 8, M % 8 // 4, 0", "Beside the last vector of columns, up to three rows are "
            "missing.", SMALL),
    Mistake("product: adds to what it should replace", PRODUCT, "if not add and (p == 0 or c_plane):",
            "if add is None and (p == 0 or c_plane):", "The result has in it what stood in the memory before.", SMALL),
    Mistake("product: replaces what it should add to", PRODUCT, "if not add and (p == 0 or c_plane):",
            "if p == 0 or c_plane:", "Of a sum over groups only the last one is left.", SMALL),
    Mistake("product: only the first plane's result begins anew", PRODUCT, "if not add and (p == 0 or c_plane):",
            "if not add and p == 0:", "All positions of a tile but the first are added to what was there.", SMALL),
    Mistake("product: of a single row the last columns skipped", PRODUCT, "pairs % (WIDE // COLUMNS)\n", "0\n",
            "Of a vector times a matrix, columns beyond a multiple of 128 are never computed.", SMALL),
    Mistake("product: every plane with the first of B", PRODUCT, "b[b_start + k * b_row + p * b_plane + n:]",
            "b[b_start + k * b_row + n:]", "All rows of the convolution's kernel are taken to be its first.", SMALL),
    # --- Winograd: transforms ---
    Mistake("winograd: two lines of a transform exchanged", TRANSFORMS,
            "return t0, p + q, p - q, r + s, r - s, u + v, u - v, t7",
            "return t0, p - q, p + q, r + s, r - s, u + v, u - v, t7",
            "What belongs to the point -1 is taken for that of 1.", MATRICES),
    Mistake("winograd: a power of a point", TRANSFORMS, "p + 4 * r, q + 8 * s + m5", "p + 4 * r, q + 4 * s + m5",
            "The third output takes 2 squared for 2 cubed.", MATRICES),
    Mistake("winograd: transposed transform in backward", TRANSFORMS, "d0, d1, d2, d3, d4, d5 = input_6_transposed(",
            "d0, d1, d2, d3, d4, d5 = input_6(", "dx is transformed by B transposed instead of B.", ALONG, "other"),
    Mistake("winograd: overlap of tiles overwritten", TRANSFORMS,
            "store(target, b + t_step, d1 + load(target, b + t_step))", "store(target, b + t_step, d1)",
            "A pixel under two tiles keeps the gradient of one.", ALONG, "missing term"),
    # --- Winograd: strips and groups ---
    Mistake("winograd: last ragged group dropped", WINOGRAD, "in range(start, stop, p.group):",
            "in range(start, stop - p.group + 1, p.group):",
            "Strips beyond the last whole group are never computed.", TILES),
    Mistake("winograd: border not zeroed", WINOGRAD, "clear(image, ZERO, image.size)", "clear(image, ZERO, ZERO)",
            "What lies around the image is what was in the memory.", TILES, count=2),
    Mistake("winograd: rows padded for the columns", STRIPS, "image, (i + p.top) * line + p.left * p.CP",
            "image, (i + p.left) * line + p.top * p.CP", "Padding above and to the left are exchanged.", TILES),
    Mistake("winograd: a strip misses its last rows", STRIPS, "end = OUTPUTS * strip + p.alpha - p.top",
            "end = OUTPUTS * strip + OUTPUTS - p.top", "The rows that two strips share are read too late.", TILES),
    Mistake("winograd: nothing dropped from a strip inside", STRIPS, "not (source.pool or source.drop)",
            "not source.pool", "Dropout reaches the first rows of an image and the last.", INSIDE),
    Mistake("winograd: no zeros beside a strip inside", STRIPS,
            "clear(columns, start + k * line + beside, line - LANES - beside)",
            "clear(columns, start + k * line + beside, ZERO)",
            "What is to the right of the image is what was in the memory.", PARTS),
    Mistake("winograd: a strip inside as it is", STRIPS,
            "d6, d7 = fma(d6 - near, scale, shift), fma(d7 - near, scale, shift)", "d6, d7 = d6, d7",
            "Two rows of eight are not normalized.", INSIDE),
    Mistake("winograd: all windows of a strip in one row", STRIPS, "write_window(target, at + PW * p.F, y2",
            "write_window(target, at, y2", "Pooling at once, the lower two rows replace the upper two.",
            "test_pooled_rows.py::test_training_gives_the_same[winograd-same-1-5-relu]"),
    Mistake("winograd: the number near the mean not kept", STRIPS, "        store(sums, c, near)\n", "",
            "Mean and variance are put together with another number than the one that was taken off.", MOMENTS),
    Mistake("winograd: carry of the strip above not added", STRIPS,
            "copy(finished, OUTPUTS * line, finished, ZERO, carry)", "clear(finished, ZERO, carry)",
            "dx misses what the strip above gives to the rows they share.", TILES, "missing term"),
    Mistake("winograd: carry of the strip above not added inside", STRIPS,
            "d0, d1 = d0 + load(finished, k), d1 + load(finished, k + line)", "d0, d1 = d0, d1",
            "The same, of strips wholly inside the image.", TILES, "missing term"),
    Mistake("winograd: carry of the image before", STRIPS, "    if strip == 0:\n        clear(finished",
            "    if n == 0 and strip == 0:\n        clear(finished",
            "The first rows of dx have in them the last ones of another image.", TILES, "accumulated"),
    Mistake("winograd: last rows of dx never written", STRIPS,
            "first + (p.alpha if strip == p.strips - 1 else OUTPUTS), max", "first + OUTPUTS, max",
            "The last strip's share for the rows below it is lost.", TILES, "remainder"),
    Mistake("winograd: dw of the last group alone", WINOGRAD,
            "p.CP, p.FP, T, half, ONE)", "p.CP, p.FP, T, half, ZERO)",
            "Each group overwrites the kernel gradient of those before.", TILES, "missing term"),
    Mistake("winograd: dw starts from what was there", WINOGRAD, "clear(dU, ZERO, dU.size)", "clear(dU, ZERO, ZERO)",
            "The kernel gradient is added to garbage.", TILES, "accumulated"),
    Mistake("a chunk's partial sum lost", SUMS, "for chunk in range(partials.shape[0]):",
            "for chunk in range(max(1, partials.shape[0] - 1)):", "Gradients of the last images do not count.", TILES,
            "missing term"),
    # --- direct ---
    Mistake("direct: rows' stride forgotten", DIRECT, "product(frame, (i + r) * p.SH * p.width * p.C",
            "product(frame, (i + r) * p.width * p.C", "Every row of the image is convolved, whatever the stride.",
            EXACT),
    Mistake("direct: dx by the kernel as it is", DIRECT, "w[::-1, ::-1].transpose(0, 1, 3, 2)",
            "w.transpose(0, 1, 3, 2)", "The kernel is not turned by 180 degrees.", EXACT, "axes"),
    Mistake("direct: zeros around dz forgotten", DIRECT, "clear(dz, ZERO, dz.size)", "clear(dz, ZERO, ZERO)",
            "What lies around the gradient is what was in the memory.", EXACT, "border"),
    Mistake("direct: dx of the image before", DIRECT, "clear(dframe, ZERO, dframe.size)",
            "clear(dframe, ZERO, ZERO if n else dframe.size)", "dx is added to that of another image.", EXACT,
            "accumulated"),
    # --- programs ---
    Mistake("program: changed numbers not seen", PROGRAM, "self._now.view(np.uint8) == self._then.view(np.uint8)",
            "self._then.view(np.uint8) == self._then.view(np.uint8)",
            "After training in place the network predicts as before it.", WEIGHT),
    Mistake("program: new arrays not seen", PROGRAM, "not all(map(operator.is_, weights, self._weights))",
            "not weights",
            "After set_weights the network predicts as before it.", WEIGHT),
    Mistake("program: moving averages forgotten", PROGRAM,
            "for array in layer.weights.values() if array is not watched",
            "for array in layer.params.values() if array is not watched",
            "Predictions normalize by averages of some time ago.", WEIGHT),
    Mistake("program: not taken away while it runs", "plan.py", "self._programs.pop(x.shape, None)",
            "self._programs.get(x.shape)", "Who predicts in the middle of a prediction spoils it.",
            "test_program.py::test_who_predicts_in_the_middle_of_a_prediction_gets_a_program_of_his_own"),
    Mistake("program: results are the memory of the next ones", PROGRAM, "return self.out.copy()", "return self.out",
            "What predict returned changes with the next call.",
            "test_program.py::test_what_a_batch_leaves_behind_does_not_reach_the_next"),
    Mistake("program: what a call reads is what it writes", MEMORY, "self._pieces.rotate()", "self._pieces.rotate(2)",
            "A layer overwrites its input while it reads it.",
            "test_program.py::test_two_results_in_turns_share_two_pieces_of_memory"),
    # --- parts of a batch ---
    Mistake("counter: nobody takes what others have left", COUNTER, "for k in range(0, counter.size, APART):",
            "for k in range(0, APART, APART):", "A thread that wakes up too late leaves its part undone.",
            "test_counter.py::test_a_seat_has_its_own_part_first_and_then_what_others_have_left"),
    Mistake("winograd: a part of an image without the rows above it", STRIPS,
            "twice or s0 + g == first_of_all, image", "twice, image",
            "Where one image is cut up, rows are those of whatever was read before.", PARTS),
    Mistake("direct: a part of an image without its rows", DIRECT, "if i == 0 or pair == start:", "if i == 0:",
            "Where one image is cut up, only the first part reads it.", PARTS),
    Mistake("winograd: channels beyond whole vectors not turned", WEIGHTS, "room[t + j * B + i] = w[",
            "room[t + i * B + j] = w[", "dx is wrong where channels are no multiple of 16.", TILES),
    Mistake("finite: the last numbers not looked at", FINITE,
            "total(wrong + _wrong(load_first(x, last, stop - last)))", "total(wrong)",
            "NaN among the last numbers of an array goes unseen.",
            "test_finite.py::test_one_wrong_number_is_found_wherever_it_is"),
    # --- what rides inside ---
    Mistake("inside: last partial vector of channels skipped", ROWS,
            "for c in range(0, F, LANES):\n        if target.pool:",
            "for c in range(0, F - LANES + 1, LANES):\n        if target.pool:",
            "Filters beyond the last whole vector are never written.", EXACT),
    Mistake("inside: pooling by the largest where gamma is negative", ROWS,
            "select(scale > zero, most, select(zero > scale, least, a))", "select(scale > zero, most, most)",
            "The largest before normalization is the smallest after it.", f"{BETWEEN}[batch-True-float32]"),
    Mistake("inside: gradient to all that are largest", ROWS, "d = select(v == m, zero, d)", "d = select(v == m, d, d)",
            "Where several pixels of a window are equal, each gets the whole gradient.", EQUALS, "mask"),
    Mistake("inside: of equals the second wins", ROWS,
            "select(v == best, zero, select(w == best, broadcast(zero, 1), place))",
            "select(w == best, broadcast(zero, 1), select(v == best, zero, place))",
            "Pooling at once and pooling what was written send the gradient to different pixels.", PLACES, "mask"),
    Mistake("inside: gradient to what ReLU has cut off", ROWS, "select(best > zero, place, none) if relu else place",
            "place", "A window whose largest is below zero passes its gradient on.", PLACES, "mask"),
    Mistake("inside: pixels that no window covers forgotten", ROWS, "if r < OH and q < OW:",
            "if r < 2 * PH and q < 2 * PW:",
            "An odd last row or column has its share in the mean and the variance all the same.",
            f"{BETWEEN}[none-True-float32]", "border"),
    Mistake("inside: backward drops others than forward", ROWS,
            "    for i in range(first, last):\n        if source.drop:\n            draw_row(source, n, i * W * C",
            "    for i in range(first, last):\n        if source.drop:\n"
            "            draw_row(source, n, (i - first) * W * C", "The mask begins anew with each strip.",
            f"{BETWEEN}[none-False-float32]", "mask"),
    Mistake("inside: a chunk's mean without what was taken off", FUSED, "np.float64(rooms[chunk, c]) + sum_ / more",
            "sum_ / more", "The mean is that of differences from the first pixel.", MOMENTS),
    Mistake("inside: squares about the first pixel", FUSED, "totals[chunk, room + c] - sum_ * sum_ / more",
            "totals[chunk, room + c]", "The variance is taken about a value that is not the mean.", MOMENTS),
    Mistake("inside: frozen, yet the gradient of training", FUSED,
            "steep = 0.0 if frozen else -scale", "steep = -scale", "Given statistics are taken to depend on the batch.",
            f"{BETWEEN}[given-False-float32]", "missing term"),
]
