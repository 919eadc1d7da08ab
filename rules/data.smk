# Data sets and pretrained weights: fetched from where they are published, checked, prepared.


rule dataset:
    output:
        manifest="results/data/{dataset}-{size}/manifest.json",
    log:
        "logs/data/{dataset}-{size}.log",
    params:
        folder=folder_of_output,
        environment=environment_of_data,
    message:
        "Fetching and preparing data set {wildcards.dataset} in size {wildcards.size}."
    shell:
        '"$ENVS_RUN" {params.environment} python -m core --log {log}'
        " fetch {wildcards.dataset} --size {wildcards.size} --out {params.folder}"


rule weights:
    output:
        manifest="results/weights/{weights}/manifest.json",
    log:
        "logs/weights/{weights}.log",
    params:
        folder=folder_of_output,
    message:
        "Fetching pretrained weights of {wildcards.weights}."
    shell:
        '"$ENVS_RUN" main python -m core --log {log} fetch {wildcards.weights} --out {params.folder}'
