"""A study whose workers are killed at random, and what comes of it: all as if nobody had been.

    python -m benchmarks.killed_study [--kills 10] [--workers 4] [--epochs 5] [--random 1]

The embedded study of all protocols, 70 jobs, runs twice: undisturbed, and by `tools.study work` in
several processes, of which one at a time is killed (SIGKILL, with all that it has started) and
started again. Where the kernel allows it (Linux, root), each of them is a machine of its own: a
host name, and processes that the others do not see, so that only a heart that has stopped tells of
its death. What is left at the end is done by `tools.study run`.

The tables must be the same, and so must all results but for times and memory. A hook in all of
these processes notes each results.json that gets its name: none may get it twice. It notes claims
as well: one for each job, and one for each that was cut off and taken over.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.study import check_equal
from runs import claims, command
from runs.config import CONFIGS, REPOSITORY
from runs.merging import read_yaml
from runs.results import read_results

BEAT = 1.0  # seconds, so that a death is noticed within the time of a few jobs
SHARE = 0.8  # of the results, until which all kills come, however fast the machine is
MOMENT = 3.0  # seconds after a result, at most: a kill comes in the midst of a job
# loaded by each Python before anything else; what it notes is on disk before the file has its name
HOOK = """
import os, sys

def note(event, args):
    done = event == "os.rename" and str(args[1]).endswith("results.json")
    if done or (event == "os.link" and ".claim-" in str(args[1])):
        file = os.open(os.environ["NOTED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.write(file, f"{args[1]}\\n".encode())
        os.close(file)

sys.addaudithook(note)
"""


class Place:
    """A study file, its folders, and the commands on them.

    Args:
        folder: of all.
        epochs: of each job.
    """

    def __init__(self, folder: Path, epochs: int):
        folder.mkdir()
        (folder / "hook").mkdir()
        (folder / "hook" / "sitecustomize.py").write_text(HOOK)
        self.folder, self.output = folder, folder / "output"
        content = read_yaml(CONFIGS / "studies" / "embedded_all.yaml")
        content["opts"] |= {
            "OPTIM.MAX_EPOCH": epochs,
            "TRAIN.CHECKPOINT_FREQ": 1,
            "CACHE.DIR": str(folder / "cache"),
        }
        self.file = folder / "embedded_all.yaml"
        self.file.write_text(yaml.safe_dump(content))
        self.environment = {
            **os.environ,
            "MOPD_HEARTBEAT": str(BEAT),
            "PYTHONPATH": str(folder / "hook"),
            "NOTED": str(folder / "noted"),
        }

    def words(self, name: str, *options: str) -> list[str]:
        """A command on the study."""
        data = self.folder.parent / "data"
        places = ["--data", str(data), "--output", str(self.output)]
        return [sys.executable, "-m", "tools.study", name, str(self.file), *places, *options]

    def call(self, name: str, *options: str) -> str:
        """What a command says on stdout.

        Raises:
            SystemExit: it failed; what it said.
        """
        done = subprocess.run(
            self.words(name, *options),
            cwd=REPOSITORY, env=self.environment, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def work(self, number: int) -> subprocess.Popen[bytes]:
        """Start a worker; on a machine of its own where there can be one."""
        words = self.words("work")
        if separate():
            host = f'hostname node{number}; exec "$@"'
            kinds = ["--pid", "--fork", "--mount-proc", "--uts"]
            words = ["unshare", *kinds, "sh", "-c", host, "sh", *words]
        with (self.folder / f"work-{number}.log").open("ab") as log:
            return subprocess.Popen(
                words, cwd=REPOSITORY, env=self.environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def noted(self, what: str) -> Counter[str]:
        """How often each file with this in its path got its name; a claim that another process was
        faster to make counts as well."""
        lines = (self.folder / "noted").read_text().splitlines()
        return Counter(line for line in lines if what in line)

    def results(self) -> dict[str, object]:
        """The content of each results.json, by its place."""
        paths = sorted(self.output.rglob("results.json"))
        return {str(path.relative_to(self.output)): read_results(path) for path in paths}


def separate() -> bool:
    """Whether processes can be machines of their own here."""
    test = ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "hostname", "node1"]
    return (
        bool(shutil.which("unshare")) and not subprocess.run(test, capture_output=True).returncode
    )


def disturb(place: Place, workers: int, kills: int, total: int, chance: random.Random) -> None:
    """Let workers do the study, which gives `total` results, and kill one at a time.

    Raises:
        SystemExit: all was done before the last kill.
    """
    marks = sorted(chance.choices(range(int(SHARE * total)), k=kills))
    running = [place.work(number) for number in range(1, workers + 1)]
    try:
        for kill, mark in enumerate(marks, start=1):
            while len(place.results()) < mark and any(one.poll() is None for one in running):
                time.sleep(0.2)
            time.sleep(chance.uniform(0, MOMENT))
            alive = [number for number in range(workers) if running[number].poll() is None]
            if not alive:
                raise SystemExit(f"all was done before kill {kill}: give more --epochs")
            victim = chance.choice(alive)
            os.killpg(running[victim].pid, signal.SIGKILL)
            running[victim].wait()
            print(f"kill {kill}: worker {victim + 1}", flush=True)
            if kill == (kills + 1) // 2:
                print(place.call("status").partition(" jobs: ")[2], flush=True)
            running[victim] = place.work(victim + 1)
        for process in running:
            process.wait()
    finally:
        for process in running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def main(argv: Sequence[str] | None = None) -> None:
    """Run both, and compare them.

    Raises:
        SystemExit: they differ, or something was done twice.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    for name, usual in (("kills", 10), ("workers", 4), ("epochs", 5), ("random", 1)):
        add(f"--{name}", type=command.count, default=usual)
    add("--keep", type=command.path, metavar="DIR", help="do it in this new folder, and keep it")
    args = parser.parse_args(argv)
    folder = args.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        whole, killed = (Place(folder / name, args.epochs) for name in ("whole", "killed"))
        print(whole.call("run", "--jobs", "2").splitlines()[1], flush=True)
        where = "machines of their own" if separate() else "processes of this machine"
        print(f"{args.workers} workers, {where}, killed {args.kills} times", flush=True)
        total = len(whole.results())
        disturb(killed, args.workers, args.kills, total, random.Random(args.random))
        print(killed.call("status").splitlines()[-1], flush=True)
        time.sleep(claims.LIMIT / claims.BEAT * BEAT)  # until the last death is noticed
        print(killed.call("run").splitlines()[1], flush=True)
        tables = [place.call("table", "--", "--format", "csv") for place in (whole, killed)]
        if tables[0] != tables[1]:
            raise SystemExit(f"the tables differ:\n{tables[0]}\n{tables[1]}")
        check_equal(whole.results(), killed.results())
        lines = len(tables[0].splitlines())
        print(f"tables of {lines} lines and {len(killed.results())} results are the same")
        for place in (whole, killed):
            done = place.noted("results.json")
            twice = [path for path, count in done.items() if count > 1]
            if twice or len(done) != len(place.results()):
                raise SystemExit(f"done twice: {', '.join(twice) or 'not noted'}")
        print(f"{len(killed.noted('results.json'))} results got their names once each, none twice")
        claims_made = [len(place.noted(".claim-")) for place in (whole, killed)]
        print(f"claims of the jobs: {claims_made[0]} undisturbed, {claims_made[1]} with kills")
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    command.run(main)
