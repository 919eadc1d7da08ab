# What a training step costs on a device, tensor by tensor.


rule profile_spec:
    output:
        spec="results/{scale}/{device}/{framework}/profiles/{task}.spec.yaml",
    log:
        "logs/{scale}/{device}/{framework}/profiles/{task}.spec.log",
    localrule: True
    params:
        spec=spec_of_profile,
    message:
        "Writing what is profiled of {wildcards.task}."
    script:
        "../workflow/scripts/run_spec.py"


rule profile:
    input:
        spec="results/{scale}/{device}/{framework}/profiles/{task}.spec.yaml",
        data=ancient(data_of),
        weights=ancient(weights_of),
    output:
        profile="results/{scale}/{device}/{framework}/profiles/{task}.json",
    log:
        "logs/{scale}/{device}/{framework}/profiles/{task}.log",
    threads: threads_here
    resources:
        **SLOTS,
    params:
        environment=environment_of_framework,
        repeats=config["profiling"]["repeats"],
    message:
        "Profiling {wildcards.task} on {wildcards.device}."
    shell:
        '"$ENVS_ON" {wildcards.device} {params.environment} --log {log}'
        " profile {input.spec} --repeats {params.repeats} --out {output.profile}"
