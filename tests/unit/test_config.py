"""core.config, core.spec and the command line."""

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core import config as settings
from core import schema
from core.cli import main
from core.elastic import config as elastic_settings
from core.elastic.run import identity
from core.elastic.schemes import SCHEMES
from core.errors import ConfigError, exit_codes
from core.frameworks import FRAMEWORKS
from core.models import MODELS
from core.spec import RunSpec, check_scheme

ROOT = Path(__file__).parents[2]
DEVICES = ROOT / "config" / "devices"


@pytest.fixture
def demo() -> settings.Config:
    content: settings.Config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    return content


@pytest.fixture
def published(demo: settings.Config) -> settings.Config:
    """The demo with the published setting laid over it, as Snakemake does."""
    more = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    content: settings.Config = merged(demo, more)
    return content


@pytest.fixture
def paper(published: settings.Config) -> settings.Config:
    """The same, to be changed."""
    return copy.deepcopy(published)


def merged(base: Any, over: Any) -> Any:
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def test_what_is_missing_is_said_once_however_much_it_is():
    with pytest.raises(ConfigError) as raised:
        schema.check({"mine": {}}, "claims", [])
    assert str(raised.value).count("mine: missing statement, source, run, metric") == 1


def test_settings_over_others_join_sections_and_leave_both_as_they_were():
    one, two = {"a": {"b": 1, "c": [1]}, "d": 2, "e": {"f": 3}}, {"a": {"c": [2]}, "e": None}
    before = copy.deepcopy((one, two))
    assert settings.over(one, two) == {"a": {"b": 1, "c": [2]}, "d": 2, "e": None}
    assert (one, two) == before


def entry(**changes: Any) -> dict[str, Any]:
    """An entry of `figures`."""
    usual = {
        "kind": "curves",
        "y": ["test_accuracy"],
        "dataset": ["caltech_birds2011"],
        "model": ["resnet50"],
        "device": "jetson_tx2",
        "schemes": ["elastic", "full"],
    }
    return usual | changes


BARS = {"kind": "bars", "y": ["hours"]}


def spec_of(config: settings.Config, scheme: str = "elastic") -> RunSpec:
    options = (("rho", config["elastic"]["rho"]),) if SCHEMES[scheme].settings == "elastic" else ()
    key = elastic_settings.RunKey("local", "efficientnet_lite0", "elpv", scheme, 0, options)
    return RunSpec(settings.run_spec(config, key, DEVICES))


def test_the_shipped_configuration_is_valid(
    demo: settings.Config, paper: settings.Config, published: settings.Config
) -> None:
    for config in (demo, paper):
        settings.check(config, [], DEVICES)
        settings.check_published(config, published)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("device", ["local", "published"])
def test_the_spec_of_every_run_is_complete(
    demo: settings.Config, paper: settings.Config, device: str, framework: str
) -> None:
    for config in (demo, paper):
        own = config | {"device": device, "framework": framework}
        keys = {key for figure in elastic_settings.figures(own).values() for key in figure.runs}
        for key in keys:
            spec = settings.run_spec(own, key, DEVICES)
            schema.check(spec, "run", [])
            check_scheme(spec, Path("spec.yaml"))


# The names of runs.

options = st.fixed_dictionaries(
    {},
    optional={
        "rho": st.floats(1e-9, 1),
        "interval": st.integers(1, 10**6),
        "probe_batches": st.integers(1, 1000),
        "epochs": st.integers(1, 10**6),
    },
)


@given(
    scheme=st.sampled_from(sorted(SCHEMES)),
    model=st.sampled_from(sorted(MODELS)),
    seed=st.integers(0, 2**32 - 1),
    chosen=options,
)
def test_the_name_of_a_run_says_which_it_is(
    scheme: str, model: str, seed: int, chosen: dict[str, float]
) -> None:
    in_order = tuple((name, chosen[name]) for name in elastic_settings.OPTIONS if name in chosen)
    key = elastic_settings.RunKey("local", model, "elpv_mono", scheme, seed, in_order)
    assert elastic_settings.RunKey.parse("local", key.task, key.name) == key
    # As rules/common.smk has it, or Snakemake would find no rule for the run.
    assert re.fullmatch(r"[a-z0-9_]+(-[a-z_]+[0-9.]+)*-seed\d+", key.name)
    assert re.fullmatch(r"[a-z0-9_]+-[a-z0-9_]+", key.task)


@pytest.mark.parametrize(
    ("task", "run"),
    [
        ("resnet50", "full-seed0"),
        ("a-b", "full"),
        ("a-b", ""),
        ("a-b", "elastic-rho0.5.5-seed0"),
        ("a-b", "elastic-interval1.5-seed0"),
        ("a-b", "elastic-interval2-rho0.5-seed0"),
        ("a-b", "elastic-granularity2-seed0"),
    ],
)
def test_what_names_no_run_is_refused(task: str, run: str) -> None:
    with pytest.raises(ConfigError, match="does not name a run"):
        elastic_settings.RunKey.parse("local", task, run)


def test_options_are_in_the_name_only_where_they_differ_and_rho_always(
    demo: settings.Config,
) -> None:
    demo["elastic"] |= {"rho": 1, "interval": 2, "probe_batches": 1}
    demo["figures"] = {
        "f": entry(
            **BARS,
            schemes=["elastic", "full"],
            vary=[{"interval": [1, 2], "rho": [0.4]}, {"probe_batches": [1, 4]}],
            longer={"resnet50": {"full": 2}},
        )
    }
    demo["groups"] = {}
    settings.check(demo, [], DEVICES)
    names = [key.name for key in elastic_settings.figures(demo)["f"].runs]
    assert names == [
        "elastic-rho0.4-interval1-seed0",
        "elastic-rho0.4-seed0",
        "elastic-rho1.0-seed0",
        "elastic-rho1.0-probe_batches4-seed0",
        "full-epochs10-seed0",
    ]
    for key in elastic_settings.figures(demo)["f"].runs:
        assert elastic_settings.RunKey.parse("local", key.task, key.name) == key


def test_two_figures_of_one_name_are_refused(demo: dict[str, Any]) -> None:
    demo["split"]["figures"]["fig15a"] = demo["split"]["figures"]["split_profile"]
    with pytest.raises(ConfigError, match=r"split\.figures\.fig15a: figures has a figure of this"):
        settings.check(demo, [], DEVICES)


def test_options_of_a_run_are_what_its_spec_has(paper: settings.Config) -> None:
    key = elastic_settings.RunKey.parse(
        "local",
        "mobilenet_v2-caltech_birds2011",
        "elastic-rho0.4-interval3-probe_batches5-epochs24-seed7",
    )
    spec = settings.run_spec(paper, key, DEVICES)
    assert spec["scheme"] == paper["elastic"] | {
        "name": "elastic",
        "rho": 0.4,
        "interval": 3,
        "probe_batches": 5,
    }
    assert spec["training"] == paper["training"] | {"epochs": 24}
    assert spec["seed"] == 7


# Which runs a figure is drawn from.


def figures_with(config: settings.Config, run: str, task: str) -> set[str]:
    """Figures drawn from a run, on whatever device."""
    return {
        name
        for name, figure in elastic_settings.figures(config).items()
        for key in figure.runs
        if (key.name, key.task) == (run, task)
    }


def test_figures_of_one_setting_share_their_runs(paper: settings.Config) -> None:
    task = "resnet50-caltech_birds2011"
    names = figures_with(paper, "full-seed0", task)
    wanted = "15a 15d 16a 16c 17a 17b 17c 17d 18 19a 19b 19c 19d 20a 22a 22b 23a 23b".split()
    assert names == {"table2", *(f"fig{number}" for number in wanted)}
    runs = [key for figure in elastic_settings.figures(paper).values() for key in figure.runs]
    assert len({key for key in runs if (key.name, key.task) == ("full-seed0", task)}) == 1
    # The "50 %" of Figures 15 and 17 are one run too; Figure 19 has another budget.
    elastic = figures_with(paper, "elastic-rho0.533-seed0", task)
    assert {"fig15a", "fig17a_ego", "fig18", "fig20a", "fig7", "table2"} <= elastic
    assert not {"fig19a", "fig21a", "table1"} & elastic


def test_published_devices_keep_the_runs_of_boards_apart(paper: settings.Config) -> None:
    paper["device"] = "published"
    figures = elastic_settings.figures(paper)
    for one, other in (("fig15a", "fig16a"), ("fig17a", "fig17c"), ("fig19b", "fig19d")):
        tx2, pi = set(figures[one].runs), set(figures[other].runs)
        assert {key.device for key in tx2} == {"jetson_tx2"}
        assert {key.device for key in pi} == {"raspberry_pi_4b"}
        assert {(key.task, key.name) for key in tx2} == {(key.task, key.name) for key in pi}
        folders = {key.folder(paper) for key in tx2 | pi}
        assert len(folders) == len(tx2) + len(pi)
    assert set(figures["fig15a"].runs) == set(figures["fig15d"].runs)


def test_on_one_device_figures_of_different_boards_share_their_runs(
    paper: settings.Config,
) -> None:
    figures = elastic_settings.figures(paper)
    assert figures["fig15a"].runs == figures["fig16a"].runs
    assert {key.device for figure in figures.values() for key in figure.runs} == {"local"}


def test_ego_variants_run_elastictrainer_alone_in_every_budget(paper: settings.Config) -> None:
    figures = elastic_settings.figures(paper)
    alone = {name for name in figures if name.endswith("_ego")}
    assert len(alone) == 18
    for name in alone:
        whole = figures[name.removesuffix("_ego")].runs
        assert figures[name].runs == tuple(key for key in whole if key.scheme == "elastic")
        assert figures[name].entry["schemes"] == ["elastic"]
    assert len(figures["fig17a_ego"].runs) == 5


def test_a_model_has_its_own_training(paper: settings.Config) -> None:
    key = elastic_settings.RunKey("local", "vit_b16", "caltech_birds2011", "full", 0)
    training = settings.run_spec(paper, key, DEVICES)["training"]
    own = paper["model_training"]["vit_b16"]
    assert training == paper["training"] | own
    assert (training["optimiser"]["name"], training["dropout"]) == ("adam", 0)


def test_a_model_may_have_an_image_size_of_its_own(demo: settings.Config) -> None:
    demo["model_training"] = {"efficientnet_lite0": {"image_size": 64}}
    spec = elastic_settings.profile_spec(
        demo, "local", "efficientnet_lite0-elpv", settings.read_devices(DEVICES)
    )
    assert spec["data"]["folder"] == "results/data/elpv-64"
    other = elastic_settings.profile_spec(
        demo, "local", "efficientnet_lite1-elpv", settings.read_devices(DEVICES)
    )
    assert other["data"]["folder"] == "results/data/elpv-96"


# Groups.


def test_groups_hold_figures_and_groups_each_figure_once(demo: settings.Config) -> None:
    demo["groups"] = {
        "most": ["some", "fig7", "more", "fig15a"],
        "some": ["fig15a", "fig15a_ego"],
        "more": ["some", "table1"],
    }
    settings.check(demo, [], DEVICES)
    assert settings.targets(demo) == {
        "most": ("fig15a", "fig15a_ego", "fig7", "table1"),
        "some": ("fig15a", "fig15a_ego"),
        "more": ("fig15a", "fig15a_ego", "table1"),
    }


def test_the_group_of_all_holds_every_figure(demo: settings.Config) -> None:
    every = set(elastic_settings.figures(demo))
    assert set(settings.targets(demo)["elastic"]) == {n for n in every if not n.endswith("_ego")}


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"g": ["fig15a", "fig15z"]}, r"groups\.g\.1 = 'fig15z': unknown figure or group"),
        ({"g": ["g"]}, r"groups\.g holds itself, by way of g$"),
        ({"g": ["h"], "h": ["i"], "i": ["g"]}, r"groups\.g holds itself, by way of g, h, i$"),
        ({"g": []}, r"groups\.g = \[\]"),
    ],
)
def test_a_group_that_makes_no_sense_is_refused(
    demo: settings.Config, groups: dict[str, list[str]], said: str
) -> None:
    demo["groups"] = groups
    with pytest.raises(ConfigError, match=said):
        settings.check(demo, [], DEVICES)


# Mistakes.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "pie"}, r"figures\.f\.kind = 'pie': unknown kind of figure \(known: bars, curv"),
        ({"device": "jetson_tx3"}, r"figures\.f\.device = .*did you mean 'jetson_tx2'\?"),
        ({"model": ["vgg19"]}, r"figures\.f\.model\.0 = 'vgg19': unknown key of stand_ins"),
        ({"dataset": ["elpv"]}, r"figures\.f\.dataset\.0 = 'elpv': unknown key of stand_ins"),
        ({"dataset": []}, r"figures\.f\.dataset = \[\]"),
        ({"schemes": ["full", "ful"]}, r"figures\.f\.schemes\.1 = 'ful': unknown scheme"),
        ({"schemes": ["full", "full"]}, r"figures\.f\.schemes = .* non-unique elements"),
        ({"y": ["accuracy"]}, r"figures\.f\.y\.0 = 'accuracy': must be one of test_accuracy,"),
        ({"vary": [{"roh": [0.5]}]}, r"unknown key 'figures\.f\.vary\.0\.roh' .*mean 'rho'"),
        ({"vary": [{"rho": [0]}]}, r"figures\.f\.vary\.0\.rho\.0 = 0: must be above 0"),
        ({"vary": [{"interval": [1.5]}]}, r"interval\.0 = 1\.5: must be of type integer"),
        ({"kind": "epochs"}, r"figures\.f: y is 'test_accuracy', allowed: teraflops"),
        ({"y": ["test_loss", "test_accuracy"]}, r"figures\.f: y is .*; kind curves shows one$"),
        (
            {"longer": {"resnet50": {"full": 2}}},
            r"figures\.f: key longer, which kind curves does n",
        ),
        (
            BARS | {"longer": {"vgg16": {"full": 2}}},
            r"figures\.f\.longer: unknown model of this figure 'vgg16' \(known: resnet50\)",
        ),
        (
            BARS | {"longer": {"resnet50": {"head": 2}}},
            r"figures\.f\.longer\.resnet50: unknown scheme of this figure 'head'",
        ),
        ({"longer": {"resnet50": {"full": 1}}}, r"resnet50\.full = 1: must be at least 2"),
        (
            {"kind": "speedup_table", "targets": {"stanford_dogs": [60]}},
            r"figures\.f\.targets: unknown dataset of this figure 'stanford_dogs'",
        ),
        ({"targets": {"caltech_birds2011": [101]}}, r"= 101: must be above 0 and at most 100"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_refused(
    demo: settings.Config, changes: dict[str, Any], said: str
) -> None:
    demo["figures"] = {"f": entry(**changes)}
    demo["groups"] = {}
    with pytest.raises(ConfigError, match=said):
        settings.check(demo, [], DEVICES)


def test_a_mistake_in_the_keys_of_a_figure_is_said_to_be_in_its_file(
    demo: settings.Config, tmp_path: Path
) -> None:
    demo["figures"] |= {"f": entry(**BARS, longer={"vgg16": {"full": 2}})}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"figures": {"f": demo["figures"]["f"]}}))
    with pytest.raises(ConfigError, match=r"^\S*mine\.yaml: figures\.f\.longer: "):
        settings.check(demo, [ROOT / "config/config.yaml", tmp_path / "mine.yaml"], DEVICES)


def test_a_size_that_a_model_cannot_take_names_the_figure_and_the_nearest_sizes(
    demo: settings.Config,
) -> None:
    demo["stand_ins"]["vit_b16"] = "vit_b16"
    settings.check(demo, [], DEVICES)  # 96 is six patches
    demo["training"]["image_size"] = 100
    wanted = "ViT-B/16, for figure fig19a, takes multiples of 16: 96 or 112"
    with pytest.raises(ConfigError, match=rf"training\.image_size = 100: {wanted}$"):
        settings.check(demo, [], DEVICES)
    demo["model_training"] = {"vit_b16": {"image_size": 112}}
    settings.check(demo, [], DEVICES)
    demo["model_training"] = {"vit_b16": {"image_size": 90}}
    with pytest.raises(ConfigError, match=r"model_training\.vit_b16\.image_size = 90: .* 80 or 96"):
        settings.check(demo, [], DEVICES)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"vit": {"dropout": 0}}, r"model_training: unknown model 'vit' \(known: .*'vit_b16'\?"),
        ({"vit_b16": {"dropuot": 0}}, r"unknown key 'model_training\.vit_b16\.dropuot'"),
        ({"vit_b16": {"dropout": 2}}, r"model_training\.vit_b16\.dropout = 2: must be at least"),
        (
            {"vit_b16": {"optimiser": {"name": "sgdw", "learning_rate": 1, "schedule": "cosine"}}},
            r"model_training\.vit_b16\.optimiser: missing momentum, weight_decay",
        ),
    ],
)
def test_training_of_a_models_own_is_checked_before_anything_starts(
    demo: settings.Config, own: dict[str, Any], said: str
) -> None:
    demo["model_training"] = own
    with pytest.raises(ConfigError, match=said):
        settings.check(demo, [], DEVICES)


@pytest.mark.parametrize(
    ("scheme", "said"),
    [
        ({"name": "elastc"}, r"spec\.yaml: scheme\.name = 'elastc': unknown scheme .*'elastic'\?"),
        ({"name": "full", "rho": 0.5}, r"spec\.yaml: scheme full has no settings, not \['rho'\]"),
        ({"name": "elastic", "rho": 0.5}, r"missing interval, budget, cost, resolution, gran"),
        ({"name": "prunetrain"}, r"missing penalty_ratio, threshold, multiple, interval"),
        ({"name": "prunetrain_l1", "penalty": 0}, r"penalty = 0: must be above 0"),
        ({"name": "prunetrain_l1", "penalty": 1, "rho": 1}, r"unknown key 'rho' \(known: penalty"),
    ],
)
def test_a_spec_whose_scheme_has_other_settings_than_it_takes_is_refused(
    demo: settings.Config, tmp_path: Path, scheme: dict[str, Any], said: str
) -> None:
    spec = spec_of(demo)
    spec.content["scheme"] = scheme
    spec.save(tmp_path / "spec.yaml")
    with pytest.raises(ConfigError, match=said):
        RunSpec.load(tmp_path / "spec.yaml")


# Frameworks.


@pytest.mark.parametrize("name", ["config", "run"])
def test_a_framework_can_be_named_where_there_is_one(name: str) -> None:
    assert schema.load(name)["properties"]["framework"]["enum"] == list(FRAMEWORKS)


def test_every_model_names_weights_of_every_framework() -> None:
    assert {name: set(model.weights) for name, model in MODELS.items()} == {
        name: set(FRAMEWORKS) for name in MODELS
    }


def test_the_framework_decides_on_folder_and_weights(paper: settings.Config) -> None:
    paper["framework"] = "torch"
    key = elastic_settings.figures(paper)["fig15a"].runs[0]
    spec = settings.run_spec(paper, key, DEVICES)
    assert key.folder(paper).startswith("results/paper/local/torch/resnet50-")
    assert spec["model"]["weights"] == "results/weights/resnet50_torch"
    assert spec["profile"].startswith("results/paper/local/torch/profiles/")


# Specs.


def test_a_spec_comes_back_from_its_file(demo: settings.Config, tmp_path: Path) -> None:
    spec = spec_of(demo)
    spec.save(tmp_path / "spec.yaml")
    assert RunSpec.load(tmp_path / "spec.yaml") == spec


def test_the_digest_follows_what_is_computed_and_nothing_else(demo: settings.Config) -> None:
    spec = spec_of(demo)
    other = copy.deepcopy(demo)
    other["training"]["snapshot_minutes"] = 1
    assert spec_of(other).digest == spec.digest
    other["training"]["epochs"] += 1
    assert spec_of(other).digest != spec.digest
    assert spec_of(demo, "full").digest != spec.digest


def test_another_profile_makes_another_run_only_where_it_decides_what_is_trained(
    demo: settings.Config, tmp_path: Path
) -> None:
    found = {}
    for scheme in ("elastic", "full"):
        spec = spec_of(demo, scheme)
        spec.content["profile"] = str(tmp_path / "profile.json")
        spec.content["model"]["weights"] = None
        spec.content["data"]["folder"] = str(tmp_path)
        (tmp_path / "manifest.json").write_text('{"entry": "of the catalog"}')
        names = set()
        for content in ("one", "other"):
            (tmp_path / "profile.json").write_text(content)
            names.add(identity(spec))
        found[scheme] = len(names)
    assert found == {"elastic": 2, "full": 1}


def test_a_spec_of_another_recipe_is_refused(demo: settings.Config, tmp_path: Path) -> None:
    spec = spec_of(demo)
    spec.content["recipe"] = 999
    spec.save(tmp_path / "spec.yaml")
    with pytest.raises(ConfigError, match=r"recipe 999 is not that of this version of core"):
        RunSpec.load(tmp_path / "spec.yaml")


def test_an_optimiser_without_the_settings_that_it_needs_is_refused(demo: settings.Config) -> None:
    del demo["training"]["optimiser"]["momentum"]
    with pytest.raises(ConfigError, match=r"training\.optimiser: missing momentum"):
        settings.check(demo, [], DEVICES)


@pytest.mark.parametrize(
    ("section", "own", "said"),
    [
        ("training", {"epochs": 3}, r"training\.epochs is 3, published: 12"),
        ("elastic", {"interval": 1}, r"elastic\.interval is 1, published: 4"),
        ("stand_ins", {"vgg16": "resnet50"}, r"stand_ins\.vgg16 is 'resnet50', published: 'vgg16'"),
        ("model_training", {"vit_b16": {}}, r"model_training\.vit_b16 is \{\}, published: \{'drop"),
        (
            "model_training",
            {"resnet50": {"epochs": 1}},
            r"model_training\.resnet50 is \{'epochs': 1\}, published: None",
        ),
        ("split", {"uplink": "none"}, r"split\.uplink is 'none', published: 'int8'"),
        (
            "federated",
            {"dataset": "movielens_100k"},
            r"federated\.dataset is 'movielens_100k', pub",
        ),
        # What only the demo says holds at published scale too.
        ("prunetrain", {"multiple": 1}, r"prunetrain\.multiple is 1, published: 8"),
        ("elastic", {"resolution": 10}, r"elastic\.resolution is 10, published: 10000"),
        ("split", {"feedback": "none"}, r"split\.feedback is 'none', published: 'published'"),
        ("split", {"mode": "opportunistic"}, r"split\.mode is 'opportunistic', published"),
        ("federated", {"staleness": 9}, r"federated\.staleness is 9, published: 5"),
    ],
)
def test_a_published_scale_with_another_setting_is_refused(
    paper: settings.Config,
    published: settings.Config,
    section: str,
    own: dict[str, Any],
    said: str,
) -> None:
    paper["elastic"]["rho"] = 0.7  # budgets vary in the paper too
    settings.check_published(paper, published)
    paper[section] |= own
    with pytest.raises(ConfigError, match=said):
        settings.check_published(paper, published)


def test_a_task_of_split_training_is_published_wherever_its_sides_are(
    paper: settings.Config, published: settings.Config
) -> None:
    paper["split"]["edge"] |= {"device": "jetson_tx2", "slowdown": 3}
    paper["split"]["training"]["snapshot_minutes"] = 1  # of which the paper says nothing
    settings.check_published(paper, published)
    own = {"training": paper["split"]["tasks"]["cifar10_resnet50"]["training"] | {"epochs": 3}}
    paper["split"]["tasks"]["cifar10_resnet50"] |= own
    said = r"split\.tasks\.cifar10_resnet50\.training\.epochs is 3, published: 160"
    with pytest.raises(ConfigError, match=said):
        settings.check_published(paper, published)


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("training", "batch"), 32.0, r"training\.batch = 32\.0: must be of type integer"),
        (("elastic", "rho"), float("nan"), r"elastic\.rho = nan: must be of type number"),
        (("training", "dropout"), "1e-4", r"must be of type number; inside .* YAML wants 1\.0e-4"),
        (("stand_ins", "resnet50"), "elpv", r"stand_ins\.resnet50 = 'elpv': unknown model"),
        (("stand_ins", "stanford_dogs"), "resnet50", r"'resnet50': unknown data set"),
    ],
)
def test_a_value_that_would_fail_later_is_refused_now(
    demo: settings.Config, keys: tuple[str, str], value: object, said: str
) -> None:
    demo[keys[0]][keys[1]] = value
    with pytest.raises(ConfigError, match=said):
        settings.check(demo, [], DEVICES)


def test_what_snakemake_imports_needs_nothing_that_snakemake_does_not_bring() -> None:
    """A Snakemake of the user's own reads the configuration and writes specs."""
    code = (
        "import sys\n"
        "for name in ('filelock', 'numpy', 'tqdm', 'PIL', 'safetensors', 'torch', 'tensorflow'):\n"
        "    sys.modules[name] = None\n"
        "import core.config, core.spec, core.data.catalog\n"
        "core.data.catalog.load()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_device_file_with_a_mistake_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("title: mine\nprocesor: x\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: unknown key 'procesor'"):
        settings.read_devices(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "nowhere.yaml", "--out", "x"], 2, "nowhere.yaml: No such file or directory"),
        (["bench", "speed"], 2, "unknown benchmark 'speed'; known: selector,"),
        (["fetch", "elvp", "--size", "32", "--out", "x"], 2, "did you mean 'elpv'?"),
    ],
)
def test_a_mistake_on_the_command_line_has_its_code_and_its_words(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == code
    assert said in capsys.readouterr().err


def test_help_lists_every_verb_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for verb in ("fetch", "profile", "run", "figure", "bench"):
        assert f"    {verb} " in text
    for code, meaning in exit_codes().items():
        assert f"{code}  {meaning}" in text


def test_a_message_goes_to_the_log_file_too(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.log"
    assert main(["--log", str(log), "run", "nowhere.yaml", "--out", "x"]) == 2
    assert "nowhere.yaml: No such file or directory" in log.read_text()


def defaults(part: dict[str, object]) -> dict[str, object]:
    """Defaults that a schema gives, nested as its keys are."""
    if "$ref" in part:
        part = schema.load(str(part["$ref"]).split(".")[0])
    found: dict[str, object] = {}
    for key, inner in part.get("properties", {}).items():  # type: ignore[attr-defined]
        if "default" in inner:
            found[key] = inner["default"]
        elif nested := defaults(inner):
            found[key] = nested
    return found


def test_the_defaults_of_the_schema_are_those_of_the_shipped_configuration(
    demo: settings.Config,
) -> None:
    named = ("stand_ins", "figures", "groups", "tasks", "parties")  # by the user
    shipped = {k: v for k, v in demo.items() if k not in named}
    for section in ("split", "federated"):
        shipped[section] = {k: v for k, v in demo[section].items() if k not in named}
    assert defaults(schema.load("config")) == shipped


def test_prunetrain_on_a_network_without_convolutions_is_refused_before_anything_trains(
    demo: settings.Config,
) -> None:
    demo["stand_ins"]["resnet50"] = "vit_b16"
    with pytest.raises(
        ConfigError, match=r"figures\.fig17a: scheme prunetrain cuts channels of .*"
    ):
        settings.check(demo, [], DEVICES)


@pytest.mark.parametrize("key", ["granularity", "cost", "budget", "probe_batches", "corrections"])
def test_at_paper_scale_the_selector_is_the_published_one(
    paper: settings.Config, published: settings.Config, key: str
) -> None:
    settings.check_published(paper, published)
    paper["elastic"][key] = "another"
    with pytest.raises(ConfigError, match=rf"elastic\.{key} is 'another', published: "):
        settings.check_published(paper, published)
