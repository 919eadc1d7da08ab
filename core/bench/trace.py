"""On a link that changes: the whole system against the best fixed cut in hindsight, measured.

Hindsight has the whole trace: of all cuts and codecs, those that the simulator finds fastest on it
are run on the same emulated trace, and both ends beside them. The whole system's run is that of
figure split_decision.
"""

from dataclasses import replace
from pathlib import Path

from core import PROJECT
from core.bench import Report, pipeline_runs
from core.bench.cuts import compare, read, steps_of
from core.declared import Config
from core.models.blocks import NETWORKS
from core.spec import RunSpec
from core.split import config as settings
from core.split.config import NO_CONTEXT, SplitKey
from core.split.contexts import Context
from core.split.costs import Costs
from core.split.decision import Choice, candidates
from core.split.profiles import costs_of
from core.split.simulate import Scheme, SimulatedLink, simulate

FIGURE = "split_decision"
RUN_UP = 5  # fixed cuts that are run, beside both ends


def run() -> Report:
    """Seconds per step of the whole system and of the fixed cuts; the time that it loses."""
    content = pipeline_runs.config()
    (ours,) = settings.figures(content)[FIGURE].runs
    pipeline_runs.trained(content, [ours])
    keys = {"context_aware": ours} | fixed(content, ours, _costs(content, ours))
    runs = read(content, keys)
    compared = compare([runs])
    figures = {"step_s": steps_of(runs), "best": compared["best"], "lost": compared["lost"]}
    figures["decisions"] = len(runs["context_aware"].result["choices"]) - 1
    notes = [
        f"{ours.task} on the trace of {ours.context}, which begins anew with each run; step_s: "
        "seconds per step after the first third, probes and moves included, each of one run. "
        f"Fixed: the {RUN_UP} inner cuts that the simulator finds fastest on this trace, and both "
        "ends. lost: of the whole system against the best of them",
    ]
    return Report({ours.context: figures}, {f"{ours.context}/lost": 0.05}, notes, kind="emulated")


def fixed(content: Config, ours: SplitKey, costs: Costs) -> dict[str, SplitKey]:
    """The runs of fixed cuts by name: the simulator's best ones, and both ends."""
    spec = _spec(content, ours)
    uplinks, downlink = spec["scheme"]["decision"]["uplink"], spec["scheme"]["downlink"]
    steps = dict(ours.options)["steps"]
    link = SimulatedLink.of(Context.of(spec["context"]))
    staleness = spec["scheme"]["staleness"][0]["steps"]
    blocks = NETWORKS[spec["model"]["name"]].blocks

    def simulated(choice: Choice) -> float:
        return simulate(costs, link, Scheme(choice, staleness), int(steps)).seconds

    inner = [c for c in candidates(costs, uplinks, [downlink]) if 0 < c.cut < blocks]
    best = sorted(inner, key=simulated)[:RUN_UP]
    base = replace(ours, scheme="compressed")
    found = {
        f"cut {c.cut}, {c.uplink}": replace(
            base, options=(("cut", c.cut), ("uplink", c.uplink), ("steps", steps))
        )
        for c in best
    }
    found["all_cloud"] = replace(ours, scheme="all_cloud")
    found["all_edge"] = replace(ours, scheme="all_edge", context=NO_CONTEXT)
    return found


def _spec(content: Config, key: SplitKey) -> RunSpec:
    return RunSpec.load(PROJECT / key.folder(content) / "spec.yaml")


def _costs(content: Config, key: SplitKey) -> Costs:
    """What the engine went by."""
    spec = _spec(content, key)
    for side, path in spec["profile"].items():
        spec["profile"][side] = str(PROJECT / Path(path))
    return costs_of(spec)
