"""core.split.peers: who is started again, and who is told that somebody is not."""

import threading

import pytest

from core.split.peers import RESTARTS, Keeper


@pytest.mark.parametrize(
    ("codes", "starts", "told"),
    [
        ([0], 0, []),
        ([-9, 0], 1, []),
        ([3], 0, [("the party a ended with exit code 3; its message says why", 3)]),
        ([-9, 7], 1, [("the party a ended with exit code 7; its message says why", 7)]),
        ([9] * 9, RESTARTS, [("the party a died 5 times in a row (exit code 9)", 9)]),
    ],
    ids=["done", "killed once", "incurable", "killed, then incurable", "dies again and again"],
)
def test_a_process_is_started_again_unless_its_error_comes_again(
    codes: list[int], starts: int, told: list[tuple[str, int]]
) -> None:
    left, started, heard = list(codes), [], []
    over = threading.Event()

    def wait() -> int | None:
        code = left.pop(0)
        if not code:
            over.set()
        return code or None

    def given_up(reason: str, code: int) -> None:
        heard.append((reason, code))
        over.set()

    Keeper("party a", lambda: started.append(1), wait, given_up)
    assert over.wait(10)
    assert (len(started), heard) == (starts, told)
