"""What every verb has in common."""

import os
import subprocess
import sys

import pytest


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
