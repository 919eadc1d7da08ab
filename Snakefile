# Training at the edge. `snakemake figures/fig15a.pdf --cores 1` makes a figure and all it needs;
# docs/figures.md lists them. What is run is in config/, how Snakemake runs is in profiles/default/.

from snakemake.utils import min_version

min_version("9.19")


configfile: f"{workflow.basedir}/config/config.yaml"


include: "rules/common.smk"
# In the order in which data flows.
include: "rules/data.smk"
include: "rules/profile.smk"
include: "rules/elastic.smk"
include: "rules/split.smk"
include: "rules/federated.smk"
include: "rules/figures.smk"
include: "rules/claims.smk"


rule all:
    default_target: True
    input:
        expand("figures/{figure}.pdf", figure=FIGURES),
    localrule: True


rule campaign:
    input:
        rules.all.input,
        results_of_campaign,
    localrule: True
