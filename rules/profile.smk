# What a training step costs on a device, tensor by tensor.


rule profile:
    input:
        spec=ancient(profiled_spec),
        data=ancient(data_of),
        weights=ancient(weights_of),
    output:
        profile="results/{scale}/{device}/{framework}/profiles/{task}.json",
    log:
        "logs/{scale}/{device}/{framework}/profiles/{task}.log",
    resources:
        **SLOTS,
    params:
        environment=environment_of_device,
        digest=digest_of_profiled,
        repeats=config["profiling"]["repeats"],
    message:
        "Profiling {wildcards.task} on {wildcards.device}."
    shell:
        '"$ENVS_RUN" {params.environment} python -m core --log {log}'
        " profile {input.spec} --repeats {params.repeats} --out {output.profile}"
