"""Mistakes in callbacks: counting, comparing, restoring, naming files."""

from __future__ import annotations

from mistakes.record import Mistake

BASE, STOPPING, PLATEAU = "callbacks/base.py", "callbacks/early_stopping.py", "callbacks/reduce_lr_on_plateau.py"
MONITOR, CHECKPOINT, CSV = "callbacks/monitor.py", "callbacks/model_checkpoint.py", "callbacks/csv_logger.py"
HISTORY = "callbacks/history.py"
ENDS = "test_callbacks.py::test_when_training_ends_early"
RESTORED = "test_callbacks.py::test_the_best_weights_come_back_also_when_the_epochs_run_out"
REDUCED = "test_callbacks.py::test_when_the_learning_rate_is_reduced"
WRITTEN = "test_callbacks.py::test_when_a_checkpoint_is_written"
NAMED = "test_callbacks.py::test_checkpoints_are_models_or_weights_in_files_named_by_epoch_and_logs"
GOES_ON = "test_callbacks_state.py::test_a_callback_goes_on_where_its_state_was_taken"
TABLE = "test_callbacks_state.py::test_the_table_of_a_training"

MISTAKES = [
    Mistake("stopping: one epoch too patient", STOPPING, "self.wait >= self.patience", "self.wait > self.patience",
            "Training goes on for an epoch more than it should.", ENDS),
    Mistake("stopping: the count is never begun anew", STOPPING,
            "current, self.baseline):\n                self.wait = 0", "current, self.baseline):\n                pass",
            "Any few bad epochs end training, however far apart they are.", ENDS),
    Mistake("stopping: the last value compared, not the best", STOPPING,
            "        self.wait += 1\n        if self.is_improvement(current, self.best):",
            "        self.wait += 1\n        before, self.best = self.best, current\n"
            "        if self.is_improvement(current, before):",
            "A slow way up and down again counts as getting better.", ENDS),
    Mistake("stopping: baseline forgotten", STOPPING, "if self.baseline is None or", "if True or",
            "The baseline has no effect.", ENDS),
    Mistake("stopping: first epochs counted", STOPPING, "if current is None or epoch < self.start_from_epoch:",
            "if current is None:", "Epochs of warming up can end training.", ENDS),
    Mistake("stopping: restored only when stopped", STOPPING, "if self.best_weights is not None:\n            if",
            "if self.best_weights is not None and self.stopped_epoch:\n            if",
            "When the epochs run out the last weights stay, as in Keras 2.", RESTORED),
    Mistake("stopping: the last weights kept as the best", STOPPING,
            "            if self.restore_best_weights:\n                self.best_weights = self.model.get_weights()\n",
            "        if self.restore_best_weights:\n            self.best_weights = self.model.get_weights()\n"
            "        if self.best == current:\n",
            "Restoring changes nothing.", RESTORED),
    Mistake("stopping: remembers the training before", STOPPING, "        self.best = None\n", "",
            "A second training is compared with the first.",
            "test_callbacks.py::test_a_second_training_starts_anew"),
    Mistake("monitor: min_delta with the wrong sign", MONITOR, "value - self.min_delta > reference",
            "value + self.min_delta > reference", "With mode max what is a little worse counts as better.", ENDS),
    Mistake("monitor: the sign of min_delta counts", MONITOR, "abs(real_number(", "(real_number(",
            "A negative min_delta makes worse values better.", ENDS),
    Mistake("monitor: equal is better", MONITOR, "value + self.min_delta < reference",
            "value + self.min_delta <= reference", "A value that stays the same counts as getting better.", ENDS),
    Mistake("monitor: every name is a loss", MONITOR, 'return "max"', 'return "min"',
            "The epoch with the worst accuracy is the best.",
            "test_callbacks.py::test_auto_knows_the_losses_and_the_metrics_of_the_library"),
    Mistake("plateau: reduced again at once", PLATEAU, "self.cooldown_counter = self.cooldown\n        self.wait = 0",
            "self.cooldown_counter = self.cooldown", "After the first reduction every epoch reduces.", REDUCED),
    Mistake("plateau: cooldown without an end", PLATEAU, "            self.cooldown_counter -= 1\n", "",
            "The learning rate is reduced once and never again.", REDUCED),
    Mistake("plateau: smaller than the least", PLATEAU,
            "max(optimizer.learning_rate * self.factor, self.min_lr)", "optimizer.learning_rate * self.factor",
            "min_lr is passed.", "test_callbacks.py::test_the_reduction_is_said_and_ends_at_the_least"),
    Mistake("plateau: default of min_delta", PLATEAU, "min_delta: float = 1e-4", "min_delta: float = 0",
            "A gain of nothing keeps the learning rate.", REDUCED),
    Mistake("schedule: the epoch after", "callbacks/learning_rate_scheduler.py", "known = (epoch, optimizer",
            "known = (epoch + 1, optimizer", "The schedule counts from 1.",
            "test_training_settings.py::test_the_learning_rate_scheduler"),
    Mistake("checkpoint: epochs from 0", CHECKPOINT, '{"epoch": epoch + 1}', '{"epoch": epoch}',
            "File names count from 0, Keras' from 1.", NAMED),
    Mistake("checkpoint: the best forgotten", CHECKPOINT, "                self.best = current\n", "",
            "What is saved last as the best is only better than the threshold.", WRITTEN),
    Mistake("checkpoint: batches counted anew in every epoch", CHECKPOINT,
            "        self._epoch = epoch\n", "        self._epoch = epoch\n        self.batches_seen = 0\n",
            "With save_freq beyond an epoch's batches nothing is saved.", WRITTEN),
    Mistake("checkpoint: weights saved as a model", CHECKPOINT, "if self.save_weights_only:", "if False:",
            "load_weights finds more than weights.", WRITTEN),
    Mistake("CSV: head again", CSV, "self._head = not (self.append and", "self._head = not (False and",
            "A file that is added to has several heads.", TABLE),
    Mistake("CSV: columns in the order of the logs", CSV, "keys = sorted(logs)", "keys = list(logs)",
            "The columns are not those of Keras' file.", TABLE),
    Mistake("CSV: written at the end", CSV, "            append(file, line.getvalue().encode())\n",
            "            append(file, getattr(self, 'late', b''))\n        self.late = line.getvalue().encode()\n",
            "After a crash the last epochs are missing.",
            "test_callbacks_state.py::test_a_line_is_in_the_file_as_soon_as_its_epoch_ends"),
    Mistake("state: the wait forgotten", STOPPING, 'counters = ("wait", "stopped_epoch", "best_epoch")',
            'counters = ("stopped_epoch", "best_epoch")', "A resumed training is patient anew.", GOES_ON),
    Mistake("state: the best forgotten", MONITOR, 'float(state["best"]) if "best" in state else None', "None",
            "In a resumed training any value is the best.", GOES_ON),
    Mistake("history: what callbacks add is missing", "training.py",
            "            listening += [] if own else [self.history]\n        return",
            "            listening = listening if own else [self.history, *listening]\n        return",
            "The learning rate is not in the history.",
            "test_callbacks.py::test_the_learning_rate_in_the_logs_is_that_of_the_epoch"),
]
