"""How the parties work with the server, and how that is drawn. A new scheme is one entry in
SCHEMES. Reading a config and drawing a figure need this table, so it imports no framework."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.elastic.schemes import Look
from core.errors import ConfigError
from core.schema import suggestion


@dataclass(frozen=True)
class Scheme:
    """look: in figures. alone: all columns are in one place, and nothing is sent.
    replays: parties work ahead up to the run's staleness K; without it K = 0.
    compresses: takes the run's codecs and error feedback."""

    look: Look
    alone: bool = False
    replays: bool = False
    compresses: bool = False


# The looks are those that the same words have in split training.
SCHEMES = {
    "compressed": Scheme(
        Look("Feature replay, compressed", "#b04357", "o", "-"), replays=True, compresses=True
    ),
    "replay": Scheme(Look("Feature replay", "#bb8b14", "D", (0, (5, 1, 1, 1))), replays=True),
    "serial": Scheme(Look("Serial vertical", "#5b7f3a", "^", "-.")),
    "centralised": Scheme(Look("Centralised", "#000000", "v", ":"), alone=True),
}


def check_scheme(content: dict[str, Any], path: Path) -> None:
    """Raises ConfigError for a run spec whose scheme is none, or whose parties do not share out
    the columns."""
    name = content["scheme"]["name"]
    if name not in SCHEMES:
        known = suggestion(name, [*SCHEMES])
        raise ConfigError(f"{path}: scheme.name = {name!r}: unknown ({known})")
    columns = {party["party"]: party["columns"] for party in content["parties"]}
    if len(columns) < len(content["parties"]):
        raise ConfigError(f"{path}: parties: two have the same name")
    problem = check_columns(columns, content["data"]["history"])
    if problem:
        raise ConfigError(f"{path}: parties: {problem}")
    optimiser = content["training"]["optimiser"]
    if optimiser["nesterov"] and not optimiser["momentum"]:
        raise ConfigError(f"{path}: training.optimiser.nesterov needs a momentum above 0")


def check_columns(columns: dict[str, list[int]], history: int) -> str | None:
    """What is wrong with the columns of the parties: each must belong to exactly one."""
    if len(columns) < 2:
        return f"{len(columns)} of them; there must be two or more"
    owner: dict[int, str] = {}
    for party, own in columns.items():
        for column in own:
            if column in owner:
                return f"column {column} belongs to {owner[column]} and to {party}"
            if not 1 <= column <= history:
                return f"{party} has column {column}; the history has columns 1 to {history}"
            owner[column] = party
    missing = [column for column in range(1, history + 1) if column not in owner]
    return f"nobody has column {', '.join(map(str, missing))}" if missing else None
