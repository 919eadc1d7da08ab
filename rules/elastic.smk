# ElasticTrainer and its baselines: one run each, resumed wherever it was stopped. Snapshots lie
# beside the folder of a run, at a path that Snakemake does not know and so never deletes.


rule run_spec:
    output:
        spec="results/{scale}/{device}/{framework}/{task}/{run}/spec.yaml",
    log:
        "logs/{scale}/{device}/{framework}/{task}/{run}.spec.log",
    localrule: True
    params:
        spec=spec_of,
    message:
        "Writing the spec of {wildcards.run}."
    script:
        "../workflow/scripts/run_spec.py"


rule run:
    input:
        spec="results/{scale}/{device}/{framework}/{task}/{run}/spec.yaml",
        profile=profile_of,
        data=ancient(data_of),
        weights=ancient(weights_of),
    output:
        result="results/{scale}/{device}/{framework}/{task}/{run}/result.json",
        epochs="results/{scale}/{device}/{framework}/{task}/{run}/epochs.csv",
    log:
        "logs/{scale}/{device}/{framework}/{task}/{run}.log",
    threads: threads_here
    resources:
        **SLOTS,
    params:
        folder=folder_of_output,
        environment=environment_of_framework,
    message:
        "Training {wildcards.run} of {wildcards.task} on {wildcards.device}."
    shell:
        '"$ENVS_ON" {wildcards.device} {params.environment} --log {log}'
        " run {input.spec} --out {params.folder}"
