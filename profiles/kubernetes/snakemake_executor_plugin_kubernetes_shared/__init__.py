"""Snakemake's Kubernetes executor, for pods that share the working folder on a persistent volume.

The executor as it is shares nothing: what a job declares is copied into its pod and out of it. Here
a data set lies beside its manifest, and snapshots lie where Snakemake does not know of them, so
that they outlive a pod; copied that way, neither would arrive. With one volume, mounted at one path
everywhere, jobs are those of profiles/slurm.

Snakemake finds it where Python finds it: with profiles/kubernetes in PYTHONPATH.
"""

import shlex
from dataclasses import replace
from typing import Any

import kubernetes
import snakemake_executor_plugin_kubernetes as unshared

ExecutorSettings = unshared.ExecutorSettings

common_settings = replace(
    unshared.common_settings,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    auto_deploy_default_storage_provider=False,
)


class _Api(kubernetes.client.CoreV1Api):  # type: ignore[misc]
    def read_namespaced_pod_log(self, *args: Any, **options: Any) -> Any:
        """The log of a pod that failed. The executor asks for that of the container before, which
        a pod that is never restarted does not have; the answer, 400, would end the workflow."""
        return super().read_namespaced_pod_log(*args, **options | {"previous": False})


class Executor(unshared.Executor):
    """Jobs begin in the working folder, and a failed one is tried again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.kubeapi = _Api()

    def _reauthenticate_and_retry(self, func: Any = None) -> Any:
        super()._reauthenticate_and_retry()
        self.kubeapi = _Api()
        return func() if func else None

    def get_job_exec_prefix(self, job: Any) -> str:
        """A pod begins in a folder of its own."""
        return f"cd {shlex.quote(self.workflow.workdir_init)}"
