"""The package as a user meets it: what its names import, and when."""

from __future__ import annotations

import sys

import pytest

import minicnn
from minicnn import activations, datasets


@pytest.mark.parametrize("name", ["gradcheck", "testing"])
def test_the_tools_for_checking_are_imported_when_first_named(monkeypatch, name):
    monkeypatch.delattr(minicnn, name, raising=False)
    assert getattr(minicnn, name) is sys.modules[f"minicnn.{name}"]


def test_names_that_are_not_there_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'minicnn' has no attribute 'gradchek'"):
        _ = minicnn.gradchek
    with pytest.raises(AttributeError, match=r"module 'minicnn\.datasets' has no attribute 'cifar'"):
        _ = datasets.cifar


def test_the_data_sets_are_listed_before_they_are_imported():
    assert {"mnist", "strokes"} <= set(dir(datasets))
    for name in ("mnist", "strokes"):
        assert getattr(datasets, name) is sys.modules[f"minicnn.datasets.{name}"]


def test_an_activation_is_its_own_name_and_prints_it():
    relu = activations.get("relu")
    assert repr(relu) == "<activation relu>"
    assert activations.get(relu) is relu
    assert repr(activations.get(None)) == "<activation linear>"
