# Vertical federated training: one run each, all sides started by one command. Snapshots of all sides
# lie beside the folder of a run, at a path that Snakemake does not know.


rule federated_run_spec:
    output:
        spec="results/{scale}/{device}/federated/{context}/{federated_run}/spec.yaml",
    log:
        "logs/{scale}/{device}/federated/{context}/{federated_run}.spec.log",
    localrule: True
    params:
        spec=spec_of_federated,
    message:
        "Writing the spec of {wildcards.federated_run} in context {wildcards.context}."
    script:
        "../workflow/scripts/run_spec.py"


rule federated_run:
    input:
        spec="results/{scale}/{device}/federated/{context}/{federated_run}/spec.yaml",
        data=ancient(data_of_federated),
    output:
        result="results/{scale}/{device}/federated/{context}/{federated_run}/result.json",
        epochs="results/{scale}/{device}/federated/{context}/{federated_run}/epochs.csv",
        parties="results/{scale}/{device}/federated/{context}/{federated_run}/parties.csv",
    log:
        "logs/{scale}/{device}/federated/{context}/{federated_run}.log",
    resources:
        **SLOTS,
    params:
        folder=folder_of_output,
    message:
        "Training {wildcards.federated_run} in context {wildcards.context}."
    shell:
        '"$ENVS_RUN" main python -m core --log {log} run {input.spec} --out {params.folder}'
