"""What the benchmark makes of its times: tables, pages, pictures, and its command line."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path

import pytest

import benchmark
import benchmark_against
import benchmark_algorithms
import benchmark_ladder
import benchmark_plots
import benchmark_scaling
import benchmark_tables as tables

ROOT = Path(benchmark.__file__).parents[1]
WHERE = {"machine": {"processor": "a processor", "threads": 2}, "repeats": 7,
         "versions": {"minicnn": "1.2", "numpy": "2.3", "numba": "0.9"}}
SIDES = {"minicnn": {}, "torch": {"versions": {"torch": "2.99"}, "settings": "eager"}}
AGAINST = WHERE | {
    "kind": "against", "sides": SIDES, "missing": {"keras": "No module named 'keras'"},
    "workloads": [{"title": title, "network": name, "work": work, "batch_size": N,
                   "medians": {"minicnn": a, "torch": b}}
                  for title, name, work, N, a, b in (
                      ("`cnn`", "cnn", "train", 128, 40.0, 100.0), ("another", "dense", "infer", 1024, 2.0, 1.0))],
    "first_step": {"medians": {"minicnn, cold": 9.04, "minicnn": 1.5, "torch": 2.5},
                   "seconds": {"minicnn, cold": [9.0, 9.04, 9.1], "minicnn": [1.5] * 3, "torch": [2.5] * 3}},
    "peak_memory": {"megabytes": {"minicnn": 432.1, "torch": 1234.5}}}
LADDER = WHERE | {
    "kind": "ladder",
    "convolution": {"shape": [128, 28, 20, 32], "kernel": [5, 5, 32, 48], "operations": {"forward": 10**9,
                                                                                        "backward": 2 * 10**9},
                    "rungs": [{"title": "loops", "error": {"out": 4e-8, "dx": 5e-7, "dw": 6e-7},
                               "forward": {"median": 500.0, "milliseconds": [500.0]}, "backward": {"median": 50.0}},
                              {"title": "Winograd", "error": {"out": 4e-6, "dx": 5e-6, "dw": 6e-6},
                               "forward": {"median": 5.0, "milliseconds": [5.0] * 21}, "backward": {"median": 4.0}}]},
    "step": {"network": "cnn", "batch_size": 128, "rungs": [
        {"title": "fused", "error": 3e-6, "train": {"median": 36.0}, "infer": {"median": 9.0}}]}}
SCALING = WHERE | {
    "kind": "scaling", "sides": SIDES, "missing": {},
    "points": [{"axis": axis, "value": value, "batch_size": 32, "per_image": {
        "train": {"minicnn": 0.25 * k, "torch": 0.5 * k}, "infer": {"minicnn": 0.1, "torch": 0.4}}}
        for axis, values in (("batch", (128, 1024)), ("image", (28, 56)), ("channels", (32, 128)), ("threads", (1, 2)))
        for k, value in enumerate(values, 1)]}
ALGORITHMS = WHERE | {
    "kind": "algorithms",
    "rows": [{"title": "3x3, 32 to 32 channels, 28x28", "auto": "winograd", "saved": 2.25,
              "medians": {"winograd": 2.0, "direct": 5.0, "im2col": 1.0}},
             {"title": "7x7", "auto": "direct", "saved": None, "medians": {"direct": 5.0, "im2col": 10.0}}]}
RESULTS = {"against": AGAINST, "ladder": LADDER, "scaling": SCALING, "algorithms": ALGORITHMS}


@pytest.fixture
def pages(tmp_path):
    """Return copies of docs/speed.md and of the README."""
    return [Path(shutil.copy(ROOT / name, tmp_path / Path(name).name)) for name in ("docs/speed.md", "README.md")]


def options(tmp_path, pages):
    return ["--table", "--results", str(tmp_path), "--page", str(pages[0]), "--readme", str(pages[1])]


# --- tables ------------------------------------------------------------------------------------------------------

def test_a_comparison_shows_times_and_how_many_times_ours():
    head, rows = tables.against(AGAINST)
    assert head == ["network", "what", "images", "minicnn", "PyTorch"]
    assert rows == [["`cnn`", "training step", "128", "40.0 ms", "100 ms, 2.50x"],
                    ["another", "inference", "1,024", "2.00 ms", "1.00 ms, 0.50x"]]
    assert tables.short(AGAINST)[1] == rows[:1]
    assert tables.processes(AGAINST)[1] == [["minicnn", "9.0 s", "1.5 s", "432 MB"],
                                            ["PyTorch", "-", "2.5 s", "1,234 MB"]]


def test_the_ladder_shows_speed_and_error():
    assert tables.ladder(LADDER)[1][0] == ["loops", "500 ms", "2", "4e-08", "50.0 ms", "40", "5e-07", "6e-07"]
    assert tables.steps(LADDER)[1] == [["fused", "36.0 ms", "9.00 ms", "3e-06"]]


def test_growth_shows_microseconds_and_factors():
    head, rows = tables.scaling(SCALING)
    assert rows[3] == ["pixels a side", "56", "32", "500", "1,000, 2.00x", "100", "400, 4.00x"]
    assert len(head) == len(rows[0])
    one = copy.deepcopy(SCALING["points"][0])
    del one["per_image"]["train"]
    assert tables.scaling(SCALING | {"points": [one]})[1] == [[*rows[0][:3], "-", "-", *rows[0][5:]]]
    assert tables.growths(SCALING)[1][0] == ["batch of 1024 over 128", "training step", "2.00", "2.00"]


def test_algorithms_stand_beside_the_one_that_is_chosen():
    assert tables.algorithms(ALGORITHMS)[1] == [
        ["3x3, 32 to 32 channels, 28x28", "2.25", "2.00 ms", "5.00 ms, 2.50x", "1.00 ms, 0.50x", "winograd"],
        ["7x7", "-", "-", "5.00 ms", "10.0 ms, 2.00x", "direct"]]


@pytest.mark.parametrize("kind", RESULTS)
def test_a_report_says_where_it_was_measured(kind):
    text = tables.report(RESULTS[kind])
    assert "a processor, 2 threads, float32; minicnn 1.2 with NumPy 2.3 and Numba 0.9" in text
    assert "Medians of 7 turns." in text
    assert ("PyTorch (torch 2.99; eager)" in text) is (kind in ("against", "scaling"))
    assert ("TensorFlow was not there: No module named 'keras'" in text) is (kind == "against")


def test_each_table_says_how_often_it_was_measured():
    sides = SIDES | {"torch-bf16": {"versions": {"torch": "2.99"}, "settings": "bf16"}}
    found = AGAINST | {"sides": sides}
    assert "PyTorch bf16 (torch 2.99; bf16). Medians of 7 turns." in tables.caption("against", found)
    assert "PyTorch (torch 2.99; eager). Times are medians of 3 processes, memory is that of one." in tables.caption(
        "processes", found)
    assert "Medians of 21 calls, of 1 for “loops”." in tables.caption("ladder", LADDER)
    assert "Medians of 7 turns." in tables.caption("steps", LADDER)


# --- pages -------------------------------------------------------------------------------------------------------

def test_no_number_in_the_tables_is_typed_by_hand(pages):
    """The tables are what the script makes of the committed results, to the letter."""
    before = [page.read_text(encoding="utf-8") for page in pages]
    tables.rewrite(ROOT / "experiments/results", *pages)
    assert [page.read_text(encoding="utf-8") for page in pages] == before


def test_tables_go_between_their_markers(tmp_path, pages, capsys):
    for kind in ("against", "ladder"):
        (tmp_path / tables.FILES[kind]).write_text(json.dumps(RESULTS[kind]), encoding="utf-8")
    assert benchmark.main(options(tmp_path, pages)) == 0
    page, readme = (path.read_text(encoding="utf-8") for path in pages)
    assert "| `cnn` | training step | 128 | 40.0 ms | 100 ms, 2.50x |" in page
    assert "| loops | 500 ms |" in page
    assert "*Not measured yet: `python experiments/benchmark.py --scaling --table`*" in page
    assert "| `cnn` | training step | 128 | 40.0 ms | 100 ms, 2.50x |" in readme
    assert "another" not in readme.split("<!-- speed:begin -->")[1].split("<!-- speed:end -->")[0]
    assert "against, ladder" in capsys.readouterr().out


@pytest.mark.parametrize("which", [0, 1])
def test_pages_without_a_marker_are_left_alone(tmp_path, pages, capsys, which):
    text = pages[which].read_text(encoding="utf-8").replace("<!-- speed:end -->", "").replace("<!-- steps:end -->", "")
    pages[which].write_text(text, encoding="utf-8")
    (tmp_path / "benchmark.json").write_text(json.dumps(AGAINST), encoding="utf-8")
    before = [page.read_text(encoding="utf-8") for page in pages]
    assert benchmark.main(options(tmp_path, pages)) == 2
    assert ("steps:end", "speed:end")[which] in capsys.readouterr().err
    assert [page.read_text(encoding="utf-8") for page in pages] == before


# --- pictures ----------------------------------------------------------------------------------------------------

def words_of(figure):
    from matplotlib.text import Text
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize(("kind", "words"), [
    ("against", ["training step, 128 images", "2.50", "0.50", "PyTorch", "multiple of minicnn's"]),
    ("scaling", ["images in a batch", "pixels a side", "microseconds an image", "PyTorch, inference", "1,024"]),
    ("algorithms", ["3x3, 32 to 32 channels, 28x28: winograd", "2.50", "0.50", "im2col", "auto's choice"]),
    ("ladder", ["5x5, 32 to 48 channels, 28x20 pixels, 128 images", "500 ms", "milliseconds", "fused"])])
def test_a_picture_names_what_it_shows(kind, words):
    shown = words_of(benchmark_plots.PLOTS[kind](RESULTS[kind]))
    assert [word for word in words if word not in shown] == []
    assert f"a processor, {'up to ' * (kind == 'scaling')}2 threads, float32" in shown


# --- the command line --------------------------------------------------------------------------------------------

@pytest.fixture
def asked(monkeypatch, threads):
    """Note what is to be measured; nothing is."""
    calls = []
    for kind, module in (("against", benchmark_against), ("scaling", benchmark_scaling), ("ladder", benchmark_ladder),
                         ("algorithms", benchmark_algorithms)):
        def measure(*arguments, kind=kind):
            calls.append((kind, *arguments))
            return copy.deepcopy(RESULTS[kind])
        monkeypatch.setattr(module, "measure", measure)
    return calls


@pytest.mark.parametrize(("line", "call"), [
    ("", ("against", ["minicnn", "torch", "torch-bf16"], 2, 10, {})),
    ("--against torch,keras --repeats 3", ("against", ["minicnn", "torch", "torch-bf16", "keras"], 2, 3, {})),
    ("--against keras", ("against", ["minicnn", "keras"], 2, 10, {})),
    (f"--python torch={sys.executable}", ("against", ["minicnn", "torch", "torch-bf16"], 2, 10, {
        "torch": sys.executable, "torch-bf16": sys.executable})),
    ("--scaling", ("scaling", ["minicnn", "torch"], 2, 10, {})),
    ("--ladder --repeats 4", ("ladder", 4)), ("--algorithms", ("algorithms", 10))])
def test_what_is_asked_for_is_measured_and_written(line, call, asked, tmp_path, capsys):
    data, picture = tmp_path / "x.json", tmp_path / "x.png"
    assert benchmark.main([*line.split(), "--threads", "2", "--json", str(data), "--plot", str(picture)]) == 0
    assert asked == [call]
    assert json.loads(data.read_text(encoding="utf-8")) == RESULTS[call[0]]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert tables.report(RESULTS[call[0]]) in capsys.readouterr().out


def test_a_measurement_with_table_is_kept_and_goes_into_the_pages(asked, tmp_path, pages):
    assert benchmark.main(["--ladder", *options(tmp_path, pages)]) == 0
    assert json.loads((tmp_path / "ladder.json").read_text(encoding="utf-8")) == LADDER
    assert "| loops | 500 ms |" in pages[0].read_text(encoding="utf-8")


@pytest.mark.parametrize(("line", "words"), [
    ("--against jax", "torch, keras"), ("--against torch,torch", "each once"), ("--python torch", "NAME=FILE"),
    ("--python nobody=x", "NAME=FILE"), ("--ladder --scaling", "not allowed"), ("--repeats 0", "at least 1")])
def test_a_wrong_line_is_refused_in_a_sentence(line, words, asked, capsys):
    assert benchmark.main(line.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert words in error
    assert asked == []
