"""Mistakes in max-pooling and average-pooling."""

from __future__ import annotations

from mistakes.record import Mistake

POOL, LAYER, FAST = "kernels/reference/max_pool2d.py", "layers/max_pooling2d.py", "kernels/fast/max_pool2d.py"
AVERAGE, FAST_AVERAGE, BOTH = "kernels/reference/avg_pool2d.py", "kernels/fast/avg_pool2d.py", "layers/pooling2d.py"
GLOBAL = "layers/global_average_pooling2d.py"
EXACT = "test_kernels_exact.py::test_max_pool2d"
NAN = "test_kernels_exact.py::test_nan_and_infinities_in_pooling"
MEAN = "test_kernels_avg_pool2d.py::test_avg_pool2d"
NOT_COUNTED = "test_kernels_avg_pool2d.py::test_padding_does_not_count"
EMPTY = "test_kernels_exact.py::test_a_window_without_pixels_has_no_winner"

MISTAKES = [
    Mistake("last maximum wins", POOL, "(pixel > out)", "(pixel >= out)",
            "Among equals the last takes the gradient, against the rule.", EXACT),
    Mistake("padding wins", POOL, "better &= inside[under]", "better &= True",
            "Where all pixels are negative, a zero of the padding is the maximum.",
            "test_kernels_exact.py::test_padding_never_wins"),
    Mistake("NaN overlooked", POOL, " | (np.isnan(pixel) & ~np.isnan(out))", "",
            "A window with NaN gives a number, and hides that the network is broken.", NAN),
    Mistake("-inf never wins", POOL, "(pixel > out) | (winner < 0) |", "(pixel > out) |",
            "A window of -inf has no winner, and its gradient goes nowhere.", NAN),
    Mistake("maximum starts at 0", POOL, "out = np.full((N, OH, OW, C), -np.inf, x.dtype)",
            "out = np.zeros((N, OH, OW, C), x.dtype)", "A window wholly in the padding gives 0 instead of -inf.",
            EMPTY),
    Mistake("position counted in rows of the other side", POOL, "winner[better] = p * PW + q",
            "winner[better] = p * PH + q", "The stored position is wrong where the window is not square.", EXACT),
    Mistake("position in a byte", POOL, "winner = np.full((N, OH, OW, C), -1, np.int32)",
            "winner = np.full((N, OH, OW, C), -1, np.int8)", "Positions above 127 come out negative.", EXACT),
    Mistake("pool size used as stride", POOL, "            under = pixels_under(p, q, stride, OH, OW)\n",
            "            under = pixels_under(p, q, pool, OH, OW)\n", "Windows that overlap are read as if they tiled.",
            EXACT),
    Mistake("second call reuses the winners", POOL, "    winner = np.full((N, OH, OW, C), -1, np.int32)",
            "    winner = max_pool2d.__dict__.setdefault(str((N, OH, OW, C)), np.full((N, OH, OW, C), -1, np.int32))",
            "Backward of the first call sends its gradients to the winners of the second.", EXACT),
    Mistake("last entry of the window never looked at", POOL, "            pixel = padded[under]",
            "            if p * q and p == PH - 1 and q == PW - 1:\n                continue\n"
            "            pixel = padded[under]", "The bottom right pixel of a window cannot win.", EXACT),
    Mistake("backward: position read in rows of the other side", POOL, "won = winner == p * PW + q",
            "won = winner == p * PH + q", "The gradient goes to another pixel of the window.", EXACT, "other"),
    Mistake("backward: overlaps overwritten", POOL, "OW)] += np.where", "OW)] = np.where",
            "A pixel that won in several windows keeps the gradient of one.", EXACT, "missing term"),
    Mistake("backward: every pixel gets the gradient", POOL, "np.where(won, dout, 0)", "dout",
            "The gradient is not masked: losers get it as well.", EXACT, "mask"),
    Mistake("backward: spread over the window", POOL, "np.where(won, dout, 0)", "np.where(won, dout / (PH * PW), 0)",
            "The gradient is that of a mean, not of a maximum.", EXACT, "ratio"),
    Mistake("backward: sides of the padding exchanged", POOL, "crop(dpadded, padding)",
            "crop(dpadded, (padding[1], padding[0], padding[3], padding[2]))",
            "dx is cut out of the padded gradient a pixel off.", EXACT, "border"),
    Mistake("backward: offset of the padding forgotten", POOL, "crop(dpadded, padding)", "dpadded[:, :H, :W]",
            "dx is cut out of the corner of the padded gradient.", EXACT, "border"),
    Mistake("backward: first row of windows left out", POOL, "won = winner == p * PW + q",
            "won = (winner == p * PW + q) & (np.arange(OH) > 0)[:, None, None]", "A loop starts at 1.", EXACT,
            "border"),
    Mistake("layer: default stride 1", BOTH, "self.strides = self.pool_size if", "self.strides = (1, 1) if",
            "Without strides the windows overlap, and the image is hardly smaller.",
            "test_layers.py::test_keras_spellings"),
    Mistake("layer: inference overwrites what backward needs", LAYER, "self.keep(training, x_shape",
            "self.keep(True, x_shape",
            "A prediction between forward and backward changes the gradient.",
            "test_layers.py::test_backward_before_a_training_forward_says_so"),
    Mistake("layer: height and width exchanged", BOTH, "H, W, C = input_shape", "W, H, C = input_shape",
            "The promised output shape is that of the transposed image.", "test_layers.py::test_shapes_and_dtypes"),
    Mistake("fast: NaN overlooked", FAST, "(not value <= old)", "(value > old)", "A window with NaN gives a number.",
            NAN),
    Mistake("fast: last column never looked at", FAST, "if s >= 0 and s < W:\n                            _keep",
            "if s >= 0 and s < W - 1:\n                            _keep", "A loop ends one column too early.", EXACT),
    Mistake("fast: gradient added to a dirty buffer", FAST, "        dx[n] = 0\n", "",
            "The recycled array is not cleared before gradients are added.", EXACT, "accumulated"),
    Mistake("mean: padding counted", AVERAGE, "inside = pad(np.ones((1, *size, 1)), padding)",
            "inside = pad(np.ones((1, *size, 1)), padding, 1.0)", "Means at the border are too small.", NOT_COUNTED),
    Mistake("mean: sum taken for it", AVERAGE, "(total / _pixels_inside((H, W), pool, stride, padding))", "(total)",
            "The layer multiplies by the number of pixels.", MEAN),
    Mistake("mean: summed in float32", AVERAGE, "np.promote_types(x.dtype, np.float64)", "x.dtype",
            "Large windows lose digits.", "test_kernels_avg_pool2d.py::test_large_windows_are_summed_in_float64"),
    Mistake("mean: pool size used as stride", AVERAGE, "total += padded[pixels_under(p, q, stride, OH, OW)]",
            "total += padded[pixels_under(p, q, pool, OH, OW)]",
            "Windows that overlap are read as if they tiled.", MEAN),
    Mistake("mean, backward: the whole gradient to each pixel", AVERAGE,
            "share = dout / _pixels_inside((H, W), pool, stride, padding).astype(dout.dtype)", "share = dout",
            "The gradient is that of a sum.", MEAN),
    Mistake("mean, backward: overlaps overwritten", AVERAGE, "OW)] += share", "OW)] = share",
            "A pixel in several windows keeps the share of one.", MEAN),
    Mistake("mean, backward: sides of the padding exchanged", AVERAGE, "crop(dpadded, padding)",
            "crop(dpadded, (padding[1], padding[0], padding[3], padding[2]))",
            "dx is cut out of the padded gradient a pixel off.", MEAN),
    Mistake("fast mean: padding counted", FAST_AVERAGE,
            " count = max((last_row - first_row) * (last - first), 1)", " count = PH * PW",
            "Means at the border are too small.", NOT_COUNTED),
    Mistake("fast mean: last column never looked at", FAST_AVERAGE,
            "                    for s in range(first, last):\n                        for c in range(C):\n"
            "                            total[c]",
            "                    for s in range(first, last - 1):\n                        for c in range(C):\n"
            "                            total[c]", "A loop ends one column too early.", MEAN),
    Mistake("fast mean: gradient added to a dirty buffer", FAST_AVERAGE,
            "        for r in range(H):\n            for s in range(W):\n                for c in range(C):\n"
            "                    dx[n, r, s, c] = 0\n", "",
            "The recycled array is not cleared before gradients are added.", MEAN),
    Mistake("global mean: rows only", GLOBAL, "kernels.avg_pool2d(x, (H, W), (H, W)",
            "kernels.avg_pool2d(x, (H, 1), (H, W)", "Only the first column is averaged.",
            "test_gradients_tight.py::test_linear"),
]
