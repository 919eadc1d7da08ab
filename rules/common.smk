# The only file with functions: what rules need to know about the configuration.

import json
import shlex
import sys
from pathlib import Path

import yaml
from snakemake.exceptions import WorkflowError

# `core` is found beside the Snakefile, so that a Snakemake of the user's own works as well.
sys.path.insert(0, str(workflow.basedir))

from core import config as settings
from core import schema
from core.data import catalog
from core.devices.hosts import read_hosts
from core.elastic import config as elastic_settings
from core.elastic.schemes import SCHEMES
from core.errors import CoreError
from core.federated import config as federated_settings
from core.frameworks import FRAMEWORKS
from core.split import config as split_settings
from core.split.schemes import SCHEMES as SPLIT_SCHEMES

# Every command goes through the launchers in envs, which are found wherever Snakemake works.
ENVS = shlex.quote(f"{workflow.basedir}/envs")
shell.prefix(f"ENVS_RUN={ENVS}/run ENVS_ON={ENVS}/on; ")

CONFIG_FOLDER = Path(workflow.basedir) / "config"
DEVICES_FOLDER, CONTEXTS_FOLDER = CONFIG_FOLDER / "devices", CONFIG_FOLDER / "contexts"

try:
    settings.check(config, [Path(f) for f in workflow.configfiles], DEVICES_FOLDER)
    settings.check_published(config, settings.read_published(CONFIG_FOLDER))
    DEVICES = settings.read_devices(DEVICES_FOLDER)
    FIGURES = settings.figures(config)
    GROUPS = settings.targets(config)
    BOARDS = read_hosts()
except CoreError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    scale="[a-z]+",
    device="[a-z0-9_]+",
    framework="tensorflow|torch",
    dataset="[a-z0-9_]+",
    weights="[a-z0-9_]+",
    size=r"\d+",
    task="[a-z0-9_]+-[a-z0-9_]+",
    run=r"[a-z0-9_]+(-[a-z_]+[0-9.]+)*-seed\d+",
    figure="[a-z0-9_]+",
    split_task="[a-z0-9_]+",
    context="[a-z0-9_]+",
    side="edge|cloud",
    split_run=r"[a-z_]+(-[a-z0-9_+]+)*-seed\d+",
    federated_run=r"[a-z_]+(-[a-z0-9]+)*-seed\d+",


onstart:
    without_default_limit(workflow)
    # `published` names a board for each figure; a job whose board is nowhere says so.
    if config["device"] not in ("local", "published", *BOARDS):
        raise WorkflowError(
            f"device = {config['device']!r}: write into config/hosts.yaml where it is, as in "
            "config/hosts.example.yaml (docs/devices.md). On the device itself, use "
            "`--config device=local`; to see the plan, add `-n`."
        )
    for side in ("edge", "cloud"):
        if config["split"][side]["device"] not in ("local", *BOARDS):
            raise WorkflowError(
                f"split.{side}.device = {config['split'][side]['device']!r}: write into "
                "config/hosts.yaml where it is (docs/devices.md); to see the plan, add `-n`."
            )
    federated = config["federated"]
    for name, side in {
        "server": federated["server"],
        **federated["parties"],
    }.items():
        if side["device"] != "local":
            raise WorkflowError(
                f"federated: {name} is on device {side['device']!r}: all sides run here yet. On "
                "several machines, start each by hand: docs/federated.md; for the plan, add `-n`."
            )


def without_default_limit(workflow):
    """Take away Snakemake's default limit of jobs per second, which no workflow of trainings comes
    near; one that somebody sets stays. With it, Snakemake looks for jobs again a second after each
    look that found some to wait for, and starts a solver each time: with every job that has
    finished once more a second, which takes half a core in the end."""
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def one_line(content):
    """The same text for the same content, in whatever order a file has its keys: Snakemake
    compares parameters as text."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def figure_of(wildcards):
    """The figure of this name."""
    if wildcards.figure not in FIGURES:
        known = schema.suggestion(wildcards.figure, sorted(FIGURES))
        raise WorkflowError(f"there is no figure {wildcards.figure!r} ({known})")
    return FIGURES[wildcards.figure]


def inputs_of_figure(wildcards):
    """Results or profiles that a figure is drawn from, or contexts where it is simulated."""
    figure = figure_of(wildcards)
    contexts = figure.entry.get("contexts", [])
    simulated = [CONTEXTS_FOLDER / f"{name}.yaml" for name in contexts]
    return figure.files(config) or simulated


def folders_of_figure(wildcards):
    """What the drawing is told of them."""
    return figure_of(wildcards).folders(config)


def figure_entry(wildcards):
    """A figure's entry, on one line."""
    return one_line(figure_of(wildcards).entry)


def figure_stand_ins(wildcards):
    """What stands in for the models and data sets that a figure names, on one line."""
    entry = figure_of(wildcards).entry
    names = [*entry.get("model", []), *entry.get("dataset", [])]
    return one_line({name: config["stand_ins"][name] for name in names})


def results_of_campaign(wildcards):
    """Results of the runs of every figure, with each of several seeds."""
    runs = settings.campaign(config)
    return [f"{run.folder(config)}/result.json" for run in runs]


def figures_of_group(group):
    """The pictures of a group of figures."""
    return [f"figures/{name}.pdf" for name in GROUPS[group]]


def spec_of(wildcards):
    """The complete spec of a run, on one line."""
    key = elastic_settings.RunKey.parse(wildcards.device, wildcards.task, wildcards.run)
    return one_line(elastic_settings.run_spec(config, key, DEVICES))


def data_of(wildcards):
    """Manifest of the data set of a task, in the size that its model takes."""
    names = (wildcards.device, wildcards.task)
    spec = elastic_settings.profile_spec(config, *names, DEVICES)
    return f"{spec['data']['folder']}/manifest.json"


def weights_of(wildcards):
    """Manifest of the pretrained weights of a task."""
    model, _, _ = wildcards.task.partition("-")
    weights = elastic_settings.MODELS[model].weights[wildcards.framework]
    return f"{elastic_settings.WEIGHTS.format(weights=weights)}/manifest.json"


def spec_of_profile(wildcards):
    """The spec that a profile is measured for, on one line."""
    names = (wildcards.device, wildcards.task)
    return one_line(elastic_settings.profile_spec(config, *names, DEVICES))


def folder_of_output(wildcards, output):
    """The folder that a command writes into."""
    return str(Path(output[0]).parent)


def profile_of(wildcards):
    """The timing profile of a run. It decides what ElasticTrainer selects; the baselines only
    read the forward time from it and are not trained again for a new one."""
    path = elastic_settings.PROFILE.format(**wildcards)
    names = (wildcards.device, wildcards.task, wildcards.run)
    scheme = SCHEMES[elastic_settings.RunKey.parse(*names).scheme]
    return path if scheme.trains is None else ancient(path)


def split_key(wildcards):
    """Which run of split training this is."""
    return split_settings.SplitKey.parse(
        wildcards.device, wildcards.split_task, wildcards.context, wildcards.split_run
    )


def split_spec(wildcards):
    """The complete spec of a run of split training."""
    return split_settings.run_spec(
        config, split_key(wildcards), DEVICES, CONTEXTS_FOLDER
    )


def spec_of_split(wildcards):
    """The same on one line."""
    return one_line(split_spec(wildcards))


def spec_of_split_profile(wildcards):
    """The spec that both devices are profiled for, on one line."""
    task = wildcards.split_task
    return one_line(split_settings.profile_spec(config, task, DEVICES, CONTEXTS_FOLDER))


def data_of_split(wildcards):
    """Manifest of the data set of a run of split training."""
    return f"{split_spec(wildcards)['data']['folder']}/manifest.json"


def weights_of_split(wildcards):
    """Manifest of the pretrained weights of a task, where it has any."""
    task = wildcards.split_task
    spec = split_settings.profile_spec(config, task, DEVICES, CONTEXTS_FOLDER)
    weights = spec["model"]["weights"]
    return f"{weights}/manifest.json" if weights else []


def profiles_of_split(wildcards):
    """Profiles of both devices, where they decide where the cut is."""
    spec = split_spec(wildcards)
    return list(spec["profile"].values()) if spec["scheme"]["cut"] is None else []


def federated_spec(wildcards):
    """The complete spec of a run of federated training."""
    key = federated_settings.FederatedKey.parse(
        wildcards.device, wildcards.context, wildcards.federated_run
    )
    return federated_settings.run_spec(config, key, DEVICES, CONTEXTS_FOLDER)


def spec_of_federated(wildcards):
    """The same on one line."""
    return one_line(federated_spec(wildcards))


def data_of_federated(wildcards):
    """Manifest of the data set of a run of federated training."""
    return f"{federated_spec(wildcards)['data']['folder']}/manifest.json"


def environment_of_data(wildcards):
    """The environment that can read a data set."""
    return catalog.environment(catalog.entry(wildcards.dataset))


def environment_of_framework(wildcards):
    """The environment that trains."""
    return FRAMEWORKS[wildcards.framework].environment


def threads_here(wildcards):
    """What a job takes of this host: nothing where a board does the work."""
    return 0 if wildcards.device in BOARDS else 1


def devices_of_split(wildcards):
    """Those that a run of split training takes: that of the edge, and that of the cloud where it
    has a part."""
    scheme = SPLIT_SCHEMES[split_key(wildcards).scheme]
    cloud = config["split"]["cloud"]["device"]
    return {wildcards.device} if scheme.cut == "edge" else {wildcards.device, cloud}


def threads_of_split(wildcards):
    """What a run of split training takes of this host: nothing where boards do all the work."""
    return int(not devices_of_split(wildcards) <= BOARDS.keys())


def slot(device):
    """One run at a time on each device: 1 for the rule's own device, 0 for the others."""
    return lambda wildcards: int(wildcards.device == device)


def slot_of_split(device):
    """The same of a run that has two."""
    return lambda wildcards: int(device in devices_of_split(wildcards))


SLOTS = {f"slot_{device}": slot(device) for device in DEVICES}
SPLIT_SLOTS = {f"slot_{device}": slot_of_split(device) for device in DEVICES}
