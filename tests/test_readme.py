"""The README's Python runs as it stands there, and prints what stands there; its scorecard says what is asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import proof
from conftest import NO_JIT
from minicnn import _contract_clauses, kernels
from minicnn._contract_subject import CLAUSES
from minicnn.datasets import mnist
from minicnn.layers import LAYERS
from minicnn.testing import ContractError, check_layer_contract
from mistakes import ALL

TESTS = Path(__file__).parent
README = TESTS.resolve().parent / "README.md"
IMAGES = 256    # of MNIST, in place of 60,000


class Block(NamedTuple):
    """One fenced block: its language, its first line's number, its text, and whether it follows the last at once."""

    language: str
    line: int
    text: str
    at_once: bool


def sections():
    """Return the fenced blocks of each section, by its heading."""
    found, heading, end = {}, "", 0
    text = README.read_text(encoding="utf-8")
    for match in re.finditer(r"^## (?P<heading>[^\n]*)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", text,
                             re.MULTILINE | re.DOTALL):
        if match["heading"]:
            heading = match["heading"]
            continue
        line = text[:match.start()].count("\n") + 2
        at_once = not text[end:match.start()].strip()
        found.setdefault(heading, []).append(Block(match["language"], line, match["text"], at_once))
        end = match.end()
    return found


SECTIONS = sections()
OWN_LAYER = "Write your own layer"


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if NO_JIT:    # real images would take plain Python loops minutes
        monkeypatch.setattr(kernels, "_active", kernels._active)
        monkeypatch.setattr(_contract_clauses, "LARGE", 200)
        kernels.use("reference")


def run(heading, capsys):
    """Run the Python of a section, block after block as in one program; compare what is printed where it is shown."""
    names = {"__name__": "readme"}
    ran = shown = 0
    printed = ""
    for block in SECTIONS[heading]:
        if block.language == "python":
            capsys.readouterr()
            code = "\n" * (block.line - 1) + block.text    # so that errors name the README's lines
            exec(compile(code, "README.md", "exec"), names)
            printed, ran = capsys.readouterr().out, ran + 1
        elif block.language == "text" and block.at_once:
            assert without_rounding(printed) == without_rounding(block.text), f"README.md, line {block.line}"
            shown += 1
    return names, ran, shown


def without_rounding(text):
    """Blank what depends on the machine: rounding errors, where the worst is, and the kernels of a run without JIT."""
    text = re.sub(r"\b\d\.\de[-+]\d\d\b", "ERROR", text)
    text = re.sub(r"random direction|\(\d+,[\d, ]*\)", "WHERE", text)
    return re.sub(r"\b(fast|reference) kernels", "SET kernels", re.sub(r" +", " ", text))


def test_every_block_of_python_is_run_here():
    python = {heading: sum(block.language == "python" for block in blocks) for heading, blocks in SECTIONS.items()}
    assert {heading: count for heading, count in python.items() if count} == {"A network in ten lines": 1, OWN_LAYER: 4}
    assert {block.language for blocks in SECTIONS.values() for block in blocks} <= {"", "python", "text"}
    assert sum(map(len, SECTIONS.values())) == README.read_text(encoding="utf-8").count("```") / 2


@pytest.mark.needs("mnist")
def test_a_network_in_ten_lines(monkeypatch, capsys, tmp_path):
    """As written, on a few images: reading is real, the training short."""
    whole = mnist.load_data
    monkeypatch.setattr(mnist, "load_data", lambda: tuple((x[:IMAGES], y[:IMAGES]) for x, y in whole()))
    names, ran, _ = run("A network in ten lines", capsys)
    assert ran == 1
    assert names["x_train"].shape == (IMAGES, 28, 28)
    assert names["model"].predict(names["x_test"][..., None] / 255).shape == (IMAGES, 10)
    assert (tmp_path / "digits.safetensors").is_file()


def test_write_your_own_layer(capsys, tmp_path):
    names, ran, shown = run(OWN_LAYER, capsys)
    assert (ran, shown) == (4, 2)
    layer = names["loaded"].layers[1]
    assert type(layer) is names["PReLU"]
    assert not np.array_equal(layer.params["slope"], np.full(8, 0.1, np.float32))    # it has learned
    assert (tmp_path / "prelu.safetensors").is_file()


def test_the_refusal_shown_is_what_it_says():
    first, refusal = SECTIONS[OWN_LAYER][0], SECTIONS[OWN_LAYER][-2]
    assert refusal.language == "text"
    assert not refusal.at_once
    without_config, count = re.subn(r"\n    def config\(self\):.*\Z", "", first.text, flags=re.DOTALL)
    assert count == 1
    names = {"__name__": "readme"}
    exec(without_config, names)
    with pytest.raises(ContractError) as caught:
        check_layer_contract(names["PReLU"](0.1), (5, 4, 3))
    assert str(caught.value).endswith(f"\n\n{refusal.text.rstrip()}")


# --- the scorecard -----------------------------------------------------------------------------------------------

FIGURES = {    # the counts in each row, which are the least that a whole run accepts
    "Exact": [proof.SECTIONS[f"{kind} geometries"].minimum for kind in ("conv", "pooling", "dense")],
    "Gradients": [proof.SECTIONS["gradients"].minimum], "Laws": [proof.SECTIONS["laws"].minimum],
    "Parity": [proof.SECTIONS["parity"].minimum], "Training": [proof.SECTIONS["training curves"].minimum],
    "Mistakes": [proof.SECTIONS[f"mistakes {what}"].minimum for what in ("tried", "caught")],
    "Diagnosis": [proof.SECTIONS[what].minimum for what in ("diagnoses tried", "diagnoses right", "right layers")],
    "Contract": [len(CLAUSES)], "Watched": [len(LAYERS), proof.SECTIONS["indices checked"].minimum], "Covered": [],
    "Refused": [proof.SECTIONS[what].minimum for what in ("bad input", "damage", "files fuzzed")]}


def scorecard():
    """Return (figure, command) of each row, by the word in bold it begins with."""
    rows = re.findall(r"^\| \*\*(\w+)\*\*[^|]*\| ([^|]*) \| `([^|`]*)` \|$", README.read_text(encoding="utf-8"),
                      re.MULTILINE)
    return {claim: (figure, command) for claim, figure, command in rows}


def test_the_scorecard_says_what_a_whole_run_asks_for():
    assert scorecard().keys() == FIGURES.keys()
    assert FIGURES["Mistakes"] == [len(ALL)] * 2, "a run that tries fewer than the catalogue has must fail"
    for claim, (figure, _) in scorecard().items():
        assert [count for count in FIGURES[claim] if f"{count:,}" not in re.findall(r"[\d,.]*\d", figure)] == [], claim


def test_the_scorecards_commands_run_the_tests_that_record():
    """Each row names a test file that records something, and each such file is in a row."""
    files = {path.name: path.read_text(encoding="utf-8") for path in TESTS.glob("test_*.py")}
    recording = {name for name, text in files.items()
                 if re.search(r"^    +(proof\.)?record\(|^@law\(", text, re.MULTILINE)} - {"test_proof.py"}
    named = set()
    for claim, (_, command) in scorecard().items():
        words = command.partition("python -m pytest ")[2].split()
        chosen = {name for name in files for word in words
                  if (word == f"tests/{name}" if "-k" not in words else word != "-k" and word in name)}
        assert claim == "Covered" or chosen & recording, f"{claim}: {command}"
        named |= chosen
    assert recording <= named
