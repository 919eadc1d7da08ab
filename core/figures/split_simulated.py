"""Kind `split_simulated`: what the published devices would take in every context. Nothing was run:
every number is from the simulator."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from core.errors import ConfigError
from core.figures import style
from core.figures.draw import Drawn
from core.figures.results import Settings
from core.figures.split_face import look
from core.figures.split_throughput import bars, fit, name_groups
from core.split.compared import STALENESS, UPLINKS, of_schemes
from core.split.contexts import SHIPPED, Context, read_contexts
from core.split.published import EDGES, published
from core.split.schemes import SCHEMES
from core.split.simulate import SimulatedLink

PANEL, AROUND = 1.95, 0.3  # inches of a row of panels, and of the title
DEVICES = {"TX2": "Jetson TX2", "Pi": "Raspberry Pi"}


def draw(entry: Mapping[str, Any], given: Sequence[Any], settings: Settings) -> Drawn:
    """Draw a row of panels for each network, a panel for each published device."""
    contexts = _contexts(entry["contexts"], SHIPPED)
    table = pd.DataFrame(_rows(entry["networks"], contexts))
    schemes = [name for name in SCHEMES if name in set(table["scheme"])]
    rows = len(entry["networks"])
    figure = style.new_figure(AROUND + PANEL * rows, style.WIDE)
    grid = figure.subplots(rows, len(EDGES), sharey="row", squeeze=False)
    for line, network in zip(grid, entry["networks"], strict=True):
        for axes, edge in zip(line, EDGES, strict=True):
            own = table[(table["network"] == network) & (table["edge"] == edge)]
            bars(axes, own, schemes, turned=True)
            fit(axes, table[table["network"] == network])
            name_groups(axes, [context.title for context in contexts], len(schemes))
            axes.set_title(f"{style.human(network)}, {DEVICES[edge]}")
        line[0].set_ylabel("Simulated time\nper step (s)")
    style.add_legend(figure, grid[0, 0])
    style.add_title(figure, "Simulated time per training step of the published devices")
    notes = [
        "simulated from the published profiles of devices and cloud and the rates of the contexts: "
        f"nothing was run · batch 32 · K = {STALENESS}",
        "the profiles have times with replay only, from which serial ones are estimated · no times "
        "of all-cloud and of codecs",
    ]
    return Drawn(figure, table, notes)


def _contexts(names: Sequence[str], folder: Path) -> list[Context]:
    known = read_contexts(folder)
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown context {name!r}; known: {', '.join(known)}")
        if not known[name].emulated or known[name].trace:
            raise ConfigError(
                f"context {name} has no constant rates; kind split_simulated needs it"
            )
    return [known[name] for name in names]


def _rows(networks: Sequence[str], contexts: Sequence[Context]) -> list[dict[str, Any]]:
    rows = []
    for network in networks:
        for edge in EDGES:
            costs = published(network, edge, UPLINKS)
            for group, context in enumerate(contexts):
                found = of_schemes(costs, SimulatedLink.of(context))
                for scheme, cut in found["cuts"].items():
                    seconds = found[scheme]
                    rows.append(
                        {
                            "network": network, "edge": edge, "group": group,
                            "context": context.name, "scheme": scheme,
                            "label": look(scheme).label, "cut": cut, "seconds per step": seconds,
                            "lower quartile": seconds, "upper quartile": seconds,
                            "timing": "simulated",
                        }
                    )  # fmt: skip
    return rows
