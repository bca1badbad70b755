"""Recipes measured over seeds: one file each, which no other measurement is mixed into, and the README's table."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import accuracy
import folder
import recipes
import runs
from minicnn.datasets import mnist, strokes
from minicnn.errors import DownloadError
from toy_runs import press_in_epoch, toy_folder, toy_images

# Small networks on NumPy: nothing to compile, and the same with and without JIT.
pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


@pytest.fixture
def toys(tmp_path):
    """Return a folder of four IDX files, 96 training and 40 test images, called toys."""
    return toy_folder(tmp_path / "toys")


def measure(toys, tmp_path, *more):
    return accuracy.main(["dense", "--data", str(toys), "--epochs", "1", "--batch-size", "16", "--results",
                          str(tmp_path), *more])


def test_seeds_are_measured_once_and_summed_up(toys, tmp_path, monkeypatch, capsys):
    assert measure(toys, tmp_path, "--seeds", "0", "3") == 0
    path = tmp_path / "accuracy-dense-1-epochs-toys.json"
    before = json.loads(path.read_text(encoding="utf-8"))
    values = [result["accuracy"] for result in before["seeds"]]
    assert [result["seed"] for result in before["seeds"]] == [0, 3]
    assert before["accuracy_mean"] == pytest.approx(np.mean(values))
    assert before["accuracy_deviation"] == pytest.approx(np.std(values, ddof=1))
    assert before["command"].startswith("python experiments/accuracy.py dense --epochs 1")

    trained = []
    train_really = runs.Run.train
    monkeypatch.setattr(runs.Run, "train", lambda run: (trained.append(run.seed), train_really(run)))
    assert measure(toys, tmp_path, "--seeds", "0", "1", "3") == 0
    assert trained == [1]
    after = json.loads(path.read_text(encoding="utf-8"))
    assert [result["seed"] for result in after["seeds"]] == [0, 3, 1]
    assert after["seeds"][:2] == before["seeds"]
    assert measure(toys, tmp_path, "--seeds", "3", "--force") == 0
    assert trained == [1, 3]


def test_seeds_trained_otherwise_are_not_averaged(toys, tmp_path, capsys):
    assert measure(toys, tmp_path, "--seeds", "0") == 0
    assert measure(toys, tmp_path, "--seeds", "1", "--batch-size", "32") == 2
    assert "batch_size" in capsys.readouterr().err


def test_another_algorithm_is_measured_in_a_file_and_a_row_of_its_own(toys, tmp_path, monkeypatch):
    found = []
    train_really = runs.Run.train
    monkeypatch.setattr(runs.Run, "train", lambda run: (found.append(run), train_really(run)))

    def measure_simple(*more):
        assert accuracy.main(["simple_cnn", "--data", str(toys), "--epochs", "1", "--seeds", "0", "--results",
                              str(tmp_path), *more]) == 0
    measure_simple()
    measure_simple("--algorithm", "im2col", "--no-fuse")
    measure_simple("--algorithm", "im2col", "--no-fuse")  # from the file
    assert [(run.model.layers[0].algorithm, run.model.fuse) for run in found] == [("auto", True), ("im2col", False)]
    usual, other = (json.loads((tmp_path / f"accuracy-simple_cnn{way}-1-epochs-toys.json").read_text(encoding="utf-8"))
                    for way in ("", "-im2col-unfused"))
    assert (usual["algorithm"], usual["fuse"]) == ("auto", True)
    assert (other["seeds"][0]["algorithm"], other["seeds"][0]["fuse"]) == ("im2col", False)
    assert other["command"].endswith("--algorithm im2col --no-fuse")
    rows = accuracy.table([other, usual]).splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == ["`simple_cnn`", "`simple_cnn`, im2col, unfused"]


def test_an_algorithm_for_convolutions_is_refused_where_there_are_none(toys, tmp_path, capsys):
    assert measure(toys, tmp_path, "--algorithm", "im2col") == 2
    assert "dense has no convolution that --algorithm im2col could compute" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.json"))


def test_the_fast_path_was_measured_with_the_seeds_of_the_other_and_ends_alike():
    """Five epochs of `cnn`, as committed: within two standard errors of each other."""
    usual, other = (json.loads((accuracy.HERE / f"results/accuracy-cnn{way}-5-epochs.json").read_text(encoding="utf-8"))
                    for way in ("", "-im2col-unfused"))
    assert [seed["seed"] for seed in usual["seeds"]] == [seed["seed"] for seed in other["seeds"]] == [0, 1, 2]
    assert {(seed["algorithm"], seed["fuse"]) for seed in usual["seeds"]} == {("auto", True)}
    assert {(seed["algorithm"], seed["fuse"]) for seed in other["seeds"]} == {("im2col", False)}
    error = np.hypot(usual["accuracy_deviation"], other["accuracy_deviation"]) / np.sqrt(3)
    assert abs(usual["accuracy_mean"] - other["accuracy_mean"]) < 2 * error


def test_a_file_from_before_there_were_algorithms_takes_more_seeds(toys, tmp_path):
    assert measure(toys, tmp_path, "--seeds", "0") == 0
    path = tmp_path / "accuracy-dense-1-epochs-toys.json"
    file = json.loads(path.read_text(encoding="utf-8"))
    for place in (file, *file["seeds"]):
        del place["algorithm"], place["fuse"]
    path.write_text(json.dumps(file), encoding="utf-8")
    assert measure(toys, tmp_path, "--seeds", "1") == 0
    assert len(json.loads(path.read_text(encoding="utf-8"))["seeds"]) == 2


def test_an_interrupted_seed_is_not_recorded(toys, tmp_path, monkeypatch):
    press_in_epoch(0, monkeypatch)
    assert measure(toys, tmp_path, "--seeds", "0") == 130
    assert not list(tmp_path.glob("*.json"))


def test_training_on_one_data_set_and_judging_on_another_names_both(toys, tmp_path, monkeypatch):
    monkeypatch.setattr(strokes, "load_data", lambda: (toy_images(48), toy_images(10, seed=2)))
    assert accuracy.main(["dense", "--data", "strokes", "--test", str(toys), "--epochs", "1", "--seeds", "0",
                          "--results", str(tmp_path)]) == 0
    file = json.loads((tmp_path / "accuracy-dense-1-epochs-strokes-to-toys.json").read_text(encoding="utf-8"))
    assert (file["trained_on"], file["tested_on"], file["seeds"][0]["total"]) == ("strokes", "toys", 40)


def test_mnist_is_never_replaced_when_it_is_measured(tmp_path, monkeypatch, capsys):
    def refuse():
        raise DownloadError("no mirror answered")
    monkeypatch.setattr(mnist, "load_data", refuse)
    assert accuracy.main(["dense", "--results", str(tmp_path)]) == 2
    assert "no mirror answered" in capsys.readouterr().err


def test_the_table_replaces_what_is_between_the_markers(toys, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# Before\n{accuracy.BEGIN}\nold\n{accuracy.END}\nafter\n", encoding="utf-8")
    assert measure(toys, tmp_path, "--seeds", "0", "1", "--table", "--readme", str(readme)) == 0
    text = readme.read_text(encoding="utf-8")
    file = json.loads((tmp_path / "accuracy-dense-1-epochs-toys.json").read_text(encoding="utf-8"))
    assert text.startswith(f"# Before\n{accuracy.BEGIN}\n| recipe |")
    assert text.endswith(f"|\n{accuracy.END}\nafter\n")
    assert f"{100 * file['accuracy_mean']:.2f} ± {100 * file['accuracy_deviation']:.2f}" in text
    assert "old" not in text
    assert accuracy.main(["--table", "--results", str(tmp_path), "--readme", str(readme)]) == 0
    assert readme.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("text", ["no markers", f"{accuracy.END} the wrong way round {accuracy.BEGIN}"])
def test_a_readme_without_markers_is_left_alone(text, tmp_path, capsys):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    (tmp_path / "accuracy-x.json").write_text("{}")
    assert accuracy.main(["--table", "--results", str(tmp_path), "--readme", str(readme)]) == 2
    assert "results:begin" in capsys.readouterr().err
    assert readme.read_text() == text


@pytest.mark.usefixtures("no_pictures")
def test_several_recipes_are_measured_one_after_the_other_and_their_runs_kept(toys, tmp_path, monkeypatch):
    small = dataclasses.replace(recipes.find("dense"), name="cnn", full=recipes.find("dense").training)
    monkeypatch.setattr(recipes, "RECIPES", {"dense": recipes.find("dense"), "cnn": small})
    assert accuracy.main(["all", "--full", "--data", str(toys), "--epochs", "1", "--seeds", "0", "1", "--results",
                          str(tmp_path / "results"), "--keep", str(tmp_path / "kept")]) == 0
    files = [json.loads((tmp_path / "results" / f"accuracy-{name}-1-epochs-toys.json").read_text(encoding="utf-8"))
             for name in ("dense", "cnn-full")]
    assert [file["full"] for file in files] == [False, True]
    for file, name in zip(files, ("dense", "cnn-full")):
        for record in file["seeds"]:
            saved = folder.read(str(tmp_path / "kept" / f"{name}-seed-{record['seed']}-1"))
            assert saved.right.sum() == record["correct"]
            assert saved.result["weights_sha256"] == record["weights_sha256"]
            assert saved.result["command"].endswith(f"--full --epochs 1 --data {toys} --seeds {record['seed']}")


def test_the_table_says_what_others_report_and_how_many_epochs_it_took(toys, tmp_path):
    assert measure(toys, tmp_path, "--seeds", "0") == 0
    file = json.loads((tmp_path / "accuracy-dense-1-epochs-toys.json").read_text(encoding="utf-8"))
    head, _, row = accuracy.table([file]).splitlines()
    column = [cell.strip() for cell in head.split("|")].index("others report %")
    assert row.split("|")[column].strip() == "–"    # not on toys
    early = file | {"trained_on": "MNIST", "recipe": "cnn", "full": True, "seeds": [{"total": 9, "epochs": 12},
                                                                                 {"total": 9, "epochs": 20}]}
    row = accuracy.table([early]).splitlines()[2]
    assert row.split("|")[column].strip() == "99.5"
    assert "| `cnn --full` | MNIST |" in row
    assert "| 12 to 20 |" in row


def test_accuracy_without_a_recipe_says_what_is_missing(capsys):
    assert accuracy.main([]) == 2
    assert "recipe" in capsys.readouterr().err
