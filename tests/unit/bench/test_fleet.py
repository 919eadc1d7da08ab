"""Edges that share a cloud: what the benchmark finds, and that the page says the same."""

import re
from pathlib import Path

import pytest

from core.bench import fleet
from core.bench.simulator import contexts, published_costs
from core.split.decision import Link, best, predict
from core.split.published import EDGES, NETWORKS
from core.split.simulate import Scheme, SimulatedLink, simulate_fleet

PAGE = (Path(__file__).parents[3] / "docs/fleet.md").read_text(encoding="utf-8")
NAMES = {"ResNet50": "resnet50_cifar", "VGG19": "vgg19_bn"}


def mean_link(context: str) -> Link:
    return SimulatedLink.of(contexts()[0][context]).mean()


@pytest.mark.parametrize(("network", "edge", "context"), [("vgg19_bn", "Pi", "5g")])
def test_nobody_waits_below_the_number_served_and_everybody_above(
    network: str, edge: str, context: str
) -> None:
    costs, link = published_costs(network, edge), SimulatedLink.of(contexts()[0][context])
    one = best(costs, link.mean(), fleet.UPLINKS, fleet.DOWNLINKS, fleet.STALENESS, fleet.STEPS)
    served = fleet.edges_served(one)
    scheme = Scheme(one.choice, fleet.STALENESS)

    def steps(edges: int) -> list[float]:
        return [f.step_s for f in simulate_fleet(costs, [link] * edges, scheme, fleet.STEPS)]

    assert steps(served) == pytest.approx([one.step_s] * served)
    assert min(steps(served + 1)) > one.step_s


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("edge", EDGES)
def test_choosing_together_is_never_slower_than_each_for_itself_or_alone(
    network: str, edge: str
) -> None:
    costs, link = published_costs(network, edge), mean_link("wifi")
    one = best(costs, link, fleet.UPLINKS, fleet.DOWNLINKS, fleet.STALENESS, fleet.STEPS)
    for edges in (*fleet.FLEETS, fleet.MANY):
        together = fleet.shared_step(fleet.best_shared(costs, link, edges), edges)
        assert together <= fleet.shared_step(one, edges)
        assert together <= costs.edge_s[costs.blocks] + 1e-9


def test_the_page_says_what_the_benchmark_finds() -> None:
    rows = re.findall(r"^\| (ResNet50|VGG19), (\w+), (\w+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 8 + 4
    for name, edge, context, cells in rows:
        costs, link = published_costs(NAMES[name], edge), mean_link(context)
        one = best(costs, link, fleet.UPLINKS, fleet.DOWNLINKS, fleet.STALENESS, fleet.STEPS)
        assert cells in (alone(costs, one), together(costs, link)), (name, edge, context)


def alone(costs: fleet.Costs, one: fleet.Prediction) -> str:
    step = [f"{round(fleet.shared_step(one, edges), 3)} s" for edges in (10, 100)]
    everything = round(float(costs.edge_s[costs.blocks]), 3)
    own = (one.choice.cut, f"{round(one.step_s, 3)} s", f"{round(one.cloud_s, 3)} s")
    return " | ".join(map(str, (*own, fleet.edges_served(one), *step, f"{everything} s")))


def together(costs: fleet.Costs, link: Link) -> str:
    cells = []
    for edges in (*fleet.FLEETS, fleet.MANY):
        found = fleet.best_shared(costs, link, edges)
        cut = found.choice.cut
        where = "all on the edge" if cut == costs.blocks else f"cut {cut}"
        cells.append(f"{round(fleet.shared_step(found, edges), 3)}, {where}")
    return " | ".join(cells)


def test_the_page_says_what_snapshots_and_links_of_a_thousand_take() -> None:
    for name, context, cut in (("ResNet50", "wifi", 1), ("VGG19", "wifi", 2)):
        costs = published_costs(NAMES[name], "Pi")
        kept = fleet.snapshots(costs, cut)
        each = f"{kept['cloud_mib']:g} MiB | {kept['cloud_gib_for_1000']:g} GiB"
        assert f"| {name} | {each} | {kept['cloud_mib_s_for_1000']:g} MiB/s |" in PAGE
        assert kept["edge_mib"] < 1
        one = predict(costs, mean_link(context), cut, "int8", "none", fleet.STALENESS, fleet.STEPS)
        rates = fleet.rates(costs, one)
        assert f"in {context} {rates['up']:g} and {rates['down']:g}" in PAGE
