"""The published tables, and tables of users in the same form."""

import math
from pathlib import Path

import numpy as np
import pytest

from core.errors import ConfigError, DataError
from core.split import published
from core.split.costs import MIB

RUNTIME = "TX2,Cloud,Pi\r\n1.5,0.4,9\r\n3,0.3,20\r\n2.4,0,16\r\n"
SIZES = "Big,Net \r\n8.00 ,4.00 \r\n2.00 ,1.00 \r\n1.00 ,\r\n,\r\n"


def encoded_bytes(name: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * {"none": 4, "int8": 1}[name]


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    runtime, sizes = tmp_path / "runtime.csv", tmp_path / "sizes.csv"
    runtime.write_bytes(RUNTIME.encode())
    sizes.write_bytes(SIZES.encode())
    return runtime, sizes


def test_row_i_is_the_cut_after_block_i(tables: tuple[Path, Path]) -> None:
    runtime, sizes = tables
    found = published.read(runtime, "TX2", sizes, "Net", ["none", "int8"], None, 7, encoded_bytes)
    assert found.edge_replay_s.tolist() == [0.0, 1.5, 3.0, 2.4]
    assert found.cloud_s[1:].tolist() == [0.4, 0.3, 0.0]
    assert found.codec("none").uplink_bytes.tolist() == [7, 4 * MIB, MIB, 0]
    assert found.codec("none").downlink_bytes.tolist() == [0, 4 * MIB, MIB, 0]
    assert found.codec("int8").uplink_bytes.tolist() == [7, MIB, MIB / 4, 0]


def test_the_time_without_replay_is_scaled_by_the_two_last_rows(tables: tuple[Path, Path]) -> None:
    runtime, sizes = tables
    found = published.read(runtime, "TX2", sizes, "Net", ["none"], encoded_bytes=encoded_bytes)
    assert found.edge_s == pytest.approx([0.0, 1.2, 2.4, 2.4])


def test_what_the_tables_do_not_hold_is_unknown_or_free(tables: tuple[Path, Path]) -> None:
    runtime, sizes = tables
    found = published.read(runtime, "Pi", sizes, "Net", ["none"], encoded_bytes=encoded_bytes)
    assert np.isnan(found.cloud_s[0])
    assert np.isnan(found.codec("none").uplink_bytes[0])
    assert not found.codec("none").edge_encode_s.any()
    assert not found.block_bytes.any()
    given = published.read(
        runtime, "Pi", sizes, "Net", ["none"], [1, 2, 3], encoded_bytes=encoded_bytes
    )
    assert given.block_bytes.tolist() == [1, 2, 3]


@pytest.mark.parametrize("network", published.NETWORKS)
@pytest.mark.parametrize("edge", published.EDGES)
def test_the_published_networks_have_19_blocks(network: str, edge: str) -> None:
    found = published.published(network, edge, ["none"], encoded_bytes=encoded_bytes)
    assert found.blocks == 19
    assert (found.edge_s <= found.edge_replay_s).all()
    # Replay is at most what training does before it: a forward and a backward.
    assert (found.edge_s >= found.edge_replay_s / 2).all()


def test_the_published_times_of_all_edge_are_those_of_the_tables() -> None:
    expected = {
        ("resnet50_cifar", "TX2"): 1.239,
        ("resnet50_cifar", "Pi"): 48.47149,
        ("vgg19_bn", "TX2"): 0.441,
        ("vgg19_bn", "Pi"): 9.694978,
    }
    for (network, edge), seconds in expected.items():
        found = published.published(network, edge, ["none"], encoded_bytes=encoded_bytes)
        assert found.edge_s[-1] == found.edge_replay_s[-1] == seconds


def test_resnets_features_are_those_of_a_batch_of_32() -> None:
    found = published.published("resnet50_cifar", "TX2", ["none"], encoded_bytes=encoded_bytes)
    stem, pooled = 32 * 64 * 32 * 32 * 4, 32 * 2048 * 4
    assert found.codec("none").uplink_bytes[[1, 18]].tolist() == [stem, pooled]


def read_changed(tables: tuple[Path, Path], old: str, new: str, edge: str, network: str) -> None:
    runtime, sizes = tables
    for path in tables:
        path.write_text(path.read_text().replace(old, new))
    published.read(runtime, edge, sizes, network, ["none"], encoded_bytes=encoded_bytes)


@pytest.mark.parametrize(
    ("old", "new", "edge", "network", "text"),
    [
        ("", "", "Nano", "Net", "runtime.csv has no column 'Nano'; there are TX2, Cloud, Pi"),
        ("", "", "TX2", "Nets", "sizes.csv has no column 'Nets'; there are Big, Net"),
        ("0.3", "-0.3", "TX2", "Net", "runtime.csv, line 3, Cloud: -0.3 must be finite and not n"),
        ("0.3", "inf", "TX2", "Net", "line 3, Cloud: inf must be finite"),
        ("0.3", "fast", "TX2", "Net", "line 3, Cloud: 'fast' is not a number"),
        ("0.3", "", "TX2", "Net", "line 3, Cloud: '' is not a number"),
        ("2.4,0,", "2.4,,", "TX2", "Net", "column 'TX2' has 3 rows, Cloud has 2"),
        ("", "", "TX2", "Big", "column 'Big' has 3 rows, must have 2: one less than the 3 blocks"),
    ],
)
def test_tables_that_do_not_fit_are_refused(
    tables: tuple[Path, Path], old: str, new: str, edge: str, network: str, text: str
) -> None:
    with pytest.raises(DataError, match=text):
        read_changed(tables, old or "none of this", new, edge, network)


def test_sizes_of_other_blocks_are_refused(tables: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match="has 3 blocks, the sizes of 2 blocks were given"):
        published.read(*(tables[0], "TX2", tables[1], "Net"), ["none"], [1, 2])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00"])
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.csv"):
        published.read_column(file, "TX2")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing\.csv cannot be read"):
        published.read_column(tmp_path / "missing.csv", "TX2")


def test_a_network_without_tables_is_refused() -> None:
    with pytest.raises(ConfigError, match="no published profile of 'bilstm'; there are resnet50_c"):
        published.published("bilstm", "TX2")
