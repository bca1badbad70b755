"""The callback that sets the learning rate, on its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from minicnn.callbacks import LearningRateScheduler


@pytest.mark.parametrize("verbose", [0, 1])
@pytest.mark.parametrize("schedule", [lambda epoch, rate: rate / 2, lambda epoch: 0.1 / 2**(epoch + 1)],
                         ids=["of epoch and rate", "of the epoch"])
def test_every_epoch_has_the_rate_of_the_schedule_and_prints_it_if_asked(schedule, verbose, capsys):
    model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1))
    callback = LearningRateScheduler(schedule, verbose)
    callback.set_model(model)
    for epoch, rate in enumerate((0.05, 0.025)):
        callback.on_epoch_begin(epoch)
        assert model.optimizer.learning_rate == pytest.approx(rate)
    printed = "".join(f"Epoch {epoch}: LearningRateScheduler setting learning rate to {rate}.\n"
                      for epoch, rate in ((1, 0.05), (2, 0.025)))
    assert capsys.readouterr().out == printed * verbose
