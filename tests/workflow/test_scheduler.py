"""How often Snakemake looks for jobs: each look starts a solver, beside the runs that are timed."""

import pytest

from .conftest import Call

pytestmark = pytest.mark.slow


def specs(count: int) -> list[str]:
    """Files that cheap jobs make."""
    folder = "results/demo/local/torch/resnet50-caltech_birds2011"
    return [f"{folder}/full-seed{seed}/spec.yaml" for seed in range(count)]


def test_snakemake_looks_for_jobs_only_when_one_has_ended(snakemake: Call) -> None:
    jobs = specs(6)
    ran = snakemake(*jobs, "--verbose")

    assert ran.returncode == 0, ran.stdout
    assert 1 <= ran.stdout.count("Ready jobs: ") <= len(jobs) + 1


def test_a_limit_of_jobs_that_somebody_sets_stays(snakemake: Call) -> None:
    ran = snakemake(*specs(2), "--max-jobs-per-timespan", "1/4s")

    assert ran.returncode == 0, ran.stdout
    assert "Job rate limit reached, waiting for free slots." in ran.stdout
