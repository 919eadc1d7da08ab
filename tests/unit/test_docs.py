"""Pages say what schemas, configuration and code say; links and commands in them are there."""

import argparse
import ast
import inspect
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from pypi_simple import PYPI_SIMPLE_ENDPOINT

from core import config as settings
from core import schema
from core.bench import BENCHMARKS
from core.cli import _parser
from core.data import catalog
from core.elastic import config as elastic_settings
from core.elastic.schemes import SCHEMES
from core.elastic.trainer import Trainer
from core.errors import CoreError, exit_codes
from core.federated.run import PARTY_COLUMNS
from core.figures import KINDS
from core.frameworks import FRAMEWORKS
from core.models import MODELS
from core.split import front, iterations

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
OTHERS = ("README.md", "CHANGELOG.md", "results/README.md", "figures/README.md")
PAGES = sorted([*(ROOT / name for name in OTHERS), *DOCS.glob("*.md")])
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
PAPER = yaml.safe_load((ROOT / "config/paper.yaml").read_text(encoding="utf-8"))
LOCAL = yaml.safe_load((ROOT / "config/devices/local.yaml").read_text(encoding="utf-8"))
# What stands for a name of the reader's own in keys such as figures.NAME.y.
NAME = "NAME"

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def everything() -> str:
    return "\n".join(map(text, PAGES))


def blocks(page: Path, language: str) -> list[str]:
    """Fenced code of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)


# Configuration. The rows that a page must have are made here; a failing test prints those
# that it lacks, to be pasted.


Keys = Iterator[tuple[str, dict[str, Any]]]


def keys_of(name: str) -> Keys:
    """Every key of a schema, with its own part."""
    root = schema.load(name)
    return properties(root, root)


def properties(part: dict[str, Any], root: dict[str, Any], prefix: str = "") -> Keys:
    """Every key below a part of a schema, those of the items of lists too. root: all of it."""
    found = dict(part.get("properties", {}))
    if isinstance(part.get("additionalProperties"), dict):
        found[NAME] = part["additionalProperties"]
    for key, below in found.items():
        if "$ref" in below:
            below = referred(below["$ref"], root) | below
        yield prefix + key, below
        yield from properties(below.get("items", below), root, f"{prefix}{key}.")


def referred(reference: str, root: dict[str, Any]) -> dict[str, Any]:
    """A part of the same schema, or another schema."""
    name, _, place = reference.partition("#")
    part = schema.load(name.split(".")[0]) if name else root
    for step in place.split("/")[1:]:
        part = part[step]
    return part


def at(content: Any, key: str) -> Any:
    """The value of a dotted key, None where there is none."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def code(value: Any) -> str:
    words = value if isinstance(value, str) else json.dumps(value)
    return f"`{words}`"


def allowed(part: dict[str, Any]) -> str:
    """Type and limits in words."""
    if "enum" in part:
        return ", ".join(map(code, part["enum"]))
    if part["type"] == "array":
        return f"list of {allowed(part['items'])}"
    if part["type"] == "object":
        return "section"
    kinds = [part["type"]] if isinstance(part["type"], str) else part["type"]
    kind = " or ".join("section" if each == "object" else each for each in kinds)
    limits = schema._range(part)
    return f"{kind}, {limits}" if limits else kind


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |")


def default(key: str, part: dict[str, Any], values: dict[str, Any]) -> str:
    if part.get("type") == "object" or NAME in key.split("."):
        return code(part["default"]) if "default" in part else ""
    return code(at(values, key))


def config_rows() -> Iterator[str]:
    for key, part in keys_of("config"):
        paper = at(PAPER, key)
        differs = paper not in (None, at(CONFIG, key)) and not isinstance(paper, dict)
        yield row(
            code(key),
            allowed(part),
            default(key, part, CONFIG),
            code(paper) if differs else "",
            part.get("description", ""),
        )


def stand_in_rows() -> Iterator[str]:
    for published, demo in CONFIG["stand_ins"].items():
        yield row(code(published), code(demo), code(PAPER["stand_ins"][published]))


def device_rows() -> Iterator[str]:
    for key, part in keys_of("device"):
        yield row(code(key), allowed(part), default(key, part, LOCAL), part["description"])


def context_rows() -> Iterator[str]:
    for key, part in keys_of("context"):
        yield row(code(key), allowed(part), part["description"])


@pytest.mark.parametrize("rows", [config_rows, stand_in_rows, device_rows, context_rows])
def test_every_key_is_described_as_in_its_schema_with_its_default(rows):
    lines = text(DOCS / "configuration.md").splitlines()
    # A page may say more than the schema: the row goes on where the schema's words end.
    lacking = [
        r for r in rows() if not any(line.startswith(r.removesuffix(" |")) for line in lines)
    ]
    assert lacking == [], "docs/configuration.md lacks:\n" + "\n".join(lacking)


def test_no_key_is_described_that_is_gone():
    known = {key for name in ("config", "device", "context") for key, _ in keys_of(name)}
    known |= set(CONFIG["stand_ins"])
    described = re.findall(r"^\| `([A-Za-z_.0-9]+)` \|", text(DOCS / "configuration.md"), re.M)
    assert set(described) - known == set()


@pytest.mark.parametrize(("name", "page"), [("hosts", "devices.md"), ("claims", "claims.md")])
def test_every_key_of_other_files_is_in_a_table_of_their_page(name: str, page: str):
    columns = re.findall(r"^\| (`[^|]*`) \|", text(DOCS / page), re.MULTILINE)
    described = {key for column in columns for key in re.findall(r"`(\w+)`", column)}
    known = {key.removeprefix(f"{NAME}.") for key, _ in keys_of(name)} - {NAME}
    assert known - described == set()


def test_every_device_is_named():
    devices = settings.read_devices(ROOT / "config/devices")
    assert [d for d in devices if code(d) not in text(DOCS / "configuration.md")] == []


KNOWN, catalog_of = catalog.load(), catalog.load


def test_the_examples_of_configuration_are_valid(tmp_path, monkeypatch):
    found = [yaml.safe_load(b) for b in blocks(DOCS / "configuration.md", "yaml")]
    entries = [b for b in found if any("sources" in v for v in b.values() if isinstance(v, dict))]
    file = tmp_path / "catalog.yaml"
    file.write_text(yaml.safe_dump(entries[0]), encoding="utf-8")
    assert list(catalog_of(file)) == list(entries[0])
    devices = [b for b in found if "processor" in b]
    schema.check(devices[0], "device", [])
    overlays = [b for b in found if b not in entries and b not in devices]
    assert overlays
    mine = sorted({name for b in entries for name in b})
    monkeypatch.setattr(catalog, "load", lambda: {**KNOWN, **catalog_of(file)})
    for overlay in overlays:
        settings.check(merged(CONFIG, overlay), [], ROOT / "config/devices")
    assert any(name in str(overlays) for name in mine)  # the data set that is added is used


def merged(base: Any, over: Any) -> Any:
    """As Snakemake lays one configuration over another."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


# Figures, schemes, data, models, commands


def test_every_figure_has_its_row():
    page = text(DOCS / "figures.md")
    names = elastic_settings.figures(CONFIG)
    assert [name for name in names if not re.search(rf"^\|.*`{name}`", page, re.MULTILINE)] == []


def test_every_group_has_its_row_and_every_target_that_is_typed_is_there():
    groups = settings.targets(CONFIG)
    page = text(DOCS / "figures.md")
    assert [name for name in groups if not re.search(rf"^\|.*`{name}`.*\|", page, re.M)] == []
    typed = set(re.findall(r"`snakemake ((?:fig\d|table|elastic)\w*)", everything()))
    assert len(typed) > 1
    assert typed - groups.keys() == set()


def test_the_number_of_runs_of_a_demo_is_that_of_the_configuration():
    runs = {key for figure in elastic_settings.figures(CONFIG).values() for key in figure.runs}
    assert f"A demo has {len(runs)} runs for all" in text(DOCS / "figures.md")


def test_every_kind_of_figure_is_described_with_what_it_takes():
    page = text(DOCS / "figures.md").split("\n### Kinds of figures\n")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE))
    assert rows.keys() == KINDS.keys()
    for name, kind in KINDS.items():
        for word in (*kind.shows, *kind.needs, *kind.takes):
            assert word in rows[name], f"{name}: {word}"
        assert ("several models" in rows[name]) == ("model" not in kind.one), name
        assert ("several data sets" in rows[name]) == ("dataset" not in kind.one), name


def test_every_column_of_a_run_is_explained():
    columns = re.findall(r'^ +"(\w+)":', inspect.getsource(Trainer._row), re.MULTILINE)
    assert "backward_update_s" in columns
    assert unexplained(columns) == []


def test_every_column_of_a_figure_is_explained():
    files = [ROOT / f"core/figures/{name}.py" for name in ("results", *KINDS)]
    columns = {name for file in files for name in columns_in(file)}
    assert {"hours", "selected_in", "overhead (%)", "speedup", "model"} <= columns
    assert unexplained(sorted(columns)) == []


def test_every_column_of_split_and_federated_runs_is_explained():
    own = re.findall(r'^ +"(\w+)":', inspect.getsource(front.Front._row), re.MULTILINE)
    assert "train_loss" in own
    for name in (*iterations.COLUMNS, *own, *(f"{time}_s" for time in front.TIMES)):
        assert f"`{name}`" in text(DOCS / "split.md"), name
    for name in PARTY_COLUMNS:
        assert f"`{name}`" in text(DOCS / "federated.md"), name


def columns_in(file: Path) -> Iterator[str]:
    """Keys of the dictionaries that become rows: `values`, what `row` is given, `DataFrame`s."""
    for node in ast.walk(ast.parse(text(file))):
        row = isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("row", "DataFrame")
        values = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "values"
        own = isinstance(node, ast.FunctionDef) and node.name == "row"
        if row or values or own:
            for made in (n for n in ast.walk(node) if isinstance(n, ast.Dict)):
                yield from (k.value for k in made.keys if isinstance(k, ast.Constant))


def unexplained(columns: list[str]) -> list[str]:
    """Those that have no row of their own in a table of docs/figures.md."""
    page = text(DOCS / "figures.md")
    return [
        c for c in columns if not re.search(rf"^\| .*`{re.escape(c)}`.* \|", page, re.MULTILINE)
    ]


@pytest.mark.parametrize(
    "names",
    [SCHEMES, MODELS, FRAMEWORKS, catalog.load()],
    ids=["scheme", "model", "framework", "data"],
)
def test_every_name_that_can_be_configured_is_in_the_docs(names):
    assert [name for name in names if code(name) not in everything()] == []


def test_every_verb_and_every_benchmark_is_mentioned():
    action = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    pages = everything()
    assert [verb for verb in action.choices if f"core {verb}" not in pages] == []
    assert [name for name in BENCHMARKS if code(name) not in pages] == []


@every_page
def test_every_make_target_is_there(page):
    targets = set(re.findall(r"^([a-z-]+(?: [a-z-]+)*):", text(ROOT / "Makefile"), re.MULTILINE))
    targets = {name for line in targets for name in line.split()}
    assert set(re.findall(r"`make ([a-z-]+)", text(page))) - targets == set()


def test_the_readme_names_the_two_commands():
    first_screen = "\n".join(text(ROOT / "README.md").splitlines()[:40])
    assert "make demo" in first_screen
    assert "make test" in first_screen


@every_page
def test_figures_that_are_typed_can_be_drawn(page):
    typed = set(re.findall(r"figures/(fig\w+)\.(?:pdf|png|csv)", text(page)))
    assert typed - set(elastic_settings.figures(CONFIG)) == set()


# Errors


def test_the_table_of_exit_codes_is_that_of_the_code():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", text(DOCS / "troubleshooting.md"), re.MULTILINE)
    assert {int(number): meaning for number, meaning in rows} == exit_codes()


@pytest.mark.parametrize("error", CoreError.__subclasses__(), ids=lambda error: error.__name__)
def test_a_message_of_every_class_of_errors_is_explained(error: type[CoreError]):
    makers = [file for file in (ROOT / "core").rglob("*.py") if f"{error.__name__}(" in text(file)]
    sources = [literals(file) for file in makers]
    assert any(all(f in source for f in fragments(m)) for m in quoted() for source in sources)


def quoted() -> list[str]:
    """First column of `## Messages`."""
    part = text(DOCS / "troubleshooting.md").split("\n## Messages\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE)


def test_messages_that_are_quoted_are_those_of_the_code():
    """Fragments between … are found in one file each."""
    assert len(quoted()) > 10
    sources = [*map(literals, (ROOT / "core").rglob("*.py")), *scripts()]
    lacking = [
        message
        for message in quoted()
        if not any(all(f in source for f in fragments(message)) for source in sources)
    ]
    assert lacking == []


def fragments(message: str) -> list[str]:
    return [part.strip() for part in message.split("…") if part.strip()]


def literals(file: Path) -> str:
    """All text in a Python file, with literals that follow each other joined."""
    nodes = ast.walk(ast.parse(text(file)))
    return "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and type(n.value) is str)


def scripts() -> Iterator[str]:
    """Files that are not plain Python, with literals joined in the same manner."""
    for file in (ROOT / "envs/run", *(ROOT / "rules").glob("*.smk")):
        yield re.sub(r'"\s+\\?\s*f?"', " " if file.suffix == "" else "", text(file))


# Links and names


@every_page
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", text(page))
    lost = [link for link in links if not urlsplit(link).scheme and not leads_somewhere(page, link)]
    assert lost == []


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    return target.exists() and (not anchor or anchor in anchors(target))


def anchors(page: Path) -> set[str]:
    """Anchors of the headings, as forges make them."""
    titles = re.findall(r"^#+ (.*)$", text(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_in_the_index():
    index = text(DOCS / "README.md")
    assert [
        p.name for p in DOCS.glob("*.md") if p.name != "README.md" and p.name not in index
    ] == []


@every_page
def test_no_page_names_the_host_of_a_package_index(page):
    addresses = [PYPI_SIMPLE_ENDPOINT, os.environ.get("PIP_INDEX_URL", "")]
    hosts = {host for address in addresses if (host := urlsplit(address).hostname)}
    assert [host for host in hosts if host in text(page)] == []
    assert "/simple" not in text(page)


@every_page
def test_no_page_names_a_place_on_one_machine(page):
    assert re.findall(r"(?<![\w.}])/(?:root|home|work|tmp|Users)/\S*", text(page)) == []


def test_pages_become_a_site_without_a_broken_link_that_needs_no_network(tmp_path: Path) -> None:
    command = ["mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"README"}
    assert pages <= {path.parent.name for path in tmp_path.rglob("index.html")}
    fetched = re.compile(r'<(?:script|link rel="stylesheet")[^>]*(?:src|href)="(http[^"]*)')
    for page in tmp_path.rglob("*.html"):
        assert fetched.findall(page.read_text()) == [], page
