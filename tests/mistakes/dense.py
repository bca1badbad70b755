"""Mistakes in the fully connected layer."""

from __future__ import annotations

from mistakes.record import Mistake

KERNEL, LAYER, FAST = "kernels/reference/dense.py", "layers/dense.py", "kernels/fast/dense.py"
EXACT = "test_kernels_exact.py::test_dense"
LINEAR, OTHER = "test_gradients.py::test_linear_layer", "test_gradients.py::test_other_layer"

MISTAKES = [
    Mistake("bias forgotten", KERNEL, "        out += b\n", "        out += 0 * b\n", "The bias has no effect.", EXACT),
    Mistake("dw averaged over the batch", KERNEL, "dw = x.T @ dout  #", "dw = x.T @ dout / len(x)  #",
            "The loss has divided by N already.", EXACT, "ratio"),
    Mistake("dw of the first half of the batch", KERNEL, "dw = x.T @ dout  #",
            "dw = x[:(len(x) + 1) // 2].T @ dout[:(len(x) + 1) // 2]  #", "The sum ends too early.", EXACT,
            "missing term"),
    Mistake("bias gradient not summed over the batch", KERNEL, "db = dout.sum(axis=0)", "db = dout[0].copy()",
            "db is that of the first image.", EXACT, "missing term"),
    Mistake("bias gradient averaged", KERNEL, "db = dout.sum(axis=0)", "db = dout.mean(axis=0)",
            "db is divided by N once too often.", EXACT, "ratio"),
    Mistake("dx doubled", KERNEL, "dx = dout @ w.T if", "dx = 2 * dout @ w.T if", "dx is twice what it should be.",
            EXACT,
            "ratio"),
    Mistake("dx with the outputs reversed", KERNEL, "dx = dout @ w.T if", "dx = dout[:, ::-1] @ w.T if",
            "Each output's gradient is carried back by another output's weights.", EXACT, "axes"),
    Mistake("need_dx has no effect", KERNEL, " if need_dx else None", "",
            "The first layer computes a gradient nobody needs.",
            EXACT),
    Mistake("layer: gradient of the activation forgotten", LAYER,
            "self.activation_gradient(self.check_gradient(dout), out)", "self.check_gradient(dout)",
            "Backward goes through the layer as if its activation were linear.", OTHER, "mask"),
    Mistake("layer: bias gradient zero", LAYER, '{"kernel": dw, "bias": db}', '{"kernel": dw, "bias": 0 * db}',
            "The bias never learns.", LINEAR, "zero"),
    Mistake("layer: bias not passed on", LAYER, 'self.params.get("bias"))', "None)",
            "Forward ignores the bias, whose gradient is there all the same.", LINEAR, "other"),
    Mistake("fast: bias added to all rows but the last", FAST,
            "    for i in range(height):\n        for j in range(0, width, LANES):",
            "    for i in range(max(1, height - 1)):\n        for j in range(0, width, LANES):",
            "A loop ends one row too early.", EXACT),
    Mistake("fast: rest of the rows not transposed", FAST, "while block * stripe < M:", "while block < M // stripe:",
            "The last outputs, fewer than a block, give the input no gradient.", EXACT, "remainder"),
]
