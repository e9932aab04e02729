"""A study by three workers of a real Slurm, of which one is queued again and one is killed.

    tests/cluster/slurm.sh .venv/bin/python tests/cluster/check.py

Its table is that of one process. What happens is printed, with the output that a user sees.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STUDY = HERE / "study.yaml"
WAIT_SECONDS = 100.0


def main() -> None:
    """Do all; an AssertionError or SystemExit says what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        os.environ["MOPD_CACHE"] = f"{name}/cache"
        place = ["--data", f"{name}/data", "--output"]
        cluster, local = Path(name, "cluster"), Path(name, "local")
        on_slurm = [str(STUDY), *place, str(cluster)]
        study(
            "run", *on_slurm, "--on", "slurm", "--workers", "3", "--slurm", "partition=low,time=10"
        )
        try:
            disturb(cluster / "studies" / "study")
        except BaseException:
            show_logs(cluster)
            raise
        wait("all workers to end", lambda: not command("squeue", "--noheader", told=False))
        status = study("status", *on_slurm)
        assert "8 jobs: 8 done" in status, show_logs(cluster)
        study("cancel", *on_slurm, code=1)
        study("run", str(STUDY), *place, str(local), told=False)
        tables = [
            study("table", str(STUDY), *place, str(output), "--", "--format", "csv", told=False)
            for output in (cluster, local)
        ]
        assert tables[0] == tables[1], "\n".join(["the tables differ", *tables])
        study("table", *on_slurm)
        hold(cluster.with_name("held"), place)
    print("test-cluster: the table of three workers is that of one process")


def disturb(folder: Path) -> None:
    """Queue the first worker that has a job again, and kill the next one."""
    first = wait("a worker with a job", lambda: worker_with_job(folder, set()))
    status = study("status", str(STUDY), "--output", str(folder.parents[1]))
    assert "running" in status and "on " in status, status
    command("scontrol", "requeue", first["job"])
    second = wait("another worker with a job", lambda: worker_with_job(folder, {first["job"]}))
    print(f"$ kill -9 {second['worker']} {second['pid']}    # worker {second['job']}", flush=True)
    for pid in (second["worker"], second["pid"]):
        os.kill(pid, signal.SIGKILL)
    command("squeue")
    wait("the first worker to start again", lambda: restarts(first["job"]) == 1)
    log = folder / "workers" / f"{first['job']}_0_log.out"
    wait("its output", lambda: log.read_text().count("Starting with JobEnvironment") == 2)


def worker_with_job(folder: Path, without: set[str]) -> dict[str, Any] | None:
    """The process of a job, its worker, and the worker's job of Slurm."""
    for claim in folder.glob("*.claim-*"):
        try:
            pid = json.loads(claim.read_text())["pid"]
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except (OSError, ValueError, KeyError):  # it ends at this moment
            continue
        words = dict(item.decode().split("=", 1) for item in environment if b"=" in item)
        job = f"{words['SLURM_ARRAY_JOB_ID']}_{words['SLURM_ARRAY_TASK_ID']}"
        if job not in without:
            return {"pid": pid, "worker": int(parent), "job": job}
    return None


def restarts(job: str) -> int:
    """How often Slurm has queued a job again."""
    shown = command("scontrol", "show", "job", "--oneliner", job, told=False)
    return int(shown.partition("Restarts=")[2].split()[0])


def hold(output: Path, place: list[str]) -> None:
    """Workers that wait are cancelled."""
    words = [str(STUDY), *place, str(output)]
    study("run", *words, "--on", "slurm", "--workers", "2", "--slurm", "time=10,x.hold=true")
    told = study("cancel", *words)
    assert "cancelled 2 workers" in told, told
    wait("an empty queue", lambda: not command("squeue", "--noheader", told=False))


def study(*words: str, code: int = 0, told: bool = True) -> str:
    """A command of tools.study, which ends with a code."""
    return command(sys.executable, "-m", "tools.study", *words, code=code, told=told)


def command(*words: str, code: int = 0, told: bool = True) -> str:
    """What a command prints."""
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=HERE.parents[1]
    )
    if told:
        shown = ["python" if word == sys.executable else word for word in words]
        print(f"$ {shlex.join(shown)}\n{done.stdout}", flush=True)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}: {done.stdout}"
    return done.stdout


def wait(what: str, found: Callable[[], Any]) -> Any:
    """What is found at last."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.2)
    raise SystemExit(f"test-cluster: waited {WAIT_SECONDS:g} seconds for {what}")


def show_logs(output: Path) -> str:
    """Print the output of all workers."""
    for path in sorted(output.rglob("*log.*")):
        print(f"==> {path} <==\n{path.read_text()}", flush=True)
    return "see the output of the workers"


if __name__ == "__main__":
    main()
