"""The project as a whole: its commands, its settings, who imports whom, and what must not be in it."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAIN_JOB = "python3 -m venv .venv && .venv/bin/python -m pip install -e . && .venv/bin/python experiments/train.py"
TESTS = 'python3 -m venv .venv && .venv/bin/python -m pip install -e ".[test]" && .venv/bin/python -m pytest'


def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def tracked_files():
    """Return the files of the project, as git knows them, or else as they lie there."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        return [ROOT / name for name in names.decode().split("\0") if name and (ROOT / name).is_file()]
    skipped = {".git", ".venv", "runs", "__pycache__", "build", "dist"}
    return [path for path in ROOT.rglob("*") if path.is_file() and not skipped & set(path.relative_to(ROOT).parts)]


def sources(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def fenced_lines(text):
    """Return the lines inside a page's fenced code blocks."""
    return [line for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
            for line in block.splitlines()]


# --- commands and settings ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("command", [MAIN_JOB, TESTS], ids=["main job", "tests"])
def test_the_commands_stand_where_they_are_promised(command):
    lines = fenced_lines(text_of("README.md"))
    assert lines.count(command) == 1    # in a fenced block, to the letter: .ci/run takes it from there
    last = command.rpartition(" && ")[2]
    assert [line for line in lines if line.startswith("python3 -m venv .venv && ") and last in line] == [command]
    assert command in text_of(".github/workflows/test.yml")


def test_the_ci_script_is_valid_and_finds_the_commands():
    bash = shutil.which("bash")
    if bash is None or sys.platform == "win32":
        pytest.skip("there is no POSIX bash here")
    assert subprocess.run([bash, "-n", ".ci/run"], cwd=ROOT, check=False).returncode == 0
    function = re.search(r"^readme_line\(\) \{.*?^\}", text_of(".ci/run"), re.MULTILINE | re.DOTALL).group()
    for text, command in ((" experiments/train.py", MAIN_JOB), (" -m pytest", TESTS)):
        found = subprocess.run([bash, "-c", f'{function}\nreadme_line "{text}"'], cwd=ROOT, capture_output=True,
                               text=True, check=True)
        assert found.stdout == f"{command}\n"
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_extras_exist_and_hold_what_they_promise():
    extras = settings()["options.extras_require"]
    promised = {"test": {"pytest", "pytest-xdist", "hypothesis", "scipy"},
                "dev": {"coverage", "pytest-cov", "ruff", "mypy", "import-linter"},
                "compare": {"torch", "keras"}}
    for extra, names in promised.items():
        assert names <= {re.split(r"[<>=!~ ;]", line)[0] for line in extras[extra].split()}, extra
    pages = [path for path in tracked_files() if path.suffix in (".md", ".yml")]
    named = {extra for page in pages for found in re.findall(r'"\.\[([\w,]+)\]"', page.read_text(encoding="utf-8"))
             for extra in found.split(",")}
    assert "test" in named
    assert named <= set(extras), "a page names an extra that setup.cfg does not have"


def test_no_upper_bounds():
    options = settings()["options"]
    assert options["python_requires"] == ">=3.11"
    assert "<" not in options["install_requires"] + "".join(settings()["options.extras_require"].values())
    assert {re.split(">", line)[0] for line in options["install_requires"].split()} == {
        "numpy", "numba", "pandas", "matplotlib", "pillow", "tqdm", "threadpoolctl", "safetensors"}


def test_each_tool_is_set_in_one_place():
    assert set(tomllib.loads(text_of("pyproject.toml"))) == {"build-system"}
    assert {"tool:pytest", "coverage:run", "coverage:report", "mypy", "importlinter"} <= set(settings().sections())
    assert not any("ruff" in section or "flake8" in section for section in settings().sections())
    assert (ROOT / "ruff.toml").is_file()
    elsewhere = ("pytest.ini", "tox.ini", "mypy.ini", ".mypy.ini", ".ruff.toml", ".flake8", ".importlinter",
                 ".coveragerc", "setup.py")
    assert [name for name in elsewhere if (ROOT / name).exists()] == []
    assert settings()["tool:pytest"]["filterwarnings"].split() == ["error"]


def test_no_setting_leaves_tests_out():
    """What is left out by hand is seen as such; a setting that stays would be forgotten."""
    chosen = settings()["tool:pytest"]
    assert chosen["addopts"] == "-ra --strict-markers --strict-config"
    assert set(chosen) == {"testpaths", "pythonpath", "addopts", "xfail_strict", "markers", "filterwarnings"}
    texts = {path.name: path.read_text(encoding="utf-8") for path in tracked_files()
             if path.parent == ROOT / "tests" and path.suffix == ".py"}
    assert [name for name, text in texts.items() if re.search(r"^\s*collect_ignore", text, re.MULTILINE)] == []
    assert [name for name, text in texts.items() if name.startswith("test_")
            and not re.search(r"^def test_|^    def test_|^test_\w+ = ", text, re.MULTILINE)] == []


# --- coverage ----------------------------------------------------------------------------------------------------

NO_COVER = "# pragma: no cover"    # coverage's own word for it
MEASURED = "-m pytest --cov -n auto"    # pytest-cov puts together what the processes that share the tests have measured


def test_every_run_of_ci_measures_coverage():
    report = settings()["coverage:report"]
    assert (float(report["fail_under"]), report["precision"]) == (98, "2")    # else 97.6 would be rounded up to 98
    assert settings()["coverage:run"]["source"] == "minicnn"
    assert "omit" not in settings()["coverage:run"]
    assert "omit" not in report
    assert f"NUMBA_DISABLE_JIT=1 python {MEASURED}`" in text_of("README.md")
    assert f".venv/bin/python {MEASURED}\n" in text_of(".github/workflows/test.yml")


def test_the_line_that_ci_measures_is_the_one_it_promises():
    """The shell puts coverage behind the command of the README."""
    bash = shutil.which("bash")
    if bash is None or sys.platform == "win32":
        pytest.skip("there is no POSIX bash here")
    word, = re.findall(r'^step "tests without JIT, and coverage" typed (".*")$', text_of(".ci/run"), re.MULTILINE)
    done = subprocess.run([bash, "-c", f"printf %s {word}"], capture_output=True, text=True, check=True,
                          env={**os.environ, "tests": TESTS})
    assert done.stdout == f"NUMBA_DISABLE_JIT=1 .venv/bin/python {MEASURED}"


def test_what_is_not_covered_has_a_reason_and_stands_on_the_page():
    found = {(path.relative_to(ROOT).as_posix(), line.partition(NO_COVER)[2]) for path in sources("minicnn")
             for line in path.read_text(encoding="utf-8").splitlines() if NO_COVER in line}
    assert [place for place in found if not re.match(r" - \w+ \w+", place[1])] == []
    rows = re.findall(r"^\|.*?\| (`minicnn/.*?) \|.*\|$", text_of("CONTRIBUTING.md"), re.MULTILINE)
    assert sorted(re.findall(r"minicnn/[\w/]+\.py", " ".join(rows))) == sorted({name for name, _ in found})
    patterns = settings()["coverage:report"]["exclude_also"].split("\n")
    assert text_of("CONTRIBUTING.md").count("everywhere, by `setup.cfg`") == len([line for line in patterns if line])


@pytest.mark.skipif(importlib.util.find_spec("coverage") is None, reason="coverage is missing (extra dev)")
def test_little_is_left_out_of_the_count():
    """A pattern or a mark on the wrong line would take whole functions out."""
    import coverage
    measure = coverage.Coverage(data_file=None, config_file=str(ROOT / "setup.cfg"))
    counted = excluded = 0
    for path in sources("minicnn"):
        _, statements, left_out, _, _ = measure.analysis2(str(path))
        counted, excluded = counted + len(statements), excluded + len(left_out)
    assert counted > 5000
    assert 0 < excluded < 0.035 * counted  # most of it writes machine code for the vector type


# --- imports -----------------------------------------------------------------------------------------------------

# Where a package may be imported, even inside a function; what is not listed may be imported by nobody in minicnn.
ALLOWED = {
    "numba": ("minicnn/kernels/fast/",), "llvmlite": ("minicnn/kernels/fast/",),
    "matplotlib": ("minicnn/visualize/",), "pandas": ("minicnn/datasets/kaggle.py",), "PIL": (),
    "torch": (), "keras": (), "tensorflow": (), "scipy": (), "sklearn": (), "requests": (),
    "pickle": (), "cPickle": (), "shelve": (), "dill": (), "joblib": (), "marshal": (),
}


def imported(path):
    """Return the top-level packages a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_who_imports_what():
    wrong = {path.relative_to(ROOT).as_posix(): package for path in sources("minicnn") for package in imported(path)
             if package in ALLOWED and not path.relative_to(ROOT).as_posix().startswith(ALLOWED[package] or ("?",))}
    assert wrong == {}
    assert any("numba" in imported(path) for path in sources("minicnn/kernels/fast"))    # the scan does see imports


def lint_imports(folder):
    return subprocess.run([sys.executable, "-c", "from importlinter.cli import lint_imports; "
                           "raise SystemExit(lint_imports(no_cache=True))"], cwd=folder, capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(folder)}, check=False)


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="import-linter is missing (extra dev)")
def test_the_import_contracts_hold_and_bite(tmp_path):
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    shutil.copytree(ROOT / "minicnn", tmp_path / "minicnn", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    with open(tmp_path / "minicnn/layers/flatten.py", "a", encoding="utf-8") as file:
        file.write("\nimport matplotlib\nimport numba\nimport minicnn.models\n")
    result = lint_imports(tmp_path)
    assert result.returncode != 0
    for name in ("Imports point one way", "Only kernels/fast knows Numba", "Only visualize draws"):
        assert re.search(f"{name} *BROKEN", result.stdout), result.stdout


def test_importing_is_light_and_leaves_no_trace(tmp_path):
    code = ("import sys, minicnn, minicnn.datasets.mnist\n"
            "heavy = 'numba llvmlite matplotlib pandas torch keras tensorflow scipy tqdm.notebook'.split()\n"
            "print([name for name in heavy if name in sys.modules], minicnn.kernels._active)")
    home = {name: str(tmp_path) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME", "MPLCONFIGDIR",
                                             "MINICNN_CACHE_DIR")}
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True,
                            env={**os.environ, **home, "PYTHONPATH": str(ROOT)}, check=False)
    assert (result.stdout, result.stderr) == ("[] None\n", "")
    assert list(tmp_path.iterdir()) == []    # nothing compiled, downloaded or configured


# --- what must not be in it --------------------------------------------------------------------------------------

def test_nothing_is_pickled():
    for path in sources("minicnn") + sources("experiments"):
        assert not imported(path) & {"pickle", "cPickle", "shelve", "dill", "joblib"}, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                constant = isinstance(node.value, ast.Constant) and node.value.value
                assert constant is (node.arg == "weights_only"), f"{path}:{node.value.lineno}"


def test_only_the_mirrors_are_hosts_of_data():
    refused = ".".join(("yann", "lecun", "com"))    # not spelled out, or this file would be found
    mentions = [path for path in tracked_files() if path.suffix in (".py", ".md", ".cfg", ".toml", ".yml", ".sh", "")
                and refused in path.read_text(encoding="utf-8", errors="replace")]
    assert mentions == []
    hosts = {host for path in sources("minicnn/datasets") for host in re.findall(r"https?://([\w.-]+)", path.read_text(
        encoding="utf-8"))}
    assert {"ossci-datasets.s3.amazonaws.com", "storage.googleapis.com"} <= hosts
    assert "http://" not in (ROOT / "minicnn/datasets/mnist.py").read_text(encoding="utf-8")


def test_no_data_is_committed():
    names = [path.relative_to(ROOT).as_posix() for path in tracked_files()]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is committed cannot be told")
    assert [name for name in names if name.startswith("data/")] == ["data/README.md"]
    assert not [name for name in names if name.startswith("runs/") or name.endswith((".gz", "-ubyte", ".npz", ".pyc"))]


def test_the_digests_on_the_page_are_those_in_the_code():
    from minicnn.datasets import mnist
    page = text_of("data/README.md")
    for file in mnist.FILES:
        assert f"| `{file.name}.gz` | {file.size:,} | `{file.sha256}` |" in page
    for mirror in mnist.MIRRORS:
        assert f"`{mirror}`" in page
