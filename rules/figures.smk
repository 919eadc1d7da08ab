# Figures read results only: drawing again never trains again.


rule figure:
    input:
        results=inputs_of_figure,
    output:
        pdf="figures/{figure}.pdf",
        png=report(
            "figures/{figure}.png",
            caption="../workflow/report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        csv="figures/{figure}.csv",
    log:
        "logs/figures/{figure}.log",
    localrule: True
    params:
        entry=figure_entry,
        stand_ins=figure_stand_ins,
        testing=config["time_axis"]["testing"],
        folders=folders_of_figure,
    message:
        "Drawing {wildcards.figure}."
    shell:
        '"$ENVS_RUN" main python -m core --log {log} figure --name {wildcards.figure}'
        " --entry {params.entry:q} --stand-ins {params.stand_ins:q}"
        " --testing {params.testing} --out {output.pdf} {params.folders}"


for group in GROUPS:

    rule:
        name:
            group
        input:
            figures_of_group(group),
        localrule: True
