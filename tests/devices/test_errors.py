"""What can be wrong with a board: each is said with its own error, before or without any harm."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest
import yaml

from core.devices import board as board_program
from core.devices import connection, dispatch
from core.devices.backoff import Backoff
from core.devices.check import check
from core.devices.connection import Connection
from core.devices.dispatch import carry
from core.devices.hosts import Host, host, read_hosts
from core.devices.job import Job
from core.devices.stop import _sides, clean
from core.devices.trust import trust
from core.errors import (
    BoardError,
    BusyError,
    ConfigError,
    DataError,
    LoginError,
    MissingPackageError,
    StorageError,
    UnreachableError,
)
from core.spec import RunSpec
from tests.devices.conftest import NAME, Sshd, free_port, keygen
from tests.split.conftest import make_spec

SOON = Backoff(first=0.05, patience=0.2)
Boards = Callable[..., Host]


@pytest.fixture
def board(sshd: Sshd, here: Path) -> Boards:
    return lambda **changes: host(NAME, sshd.hosts(here, **changes))


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_way_to_trust_it(
    sshd: Sshd, here: Path, board: Boards
):
    stranger = board(known_hosts=str(here / "known"))
    key = paramiko.Ed25519Key.from_private_key_file(str(sshd.folder / "host_key"))
    with pytest.raises(LoginError, match="its host key is not known") as error:
        Connection(stranger)
    assert key.fingerprint in str(error.value)
    assert f"core devices trust {NAME}" in str(error.value)

    with pytest.raises(LoginError, match="was not confirmed, and nothing was written"):
        trust(stranger, lambda mark: False)
    assert not (here / "known").exists()
    assert key.fingerprint in trust(stranger, lambda mark: key.fingerprint in mark)
    Connection(stranger).close()


def test_a_changed_host_key_is_refused_and_nothing_is_overwritten(here: Path, board: Boards):
    known = here / "known"
    other = keygen(here / "other")
    known.write_text(f"[127.0.0.1]:{board().port} {other}")
    with pytest.raises(LoginError, match=r"shows another host key than the one in .*known"):
        Connection(board(known_hosts=str(known)))
    assert known.read_text().endswith(other)


def test_a_wrong_key_or_user_is_refused_with_what_was_tried(here: Path, board: Boards):
    keygen(here / "wrong")
    with pytest.raises(LoginError, match=r"refuses the login: .*; keys tried: .*/wrong\. Copy"):
        Connection(board(key=str(here / "wrong")))
    with pytest.raises(LoginError, match=r"nobody-here@127\.0\.0\.1:.* refuses the login"):
        Connection(board(user="nobody-here"))


def test_a_board_that_stays_away_is_an_error_with_the_time_that_it_was_tried(
    board: Boards, task: Callable[..., Path]
):
    job = Job.of(["run", str(task()), "--out", "results/run"], "main")
    with pytest.raises(UnreachableError, match=r"cannot be reached: .*; tried for 0 s") as error:
        carry(board(port=free_port()), job, SOON)
    assert error.value.exit_code == 10


def test_a_folder_that_cannot_be_written_is_named(board: Boards):
    with pytest.raises(BoardError, match=r"/sys/nothing: .*or name another folder"):
        Connection(board(folder="/sys/nothing")).ask("facts")


def test_a_board_without_python_is_told_what_to_install(board: Boards):
    with pytest.raises(BoardError, match=r"has no /nowhere/python; install Python 3\.8 or newer"):
        Connection(board(python="/nowhere/python")).ask("facts")


FACTS = {"old": False, "python": "3.11.2", "free_disk": 1 << 40}


@pytest.mark.parametrize(
    ("changes", "off", "said"),
    [
        ({"old": True, "python": "3.6.9"}, 0, r"has Python 3\.6\.9; 3\.8 or newer is needed"),
        ({}, -400 * 86400, r"its clock is 400 days behind; set it"),
        ({}, 3 * 86400, r"its clock is 3 days ahead; set it"),
        ({"free_disk": 100 << 20}, 0, r"has 100 MiB left, 164 MiB are needed; free some space"),
    ],
)
def test_a_board_on_which_nothing_would_come_of_it_is_left_alone(board, changes, off, said):
    facts = FACTS | {"time": time.time() + off} | changes
    with pytest.raises(BoardError, match=said):
        dispatch._check(board(), facts, 100 << 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk takes root")
def test_a_full_disk_is_an_error_that_names_the_board(here: Path, board: Boards):
    disk = here / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted in this container")
    try:
        large = here / "large"
        large.write_bytes(os.urandom(1 << 20))
        with (
            Connection(board(folder=str(disk))) as there,
            pytest.raises(BoardError, match=f"{NAME}: .*disk"),
        ):
            there.put(large, str(disk / "large"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_an_environment_that_is_not_there_is_named_with_the_command_that_makes_it(
    board: Boards, task: Callable[..., Path]
):
    job = Job.of(["run", str(task()), "--out", "results/run"], "tensorflow")
    said = f"no environment 'tensorflow'; make it first .*prepare {NAME} --environment tensorflow"
    with pytest.raises(MissingPackageError, match=said):
        carry(board(python=None), job, SOON)


def test_data_that_is_not_here_is_an_error_before_anything_is_sent(
    here: Path, board: Boards, task: Callable[..., Path]
):
    job = Job.of(["run", str(task()), "--out", "results/run"], "main")
    (here / "results/data/manifest.json").unlink()
    with pytest.raises(DataError, match="results/data is not there or not whole; fetch it here"):
        carry(board(), job, SOON)
    assert not (here / "board/store").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "--out", "x"], "only commands run that have one spec"),
        (
            ["run", "/a/spec.yaml", "--out", "x"],
            "/a/spec.yaml: name it relative",
        ),
        (["run", "spec.yaml", "--out", "../x"], r"\.\./x: name it relative"),
    ],
)
def test_a_command_that_cannot_be_carried_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        Job.of(words, "main")


class Liar:
    """A board that offers files which it should not."""

    def __init__(self, there: Connection, files: list[list[object]]) -> None:
        self.host, self._there, self._files = there.host, there, files

    def ask(self, verb: str, *more: object, **question: object) -> dict[str, object]:
        return {"files": self._files, "folder": "/tmp"}

    def get(self, path: str, target: Path, size: int, progress: object = None) -> None:
        target.write_bytes(b"x" * size)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "results/other/a", "results/run/../b"]
)
def test_a_file_name_that_leaves_its_folder_is_not_fetched(here: Path, board: Boards, name: str):
    out = Path("results/run")
    liar = Liar(Connection(board()), [[name, 1, "0" * 64]])
    with pytest.raises(BoardError, match=r"offers a file .* outside results/run"):
        dispatch._fetch(liar, out)
    assert not list(here.rglob("outside"))


def test_a_file_that_does_not_have_its_checksum_takes_no_place(here: Path, board: Boards):
    out = Path("results/run")
    liar = Liar(Connection(board()), [["results/run/result.json", 3, "0" * 64]])
    with pytest.raises(BoardError, match=r"result\.json does not have its checksum 0000"):
        dispatch._fetch(liar, out)
    assert [p.name for p in here.rglob("*.json")] == []


def test_of_snapshots_that_came_at_intervals_the_newest_stay(here: Path, board: Boards):
    folder = Path("results/run.snapshots")
    folder.mkdir(parents=True)
    names = [f"step-{step:09}-{'0' * 32}.safetensors" for step in (8, 2, 10, 9)]
    for name in names:
        (folder / name).write_bytes(b"x")
    job = Job(("run",), "main", out=Path("results/run"))
    dispatch._fetch_snapshots(Liar(Connection(board()), []), job)
    assert sorted(p.name[5:14] for p in folder.iterdir()) == ["000000009", "000000010"]


def test_check_says_what_a_board_is_and_what_is_missing(board: Boards):
    found = dict(check(board()))
    assert found["address"].endswith("host key known, login accepted")
    assert found["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert (found["clock"], found["lease"]) == ("right", "free")
    assert "GiB free" in found["folder"]
    assert f"torch {__import__('torch').__version__.split('+')[0]}" in found["packages"]
    found = dict(check(board(python=None)))
    assert found["environments"] == f"none; core devices prepare {NAME} makes them"


def test_clean_removes_what_nothing_used_for_long_and_leaves_the_rest(here: Path, board: Boards):
    there = board()
    with Connection(there) as link:
        link.ask("missing", files=[])
    old, new = (here / f"board/store/{c * 64}" for c in "ab")
    for path in (old, new):
        path.write_bytes(bytes(1 << 20))
    os.utime(old, (0, 0))
    assert clean(there, 30) == f"{NAME}: 0 runs and 1 MiB removed"
    assert (old.exists(), new.exists()) == (False, True)


def test_clean_waits_for_what_runs(here: Path, board: Boards):
    holder = (
        "import sys, time; from pathlib import Path; from core.devices import board;"
        "board._take_lease(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    (here / "board").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(here / "board")],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(BusyError, match=r"runs since .*; clean later"):
        clean(board(), 30)
    process.kill()
    process.wait()
    assert "removed" in clean(board(), 30)  # a dead holder keeps nobody out


# hosts.yaml


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({NAME: {"hots": "x"}}, "unknown key 'jetson_tx2.hots'"),
        ({NAME: {"host": "x", "port": 0}}, "jetson_tx2.port = 0: must be at least 1"),
        ({NAME: {"host": "x", "cloud_port": 70000}}, "jetson_tx2.cloud_port = 70000: must be at"),
        ({NAME: {"host": "x", "password": "y"}}, "unknown key 'jetson_tx2.password'"),
        ({"local": {"host": "x"}}, "local"),
        ({NAME: {"host": "x", "folder": "relative"}}, "folder = 'relative'"),
    ],
)
def test_a_wrong_hosts_file_is_an_error_that_names_the_key(here: Path, content, said):
    path = here / "hosts.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError, match=said):
        read_hosts(path)


def test_without_a_hosts_file_there_is_no_board_and_the_example_is_named(here: Path):
    assert read_hosts() == {}
    with pytest.raises(ConfigError, match=r"no board 'pi' \(there: none\); .*hosts\.example\.yaml"):
        host("pi")


def test_the_example_is_valid():
    path = Path(__file__).parents[2] / "config/hosts.example.yaml"
    assert set(read_hosts(path)) == {"jetson_tx2", "raspberry_pi_4b"}
    pi = host("raspberry_pi_4b", path)
    assert (pi.jump.host, pi.jump.user, pi.jump.port) == ("gateway.example.org", "me", 22)


def test_ssh_config_fills_up_what_the_file_leaves_open(here: Path, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    (here / ".ssh").mkdir()
    (here / ".ssh/config").write_text(
        "Host tx2\n  HostName 10.0.0.7\n  Port 2222\n  User nvidia\n  ProxyJump me@gate:2200\n"
    )
    path = here / "hosts.yaml"
    path.write_text(yaml.safe_dump({NAME: {"host": "tx2"}, "pi": {"host": "tx2", "port": 22}}))
    tx2 = host(NAME, path)
    assert tx2.address == "nvidia@10.0.0.7:2222"
    assert tx2.jump is not None
    assert tx2.jump.address == "me@gate:2200"
    assert host("pi", path).port == 22


def test_several_hosts_in_between_are_a_chain(here: Path):
    path = here / "hosts.yaml"
    path.write_text(yaml.safe_dump({NAME: {"host": "tx2", "jump": "me@one:2200,you@two"}}))
    last = host(NAME, path).jump
    assert last is not None
    assert last.jump is not None
    assert (last.host, last.user, last.port) == ("two", "you", 22)
    assert (last.jump.host, last.jump.user, last.jump.port) == ("one", "me", 2200)
    assert last.jump.jump is None


def test_keys_that_are_not_there_are_named_or_left_out_as_ssh_does(
    here: Path, board: Boards, monkeypatch
):
    with pytest.raises(LoginError, match=r"there is no private key /nowhere/key"):
        Connection(board(key="/nowhere/key"))
    monkeypatch.setenv("HOME", str(here))
    (here / ".ssh").mkdir()
    (here / "real").write_text("")
    (here / ".ssh/config").write_text(
        f"Host tx2\n  IdentityFile /gone\n  IdentityFile {here}/real\n"
    )
    path = here / "hosts.yaml"
    path.write_text(yaml.safe_dump({NAME: {"host": "tx2"}}))
    assert host(NAME, path).keys == (f"{here}/real",)


def test_a_line_of_known_hosts_that_is_no_key_is_named(here: Path, board: Boards):
    known = here / "known"
    known.write_text("board ssh-ed25519 not*base64\n")
    with pytest.raises(LoginError, match=r"known host keys cannot be read from .*known .*mend"):
        Connection(board(known_hosts=str(known)))


def test_a_disk_that_fails_here_is_not_blamed_on_the_board(here: Path, board: Boards):
    (here / "file").write_text("a file is no folder")
    with Connection(board()) as there:
        there.ask("facts")
        size = (here / "board/lease.lock").stat().st_size
        with pytest.raises(StorageError, match=r"file/x cannot be written: Not a directory"):
            there.get(f"{here}/board/lease.lock", here / "file/x", size)
        with pytest.raises(BoardError, match=r"nothing-here has gone"):
            there.get(f"{here}/board/nothing-here", here / "fresh", 1)


def test_a_board_behind_another_host_is_reached_through_it(sshd: Sshd, here: Path, board: Boards):
    jump = f"{board().user}@127.0.0.1:{sshd.port}"
    with Connection(board(jump=jump)) as there:
        assert there.ask("facts")["lease"] is None


@pytest.mark.parametrize(
    ("model", "edge", "cloud", "ended"),
    [
        ("mobilenet_v3_large", NAME, "local", [("", NAME), ("cloud", None)]),
        ("mobilenet_v3_large", "local", NAME, [("", None), ("cloud", NAME)]),
        ("chairs", NAME, "second", [("", "second"), ("edge", NAME)]),  # its cloud leads
        ("chairs", NAME, NAME, [("", NAME)]),
    ],
)
def test_the_side_that_leads_is_stopped_first(model: str, edge: str, cloud: str, ended: object):
    content = make_spec(model, cut=5).content
    spec = RunSpec(content | {"edge": {"name": edge}, "cloud": {"name": cloud}})
    assert list(_sides(spec, {NAME: {}, "second": {}})) == ended


def test_a_port_is_kept_while_it_is_free(tmp_path: Path):
    wanted = free_port()
    assert board_program.port(tmp_path, {"port": wanted}) == {"port": wanted}
    with socket.create_server(("0.0.0.0", wanted)):
        assert board_program.port(tmp_path, {"port": wanted})["port"] != wanted


def test_the_cloud_gets_its_port_from_the_hosts_file(board: Boards):
    assert (board().cloud_port, board(cloud_port=5000).cloud_port) == (None, 5000)


def test_waits_grow_and_end_with_patience():
    waits = list(Backoff(first=1, factor=2, longest=5, patience=14).waits())
    assert waits == [1, 2, 4, 5, 2]


def test_a_silent_connection_is_given_up(board: Boards):
    with (
        Connection(board()) as there,
        pytest.raises(connection.LostError, match="has stopped answering"),
    ):
        list(there.lines("follow", 0.0001, job="none", offset=0))
