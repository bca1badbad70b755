"""Mistakes in what a training needs to go on where it was interrupted, and in how files get in place."""

from __future__ import annotations

from mistakes.record import Mistake

CHECKPOINT, STOPPING, BATCHES, FILES = "checkpoint.py", "callbacks/early_stopping.py", "batches.py", "files.py"
BITS = "test_resume.py::test_a_training_interrupted_after_any_batch_ends_with_the_same_bits"

MISTAKES = [
    Mistake("resume: step counter begun anew", CHECKPOINT,
            'optimizer.iterations, model.updates = saved["iterations"], saved["updates"]',
            'model.updates = saved["updates"]', "Adam's bias correction is that of the first steps again.", BITS),
    Mistake("resume: learning rate of the start", CHECKPOINT, "        setattr(optimizer, name, value)\n",
            '        if name != "learning_rate":\n            setattr(optimizer, name, value)\n',
            "What a schedule or a plateau made of it is lost.",
            "test_resume.py::test_a_schedule_is_not_asked_twice_for_the_epoch_it_goes_on_in"),
    Mistake("resume: moments begun anew", CHECKPOINT, "setdefault(weight, {})[slot] = array.copy()",
            "setdefault(weight, {})[slot] = np.zeros_like(array)",
            "The optimizer has forgotten the steps before.", BITS),
    Mistake("resume: moving averages left out", CHECKPOINT, "        array[...] = found[name]\n",
            '        if "moving" not in name:\n            array[...] = found[name]\n',
            "Batch normalization predicts with its first values.", BITS),
    Mistake("resume: frozen layers thawed", CHECKPOINT, "        layer.trainable = trainable\n", "        pass\n",
            "What a callback froze is trained again.", BITS),
    Mistake("resume: partial metrics dropped", CHECKPOINT, "{name: float(total) for name, total",
            "{name: 0.0 for name, total", "The loss of the epoch is that of its last batches, divided by all.", BITS),
    Mistake("resume: a batch is trained twice", BATCHES,
            'self.number, self.position = int(state["number"]), int(state["position"])',
            'self.number, self.position = int(state["number"]), max(0, int(state["position"]) - 1)',
            "The place in the shuffled data is off by one batch.", BITS),
    Mistake("resume: best weights forgotten", STOPPING, 'for number in range(count)] if count else None',
            'for number in range(count)] if False else None',
            "Early stopping restores the best weights since the resumption, or none.",
            "test_callbacks_state.py::test_a_callback_goes_on_where_its_state_was_taken"),
    Mistake("resume: silent about a damaged file", "callbacks/backup_and_restore.py",
            "        for damage in saved.damaged:\n", "        for damage in []:\n",
            "Nobody hears that the newest checkpoint is lost.",
            "test_resume_files.py::test_a_damaged_newest_file_is_reported_and_the_one_before_used"),
    Mistake("resume: only the newest kept", CHECKPOINT, "if old != before and not old.is_dir():",
            "if not old.is_dir():",
            "If the newest is damaged there is no other.",
            "test_resume_files.py::test_the_last_two_and_the_best_are_kept"),
    Mistake("file: not synced", FILES, "                os.fsync(file.fileno())\n", "",
            "After a power cut the new name may stand for an empty file.",
            "test_saving.py::test_a_failed_write_keeps_the_old_file_and_leaves_no_other"),
    Mistake("file: temporary one left behind", FILES, "            temporary.unlink()\n", "            pass\n",
            "Every failed attempt takes more of a disk that is full.",
            "test_full_disk.py::test_a_file_is_replaced_as_a_whole_or_not_at_all"),
    Mistake("file: half a line left", FILES, "                file.truncate(end)\n", "                pass\n",
            "A table read again has a row that is cut.",
            "test_full_disk.py::test_the_line_of_a_table_is_whole_or_not_there"),
]
