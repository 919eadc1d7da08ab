"""A stand-in for a Kubernetes cluster: the part of its API that the executor asks, over HTTP. The
command of each job is a process of this machine, in an environment of its own, which sees of the
test's folders what its volumes are. Whatever a role does not allow is refused."""

import json
import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from core.bench.slurm_cluster import descendants

PATH = re.compile(
    r"/(?:api|apis/(?P<group>\w+))/v1/namespaces/default/(?P<kind>\w+)"
    r"(?:/(?P<name>[\w-]+))?(?:/(?P<part>\w+))?"
)
VERBS = {"POST": "create", "DELETE": "delete", "GET": "get"}
Body = dict[str, Any]


class RefusedError(Exception):
    """status: of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Pod:
    """The only one of a job. lost: with its node, so that the cluster has it no more."""

    job: Body
    process: subprocess.Popen[bytes]
    log: Path
    lost: bool = False

    @property
    def exit_code(self) -> int | None:
        """As a container has it: 137 for one that was killed."""
        code = self.process.poll()
        return 128 - code if code is not None and code < 0 else code

    def kill(self) -> None:
        """All that runs in it."""
        for pid in (*descendants(self.process.pid), self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def lose(self) -> None:
        """Its node is gone."""
        self.lost = True
        self.kill()


class Cluster:
    """role: what may be asked. environment: what the image sets. pods: by job, in order. refused:
    what was asked and not allowed."""

    def __init__(self, folder: Path, role: Body, environment: dict[str, str]) -> None:
        self.folder, self.role, self.environment = folder, role, environment
        self.pods: dict[str, Pod] = {}
        self.deleted: set[str] = set()
        self.refused: list[str] = []
        self.kubeconfig = folder / "kubeconfig"

    def start(self) -> None:
        """Listen, and write a kubeconfig that leads here."""
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{self._server.server_port}"
        one = {"cluster": "here", "user": "me"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {}}],
            "contexts": [{"name": "here", "context": one}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def stop(self) -> None:
        for pod in self.pods.values():
            pod.kill()
        self._server.shutdown()
        self._server.server_close()

    def running(self) -> Pod:
        """The pod that runs; there is one at a time in a test."""
        [pod] = [pod for pod in self.pods.values() if pod.exit_code is None]
        return pod

    def answer(self, method: str, url: str, body: Body) -> Body | str:
        """Raises RefusedError."""
        parts = urlsplit(url)
        found = PATH.fullmatch(parts.path)
        if found is None:
            raise RefusedError(404, f"{parts.path}: not found")
        group, name = found["group"] or "", found["name"] or ""
        resource = "/".join(filter(None, (found["kind"], found["part"])))
        verb = VERBS[method] if name or method != "GET" else "list"
        if not any(
            group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for rule in self.role["rules"]
        ):
            self.refused.append(f"{verb} {group} {resource}")
            raise RefusedError(403, f"forbidden: {verb} {resource}")
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        call = getattr(self, f"{verb}_{resource.replace('/', '_')}")
        reply: Body | str = call(name, query, body)
        return reply

    # One method for each verb and resource.

    def create_secrets(self, name: str, query: dict[str, str], body: Body) -> Body:
        return body

    def delete_secrets(self, name: str, query: dict[str, str], body: Body) -> Body:
        return {}

    def create_jobs(self, name: str, query: dict[str, str], body: Body) -> Body:
        name, pod = body["metadata"]["name"], body["spec"]["template"]["spec"]
        [container] = pod["containers"]
        empty = {each["name"] for each in pod["volumes"] if "emptyDir" in each}
        begins = self.folder / name
        begins.mkdir()
        for mount in container["volumeMounts"]:
            if mount["name"] in empty:
                assert mount["mountPath"] == container["workingDir"]
            elif not Path(mount["mountPath"]).is_dir():
                raise RefusedError(400, f"{mount['mountPath']} is nowhere")
        log = begins.with_suffix(".log")
        with log.open("wb") as said:
            process = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=begins,
                env=self.environment | {"HOME": str(begins), "TMPDIR": str(begins)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self.pods[name] = Pod(body, process, log)
        return body

    def get_jobs_status(self, name: str, query: dict[str, str], body: Body) -> Body:
        pod = self.pods[name]
        states = {None: "active", 0: "succeeded"}
        return pod.job | {"status": {states.get(pod.exit_code, "failed"): 1}}

    def delete_jobs(self, name: str, query: dict[str, str], body: Body) -> Body:
        self.deleted.add(name)
        return {}

    def list_pods(self, name: str, query: dict[str, str], body: Body) -> Body:
        pod = self.pods[query["labelSelector"].removeprefix("job-name=")]
        code = pod.exit_code
        state: Body = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
        container = {"name": "snakemake", "state": state, "ready": True, "restartCount": 0}
        container |= {"image": "python", "imageID": "python"}
        item = {
            "metadata": {"name": f"{pod.job['metadata']['name']}-x"},
            "status": {"containerStatuses": [container]},
        }
        return {"items": [] if pod.lost else [item]}

    def get_pods_log(self, name: str, query: dict[str, str], body: Body) -> str:
        if query.get("previous", "").lower() == "true":  # as a kubelet says it
            found = f'previous terminated container "snakemake" in pod "{name}" not found'
            raise RefusedError(400, found)
        return self.pods[name.removesuffix("-x")].log.read_text()

    def delete_pods(self, name: str, query: dict[str, str], body: Body) -> Body:
        self.pods[name.removesuffix("-x")].kill()
        return {}


def handler(cluster: Cluster) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length) or b"{}")
            status = 200
            try:
                reply = cluster.answer(self.command, self.path, body)
            except RefusedError as error:
                status, reply = error.status, {"kind": "Status", "message": error.message}
            text = reply if isinstance(reply, str) else json.dumps(reply)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = _reply  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test has what was asked."""

    return Handler
