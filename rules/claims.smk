# The papers' statements beside what was measured. Reads the results that are there: it has no inputs,
# so that nothing is trained for it, and is made anew each time.


rule claims_config:
    output:
        config=temp("results/claims.config.yaml"),
    log:
        "logs/claims.config.log",
    params:
        config=one_line(config),
    message:
        "Writing the configuration of the claims."
    run:
        Path(output.config).write_text(yaml.safe_dump(json.loads(params.config)))


rule claims:
    input:
        config="results/claims.config.yaml",
    output:
        csv="results/claims.csv",
        json="results/claims.json",
        md="results/claims.md",
    log:
        "logs/claims.log",
    params:
        out=lambda wildcards, output: str(Path(output.csv).with_suffix("")),
    message:
        "Holding the papers' claims against what was measured."
    shell:
        '"$ENVS_RUN" main python -m core --log {log} claims'
        " --configfile {input.config} --out {params.out}"
