"""Callbacks: what else happens in training, by Keras' names and with Keras' behaviour; one page each.

Give them to ``fit(callbacks=[...])``. They are called in the order of the list, then the progress bar and
``History``, and ``BackupAndRestore`` after all of them.
"""

from __future__ import annotations

from minicnn.callbacks.backup_and_restore import BackupAndRestore
from minicnn.callbacks.base import Callback, CallbackList, Logs
from minicnn.callbacks.csv_logger import CSVLogger
from minicnn.callbacks.early_stopping import EarlyStopping
from minicnn.callbacks.history import History
from minicnn.callbacks.lambda_callback import LambdaCallback
from minicnn.callbacks.learning_rate_scheduler import LearningRateScheduler
from minicnn.callbacks.model_checkpoint import ModelCheckpoint
from minicnn.callbacks.progress import EpochLines, ProgressBar
from minicnn.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau
from minicnn.callbacks.terminate_on_nan import TerminateOnNaN

__all__ = ["BackupAndRestore", "CSVLogger", "Callback", "CallbackList", "EarlyStopping", "EpochLines", "History",
           "LambdaCallback", "LearningRateScheduler", "Logs", "ModelCheckpoint", "ProgressBar", "ReduceLROnPlateau",
           "TerminateOnNaN"]
