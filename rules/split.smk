# Split training between edge and cloud: one run each, both sides started by one command, each on its
# device. Snapshots of both sides lie beside the folder of a run, at a path that Snakemake does not
# know.


rule split_profile_spec:
    output:
        spec="results/{scale}/{device}/split/profiles/{split_task}-{side}.spec.yaml",
    log:
        "logs/{scale}/{device}/split/profiles/{split_task}-{side}.spec.log",
    localrule: True
    params:
        spec=spec_of_split_profile,
    message:
        "Writing what is profiled of {wildcards.split_task} on the {wildcards.side}."
    script:
        "../workflow/scripts/run_spec.py"


rule split_profile:
    input:
        spec="results/{scale}/{device}/split/profiles/{split_task}-{side}.spec.yaml",
        weights=ancient(weights_of_split),
    output:
        profile="results/{scale}/{device}/split/profiles/{split_task}-{side}.json",
    log:
        "logs/{scale}/{device}/split/profiles/{split_task}-{side}.log",
    threads: threads_here
    resources:
        **SLOTS,
    params:
        repeats=config["split"]["profiling"]["repeats"],
    message:
        "Profiling the blocks of {wildcards.split_task} on the {wildcards.side}."
    shell:
        '"$ENVS_ON" {wildcards.device} main --log {log} split profile {input.spec}'
        " --side {wildcards.side} --repeats {params.repeats} --out {output.profile}"


rule split_run_spec:
    output:
        spec="results/{scale}/{device}/split/{split_task}/{context}/{split_run}/spec.yaml",
    log:
        "logs/{scale}/{device}/split/{split_task}/{context}/{split_run}.spec.log",
    localrule: True
    params:
        spec=spec_of_split,
    message:
        "Writing the spec of {wildcards.split_run} in context {wildcards.context}."
    script:
        "../workflow/scripts/run_spec.py"


rule split_run:
    input:
        spec="results/{scale}/{device}/split/{split_task}/{context}/{split_run}/spec.yaml",
        profiles=profiles_of_split,
        data=ancient(data_of_split),
        weights=ancient(weights_of_split),
    output:
        result="results/{scale}/{device}/split/{split_task}/{context}/{split_run}/result.json",
        epochs="results/{scale}/{device}/split/{split_task}/{context}/{split_run}/epochs.csv",
        iterations="results/{scale}/{device}/split/{split_task}/{context}/{split_run}/iterations.csv",
    log:
        "logs/{scale}/{device}/split/{split_task}/{context}/{split_run}.log",
    threads: threads_of_split
    resources:
        **SPLIT_SLOTS,
    params:
        folder=folder_of_output,
    message:
        "Training {wildcards.split_run} of {wildcards.split_task} in context {wildcards.context}."
    shell:
        '"$ENVS_ON" {wildcards.device} main --log {log} run {input.spec} --out {params.folder}'
