# The papers' statements beside what was measured, and the page about everything. Both read the
# results that are there and have none as inputs, so that nothing is trained for them.


rule claims_config:
    output:
        config=temp("results/claims.config.yaml"),
    log:
        "logs/claims.config.log",
    localrule: True
    params:
        config=one_line(config),
    message:
        "Writing the configuration of the claims."
    run:
        Path(output.config).write_text(yaml.safe_dump(json.loads(params.config)))


rule report:
    input:
        config="results/claims.config.yaml",
    output:
        page=report(
            "results/report.html",
            caption="../workflow/report/page.rst",
            category="Summary",
        ),
    log:
        "logs/report.log",
    localrule: True
    message:
        "Writing one page of figures, claims and runs."
    shell:
        '"$ENVS_RUN" main python -m core --log {log} report'
        " --configfile {input.config} --out {output.page}"


rule claims:
    input:
        config="results/claims.config.yaml",
    output:
        csv="results/claims.csv",
        json="results/claims.json",
        md="results/claims.md",
    log:
        "logs/claims.log",
    localrule: True
    params:
        out=lambda wildcards, output: str(Path(output.csv).with_suffix("")),
    message:
        "Holding the papers' claims against what was measured."
    shell:
        '"$ENVS_RUN" main python -m core --log {log} claims'
        " --configfile {input.config} --out {params.out}"
