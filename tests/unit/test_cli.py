"""What every verb has in common."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.cli import main
from core.errors import ConfigError, StorageError


@pytest.mark.parametrize("buffered", [True, False])
def test_a_reader_who_has_seen_enough_is_no_error(buffered: bool) -> None:
    # `head` and `less` close the pipe; a buffer is written at the end only.
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    read, write = os.pipe()
    os.close(read)
    verb = subprocess.run(
        [sys.executable, "-m", "core", "bench", "--list"], stdout=write,
        stderr=subprocess.PIPE, text=True, env=environment, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert (verb.returncode, verb.stderr) == (0, "")


def test_an_error_that_nobody_can_read_has_its_exit_code_all_the_same() -> None:
    # Ctrl-C in `snakemake ... 2>&1 | tee log` ends the reader too.
    read, write = os.pipe()
    os.close(read)
    verb = subprocess.run(
        [sys.executable, "-m", "core", "run", "nowhere.yaml", "--out", "run"],
        stdout=subprocess.PIPE, stderr=write, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert verb.returncode == ConfigError.exit_code


def test_a_log_that_cannot_be_written_is_an_error_that_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--log", str(tmp_path), "bench", "--list"]) == StorageError.exit_code
    assert f"{tmp_path} cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["profile", "x.yaml", "--out", "p", "--repeats", "0"], "'0': must be 3 or more"),
        (["split", "certificates", "c", "--days", "-1"], "'-1': must be 1 or more"),
        (
            ["split", "edge", "x.yaml", "--certificates", "c", "--patience", "inf"],
            "'inf': must be a number of seconds above 0",
        ),
        (
            ["federated", "party", "x.yaml", "--patience", "soon"],
            "'soon': must be a number of seconds above 0",
        ),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_before_anything_starts(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == ConfigError.exit_code
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("address", ["cloud", ":50051", "cloud:x", "cloud:99999"])
def test_an_address_that_is_none_is_named(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    sides = ["x.yaml", "--certificates", "c"]
    party = ["--data", "d", "--name", "a", "--snapshots", "s", "--server", address]
    server = ["--data", "d", "--listen", address, "--out", "o"]
    edge = ["--cloud", address, "--out", "o"]
    for words in (
        ["split", "edge", *sides, *edge],
        ["federated", "server", *sides, *server],
        ["federated", "party", *sides, *party],
    ):
        assert main(words) == ConfigError.exit_code
        assert f"{address!r} is not HOST:PORT" in capsys.readouterr().err
