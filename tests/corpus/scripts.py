"""Command lines: options that are wrong, and places where there is nothing or too much."""

from __future__ import annotations

import accuracy
import benchmark
import explore
import predict
import report
import train
from corpus import Case
from corpus.doors import script, with_good_files

NUMBERS = {"of 0": "0", "below 0": "-1", "of text": "ten", "of 2.5": "2.5", "too large": "9" * 30, "of 9,999 digits":
           "9" * 9999, "in other digits": "\u0663", "of nothing": ""}
COUNTS = {train: ("--epochs", "--batch-size", "--limit", "--threads"), benchmark: ("--repeats", "--threads"),
          predict: ("--threads",), accuracy: ("--epochs",), report: ("--threads",)}
FIRST = {train: (), benchmark: (), predict: ("{good}", "{table}"), accuracy: ("dense",), report: ("nowhere",)}
LINES = (
    (train, ("cnm",), "Did you mean 'cnn'"),
    (train, ("cnn", "dense"), "unrecognized arguments: dense"),
    (train, ("--epoch", "3"), "unrecognized arguments: --epoch"),
    (train, ("--seed", "-1"), "argument --seed: got '-1'"),
    (train, ("--seed", "one"), "argument --seed: got 'one'"),
    (train, ("--seed", "9" * 9999), "argument --seed"),
    (train, ("--kernels", "slow"), "invalid choice: 'slow'"),
    (train, ("--data", "nowhere"), "--data got 'nowhere'"),
    (train, ("--data", "minst"), "Did you mean 'mnist'"),
    (train, ("--data", ""), "--data got ''"),
    (train, ("--out", "{good}"), "exists and is not an empty folder"),
    (train, ("--data", "{table}", "--out", "."), "exists and is not an empty folder"),
    (train, ("--epochs",), "expected one argument"),
    (accuracy, (), "name a recipe"),
    (accuracy, ("densse",), "Did you mean 'dense'"),
    (accuracy, ("dense", "--seeds"), "expected at least one argument"),
    (accuracy, ("dense", "--seeds", "-3"), "--seeds"),
    (accuracy, ("dense", "--seeds", "0.5"), "got '0.5'"),
    (accuracy, ("dense", "--data", "nowhere"), "--data got 'nowhere'"),
    (accuracy, ("--table", "--results", "nowhere"), "no accuracy-*.json in nowhere"),
    (explore, (), "required: FILE"),
    (explore, ("nowhere.csv",), "nowhere.csv"),
    (explore, (".",), "folder"),
    (explore, ("{table}", "--out", "{good}"), "exists and is not an empty folder"),
    (predict, ("{good}",), "required: INPUT"),
    (predict, ("nowhere", "{table}"), "'nowhere' is neither a model file nor a folder"),
    (predict, (".", "{table}"), "'.' is neither a model file nor a folder with model.safetensors"),
    (predict, ("{table}", "{table}"), "does not begin like a safetensors file"),
    (predict, ("{good}", "nowhere.csv"), "nowhere.csv"),
    (predict, ("{good}", "nowhere.png"), "nowhere.png"),
    (predict, ("{good}", "."), "holds no pictures"),
    (predict, ("{good}", "{table}", "--out", "nowhere/a.csv"), "no folder nowhere"),
    (predict, ("{good}", "{table}", "--out", "."), "folder"),
    (predict, ("{good}", "{table}", "--prepared", "a.png"), "--prepared is for pictures"),
    (predict, ("{good}", "{table}", "--kernels", "cuda"), "invalid choice: 'cuda'"),
    (report, (), "required: RUN"),
    (report, ("nowhere",), "'nowhere' is no folder of a run"),
    (report, (".",), "it lacks result.json"),
    (report, ("nowhere", "--digit", "-1"), "argument --digit: got '-1'"),
    (report, ("nowhere", "--digit", "seven"), "argument --digit: got 'seven'"),
    (benchmark, ("--against", "numpy"), "got 'numpy'; expected some of torch, keras"),
    (benchmark, ("--against", "torch,torch"), "each once"),
    (benchmark, ("--scaling", "--ladder"), "not allowed with"),
    (benchmark, ("--python", "torch"), "expected NAME=FILE"),
    (benchmark, ("--python", "torch=nowhere"), "expected NAME=FILE"),
    (benchmark, ("--table", "--results", "nowhere"), "nowhere"),
)
CASES = [
    *(Case("script", f"{option} {name}", with_good_files, script(module, *FIRST[module], option, text),
           (f"argument {option}",), named=False)
      for module, options in COUNTS.items() for option in options for name, text in NUMBERS.items()),
    *(Case("script", " ".join(line)[:60] or "nothing", with_good_files, script(module, *line), (words,), named=False)
      for module, line, words in LINES),
]
