"""The pinned lists say what they should, and envs/run makes environments of them once."""

import ast
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from core.frameworks import FRAMEWORKS

ROOT = Path(__file__).parents[2]
NAMES = ("main", "tensorflow")
ASKED_FOR = {
    "matplotlib",
    "pandas",
    "paramiko",
    "psutil",
    "snakemake",
    "tensorflow",
    "tensorflow-addons",
    "tensorflow-datasets",
    "torch",
    "torchvision",
    "vit-keras",
}
PIN = re.compile(r"^([\w.-]+)==([\w.]+)( ; [\w ]+ (==|!=|<|>=) \"[\w.]+\".*)?(\s+#.*)?$")


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()


def lines(name: str) -> list[str]:
    text = (ROOT / "envs" / f"{name}.txt").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def pins(name: str) -> set[str]:
    return {normal(line.split("==")[0]) for line in lines(name)}


# The lists


@pytest.mark.parametrize("name", NAMES)
def test_every_line_is_pinned(name):
    assert [line for line in lines(name) if not PIN.match(line)] == []


def test_the_packages_asked_for_are_pinned():
    assert ASKED_FOR - pins("main") - pins("tensorflow") == set()


@pytest.mark.parametrize("name", NAMES)
def test_conda_says_the_same(name):
    conda = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text())
    listed = (ROOT / "envs" / f"{name}.txt").read_text()
    best_python = re.search(r"^# Python: (\S+)", listed, re.MULTILINE)[1]
    assert conda["dependencies"] == [
        f"python={best_python}",
        "pip",
        {"pip": [f"-r {name}.txt", "-e .."]},
    ]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_installed_without_a_pin(name):
    installed = list((ROOT / ".envs" / name).glob("lib/python3.*/site-packages"))
    if not installed:
        pytest.skip(f"the environment {name} is not made (envs/run {name})")
    packages = importlib.metadata.distributions(path=[str(installed[0])])
    # torch chooses what it needs for a GPU.
    unpinned = {
        normal(p.name)
        for p in packages
        if not re.match(r"edge.training|nvidia|cuda|triton", p.name)
    }
    assert unpinned - pins(name) == set()


@pytest.mark.parametrize("name", NAMES)
def test_what_core_needs_is_in_both_environments(name):
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {normal(package) for package in project["dependencies"]} - pins(name) == set()


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS.keys())
def test_every_framework_has_an_environment_that_holds_it_and_a_backend(framework):
    assert framework.environment in NAMES
    module, _, name = framework.backend.partition(":")
    path = ROOT / f"{module.replace('.', '/')}.py"
    tree = ast.parse(path.read_text())
    classes = [node.name for node in tree.body if isinstance(node, ast.ClassDef)]
    assert name in classes
    imported = {
        alias.name.split(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    trains = {"tensorflow", "torch"} & imported
    assert len(trains) == 1  # and no two of them in one process
    assert trains <= pins(framework.environment)


# The launcher, on a copy with a stand-in for Python: what it is asked to do is written down.

STAND_IN = """#!/bin/sh
case "$1 $2" in
  "-c "*) echo "$0" ;;
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo venv >>"$NOTES" ;;
  "-m pip")
    echo "pip $*" >>"$NOTES"
    echo "pip's own words"
    while [ -e "$NOTES.hold" ]; do sleep 0.05; done
    exit "${PIP_STATUS:-0}" ;;
esac
"""


class Checkout:
    """A checkout with one environment, `toy`, and a PATH that has only the stand-in."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a check out"
        self.notes = folder / "notes"
        self.hold = folder / "notes.hold"
        self.bin = folder / "bin"
        self.env = {"PATH": f"{self.bin}:/usr/bin:/bin", "NOTES": str(self.notes)}
        (self.root / "envs").mkdir(parents=True)
        self.bin.mkdir()
        self.notes.touch()
        shutil.copy(ROOT / "envs" / "run", self.root / "envs")
        self.list = self.root / "envs" / "toy.txt"
        self.list.write_text("# Python: 3.98 3.97\n")
        self.script(self.bin / "python3.98", STAND_IN)

    @staticmethod
    def script(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / "envs" / "run", *arguments],
            env=self.env | settings,
            cwd="/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, **settings) as process:
            out, err = process.communicate(timeout=60)
            return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def builds(self) -> int:
        return self.notes.read_text().split("\n").count("venv")


@pytest.fixture
def checkout(tmp_path):
    return Checkout(tmp_path)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited for 30 s"
        time.sleep(0.02)


def test_the_first_use_makes_the_environment_and_runs_the_command_in_it(checkout):
    done = checkout.run("toy", "sh", "-c", 'echo "${PATH%%:*}"; exit 5')
    assert (done.returncode, done.stdout) == (5, f"{checkout.root}/.envs/toy/bin\n")
    assert "toy: making .envs/toy" in done.stderr
    assert re.search(r"toy: ready after \d+ s", done.stderr)
    installs = [line for line in checkout.notes.read_text().splitlines() if "pip" in line]
    assert installs[0].endswith(f"-r {checkout.list}")
    assert installs[1].endswith(f"--no-deps --no-build-isolation -e {checkout.root}")
    assert (checkout.root / ".envs" / "toy.log").read_text().count("pip's own words") == 2


def test_a_second_use_makes_nothing_and_says_nothing(checkout):
    checkout.run("toy")
    done = checkout.run("toy", "echo", "two  words")
    assert (done.stdout, done.stderr, checkout.builds()) == ("two  words\n", "", 1)


def test_an_environment_that_exists_costs_less_than_50_ms(checkout):
    checkout.run("toy")

    def seconds() -> float:
        began = time.perf_counter()
        checkout.run("toy", "true")
        return time.perf_counter() - began

    assert min(seconds() for _ in range(10)) < 0.05


def test_a_changed_list_makes_the_environment_again(checkout):
    checkout.run("toy")
    left_over = checkout.root / ".envs" / "toy" / "left over"
    left_over.touch()
    checkout.list.write_text(checkout.list.read_text() + "new==1\n")
    assert checkout.run("toy", "true").returncode == 0
    assert (checkout.builds(), left_over.exists()) == (2, False)


def test_a_moved_checkout_makes_the_environment_again(checkout):
    checkout.run("toy")
    checkout.root = checkout.root.rename(checkout.root.with_name("moved"))
    assert checkout.run("toy", "true").returncode == 0
    assert checkout.builds() == 2


def test_two_at_once_make_it_once_and_the_second_says_that_it_waits(checkout):
    checkout.hold.touch()
    first = checkout.start("toy", "echo", "first")
    wait_until(lambda: "pip" in checkout.notes.read_text())
    second = checkout.start("toy", "echo", "second")
    assert "toy: waiting for another process" in second.stderr.readline()
    checkout.hold.unlink()
    assert first.communicate(timeout=30)[0] == "first\n"
    assert second.communicate(timeout=30)[0] == "second\n"
    assert checkout.builds() == 1


@pytest.mark.parametrize("kill", [os.killpg, os.kill], ids=["all of it", "the launcher alone"])
def test_an_environment_killed_half_way_is_made_again(checkout, kill):
    checkout.hold.touch()
    with checkout.start("toy", "true") as process:
        wait_until(lambda: "pip" in checkout.notes.read_text())
        kill(process.pid, signal.SIGKILL)
        checkout.hold.unlink()
    assert checkout.run("toy", "true").returncode == 0
    assert checkout.builds() == 2


def test_a_failed_installation_shows_the_end_of_its_log_and_is_tried_again(checkout):
    failed = checkout.run("toy", "true", PIP_STATUS="1")
    assert failed.returncode == 8
    assert "failed at: 0 packages. The end of .envs/toy.log:\npip's own words\n" in failed.stderr
    assert "PIP_FIND_LINKS" in failed.stderr
    assert checkout.run("toy", "true").returncode == 0
    assert checkout.builds() == 2


def test_an_unknown_name_lists_the_known_ones(checkout):
    shutil.copy(checkout.list, checkout.list.with_name("other.txt"))
    done = checkout.run("nope", "true")
    assert done.returncode == 2
    assert done.stderr == 'envs/run: there is no environment "nope"; there are: other toy\n'


def test_a_missing_interpreter_is_named_with_what_was_found_and_the_way_out(checkout):
    (checkout.bin / "python3.98").unlink()
    checkout.script(checkout.bin / "python3.97", "echo cannot start >&2; exit 1")
    (checkout.bin / "python3").symlink_to(sys.executable)
    done = checkout.run("toy", "true")
    assert done.returncode == 8
    assert "toy needs Python 3.98 or 3.97." in done.stderr
    assert "Looked for python3.98, python3.97, python3 and python in PATH" in done.stderr
    assert f"  {checkout.bin}/python3.97: cannot start\n" in done.stderr
    version = "{}.{}".format(*sys.version_info)
    assert f"  {checkout.bin}/python3: is Python {version}\n" in done.stderr
    assert "conda env create -f envs/toy.yaml -p .envs/toy" in done.stderr


def test_an_environment_made_by_conda_is_used_as_it_is(checkout):
    (checkout.root / ".envs" / "toy" / "conda-meta").mkdir(parents=True)
    done = checkout.run("toy", "echo", "ran")
    assert (done.stdout, done.stderr, checkout.builds()) == ("ran\n", "", 0)


def test_without_arguments_it_says_how_to_use_it(checkout):
    done = checkout.run()
    assert done.returncode == 2
    assert "usage: envs/run NAME" in done.stderr
    assert "(toy)" in done.stderr


# A build backend that needs no package: nothing has to be fetched to try the real thing.
BACKEND = """
import zipfile
from pathlib import Path

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "toy-1-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder) / name, "w") as wheel:
        wheel.writestr("toy.pth", str(Path.cwd()))
        for file, text in {
            "METADATA": "Metadata-Version: 2.1\\nName: toy\\nVersion: 1\\n",
            "WHEEL": "Wheel-Version: 1.0\\nTag: py3-none-any\\n",
            "RECORD": "",
        }.items():
            wheel.writestr("toy-1.dist-info/" + file, text)
    return name
"""


def test_with_the_real_python_the_checkout_can_be_imported_from_anywhere(checkout):
    checkout.list.write_text("# Python: {}.{}\n".format(*sys.version_info))
    checkout.env["PATH"] = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    (checkout.root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (checkout.root / "backend.py").write_text(BACKEND)
    (checkout.root / "importable.py").touch()
    program = "import importable, sys; print(importable.__file__, sys.prefix, sep='\\n')"
    done = checkout.run("toy", "python", "-c", program, PIP_NO_INDEX="1")
    assert done.stdout.splitlines() == [
        f"{checkout.root}/importable.py",
        f"{checkout.root}/.envs/toy",
    ], done.stderr


def test_the_command_line_starts_without_what_one_environment_lacks():
    # Both environments read the same command line; verbs import what they need when they run.
    program = (
        "import sys; from core.cli import _parser; _parser();"
        "print(*({'pandas', 'torch', 'tensorflow', 'simpy', 'paramiko', 'jinja2', 'grpc',"
        " 'matplotlib'} & set(sys.modules)))"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == []
