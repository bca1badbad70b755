"""Mistakes in dropout: the mask, the factor, and what they depend on."""

from __future__ import annotations

from mistakes.record import Mistake

KERNEL, LAYER, FAST = "kernels/reference/dropout.py", "layers/dropout.py", "kernels/fast/dropout.py"
BITS = "test_kernels_dropout.py::test_dropout_bits"
BACKWARD = "test_layers.py::test_dropout_mask_in_backward_is_that_of_forward"

MISTAKES = [
    Mistake("kept values not scaled", KERNEL, "x * x.dtype.type(1 / (1 - rate))", "x",
            "The mean of the activations sinks during training.", BITS),
    Mistake("kept values scaled down", KERNEL, "x.dtype.type(1 / (1 - rate))", "x.dtype.type(1 - rate)",
            "The factor is the inverse of what it should be.", BITS),
    Mistake("keeps what it should drop", KERNEL, ">= round(rate * 2**32)", "< round(rate * 2**32)",
            "With rate 0.25, three quarters are dropped.", BITS),
    Mistake("threshold of 31 bits", KERNEL, "round(rate * 2**32)", "round(rate * 2**31)",
            "Half as much is dropped as was asked for.", BITS),
    Mistake("one mask for all images", KERNEL, "low + n * np.uint32(0x9E3779B9)", "low + 0 * n",
            "Every image of a batch loses the same values.", BITS),
    Mistake("one mask for all positions", KERNEL, "mix(mix(i + a) ^ b)", "mix(mix(0 * i + a) ^ b)",
            "An image is dropped whole or not at all.", BITS),
    Mistake("upper half of the key unused", KERNEL, "mix(high ^ mix(a))", "mix(mix(a))",
            "Keys that differ in their upper half give one mask.", BITS),
    Mistake("weak hash", KERNEL, "    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)\n", "",
            "A round of the hash is missing: neighbours are related.", BITS),
    Mistake("mask redrawn in backward", KERNEL, "return dropout(dout, rate, key)",
            "return dropout(dout, rate, key + 1)",
            "The gradient goes through other values than the forward pass did.", BITS, "mask"),
    Mistake("mask forgotten in backward", KERNEL, "return dropout(dout, rate, key)",
            "return dout * dout.dtype.type(1 / (1 - rate))", "Dropped values get a gradient.", BITS, "mask"),
    Mistake("factor forgotten in backward", KERNEL, "return dropout(dout, rate, key)",
            "return dropout(dout, rate, key) * dout.dtype.type(1 - rate)",
            "The gradient lacks the scale of the forward pass.", BITS, "ratio"),
    Mistake("layer: drops in inference too", LAYER, "        if not training:\n            return x\n", "",
            "Predictions are random.",
            "test_layers.py::test_dropout_does_nothing_outside_training_and_at_rate_zero"),
    Mistake("layer: the same mask at every step", LAYER, "self.index, self.next_step())", "self.index, 0)",
            "One part of the network is never trained.",
            "test_layers.py::test_dropout_draws_a_new_mask_each_step_unless_frozen"),
    Mistake("layer: the same mask in every layer", LAYER, '"dropout", self.index, self', '"dropout", self',
            "Two layers of one size drop the same positions.",
            "test_determinism.py::test_dropout_masks_differ_from_step_to_step_and_from_layer_to_layer"),
    Mistake("layer: the step after's mask in backward", LAYER, '        key = self.kept("key")\n',
            '        self.kept("key")\n        key = stream_key(self.seed, "dropout", self.index, self.next_step())\n',
            "Backward asks for the mask of the next step.", BACKWARD, "mask"),
    Mistake("layer: rate is the part kept", LAYER, "self.rate = real_number(", "self.rate = 1 - real_number(",
            "Keras' rate is the part dropped.", BACKWARD),
    Mistake("layer: own seed ignored", LAYER, "seed = self.seed if self.own_seed is None else self.own_seed",
            "seed = self.seed", "Dropout(seed=...) draws the model's mask.",
            "test_mistakes_found.py::test_dropout_follows_its_own_seed"),
    Mistake("fast: index of the image within its chunk", FAST, "np.uint64(n) * np.uint64(0x9E3779B9)",
            "np.uint64(n - start + 1) * np.uint64(0x9E3779B9)",
            "The mask depends on how the batch was cut.", BITS),
]
