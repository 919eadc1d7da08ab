"""core.config, core.spec and the command line."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core import config as settings
from core import schema
from core.cli import main
from core.elastic.run import identity
from core.errors import ConfigError, exit_codes
from core.spec import RunSpec

ROOT = Path(__file__).parents[2]
DEVICES = ROOT / "config" / "devices"


@pytest.fixture
def demo() -> settings.Config:
    content: settings.Config = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())
    return content


def spec_of(config: settings.Config, scheme: str = "elastic") -> RunSpec:
    rho = config["elastic"]["rho"] if scheme == "elastic" else None
    key = settings.RunKey("efficientnet_lite0", "elpv", scheme, rho, 0)
    return RunSpec(settings.run_spec(config, key, DEVICES))


def test_the_shipped_configuration_is_valid(demo: settings.Config) -> None:
    settings.check(demo, [], DEVICES)
    settings.check_published(demo, yaml.safe_load((ROOT / "config" / "paper.yaml").read_text()))


def test_the_spec_of_every_run_is_complete(demo: settings.Config) -> None:
    for figure in settings.figures(demo).values():
        for key in figure.runs:
            schema.check(settings.run_spec(demo, key, DEVICES), "run", [])


@given(
    scheme=st.sampled_from(["elastic", "full", "head", "bn_bias"]),
    rho=st.floats(0.001, 1).map(lambda rho: float(f"{rho:g}")),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_name_of_a_run_says_which_it_is(scheme: str, rho: float, seed: int) -> None:
    key = settings.RunKey(
        "resnet50", "elpv_mono", scheme, rho if scheme == "elastic" else None, seed
    )
    assert settings.RunKey.parse(key.task, key.name) == key


@pytest.mark.parametrize(
    ("task", "run"), [("resnet50", "full-seed0"), ("a-b", "full"), ("a-b", "")]
)
def test_what_names_no_run_is_refused(task: str, run: str) -> None:
    with pytest.raises(ConfigError, match="does not name a run"):
        settings.RunKey.parse(task, run)


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


def test_a_published_scale_with_another_training_is_refused(demo: settings.Config) -> None:
    published = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())
    sections = ("training", "stand_ins", "elastic")
    paper = demo | {key: demo[key] | published[key] for key in sections}
    paper["scale"] = "paper"
    settings.check_published(paper, published)
    paper["training"]["epochs"] = 3
    with pytest.raises(ConfigError, match=r"training\.epochs is 3, published: 12"):
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
        (["fetch", "elvp", "--image-size", "32", "--out", "x"], 2, "did you mean 'elpv'?"),
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
    shipped = {k: v for k, v in demo.items() if k not in ("stand_ins", "figures")}
    assert defaults(schema.load("config")) == shipped
