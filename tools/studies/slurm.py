"""Submit the workers of a study through submitit, to Slurm or to processes of this machine."""

import io
import os
import platform
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

from dassl.utils import UserError
from runs.config import REPOSITORY
from tools.studies import workers as submitted
from tools.studies.file import Study
from tools.studies.parameters import LOCAL, Parameters, read_parameters
from tools.studies.processes import places
from tools.studies.report import say
from tools.studies.runner import Rules, conclude, prepare
from tools.studies.state import Failure, failure, state
from tools.studies.submitted import Worker
from tools.studies.workers import Submitted

FOLLOW_SECONDS = 5.0  # from one look to the next
GPUS = {"gres", "gpus_per_node", "gpus_per_task"}  # that ask for some
OPEN = ("running", "stale", "cut off", "to do")


def submit(
    study: Study, on: str, count: int, texts: Sequence[str], jobs: int, rules: Rules
) -> bool:
    """Submit workers for the jobs that are left, no more than there are jobs.

    Args:
        study: the study.
        on: "slurm", or "local": processes of this machine.
        count: of workers.
        texts: of `--slurm`, see `read_parameters`.
        jobs, rules: of each worker.

    Returns:
        Whether there are any: all may be done.

    Raises:
        UserError: submitit or Slurm are not there, or refuse; nothing is submitted then.
        SystemExit: code 1 if nothing is left to do but jobs that cannot be done.
    """
    parameters = read_parameters(texts, known_parameters(on))
    executor = _executor(study, on, parameters)
    todo, failures = prepare(study, again=True)
    done = len(study.jobs) - len(todo) - len(failures)
    say(f"{study.name}: {len(study.jobs)} jobs, {done} done before, {len(todo)} to do")
    if not todo:
        conclude(study, failures)
        return False
    count = min(count, len(todo))
    gpus = places(count) if on == "local" else [None] * count
    rules = Rules(rules.fresh, rules.minutes, rules.retries, pulls=True)
    first = study.jobs[0]
    workers = [
        Worker(study.path.absolute(), first.data, first.output, parameters.seconds, jobs, rules, g)
        for g in gpus
    ]
    # before they are submitted: nothing may come between that and the writing of their ids
    kept = [*submitted.active(study), *submitted.elsewhere(study)]
    ids = _submit(executor, on, workers)
    submitted.remember(study, [*kept, *(Submitted(on, one, _host(on)) for one in ids)])
    _tell(study, on, ids, parameters)
    return True


def known_parameters(on: str) -> set[str]:
    """Names that `--slurm` may have.

    Raises:
        UserError: submitit is not there.
    """
    _submitit()
    if on == "local":
        return set(LOCAL)
    from submitit.slurm.slurm import SlurmExecutor

    return {*SlurmExecutor._valid_parameters(), "max_num_timeout"}


def _submitit() -> Any:
    try:
        import submitit  # optional
    except ImportError:
        raise UserError(
            "--on needs submitit, which is not installed: pip install submitit"
        ) from None
    return submitit


def _executor(study: Study, on: str, parameters: Parameters) -> Any:
    """submitit's executor, with all parameters."""
    submitit = _submitit()
    given = {"time": parameters.minutes, **parameters.given}
    options = {
        "folder": submitted.folder(study),
        "max_num_timeout": given.pop("max_num_timeout", parameters.timeouts),
        "python": _python(),
    }
    given.setdefault("signal_delay_s", parameters.signal_delay)
    if on == "local":
        executor = submitit.LocalExecutor(**options)
        executor.update_parameters(timeout_min=given.pop("time"), **given)
        return executor
    try:
        executor = submitit.SlurmExecutor(**options)
    except RuntimeError as error:  # no srun
        raise UserError(
            f"--on slurm: no Slurm here ({error}); use a machine that has sbatch, or --on local"
        ) from None
    given.setdefault("job_name", study.name)
    if "cpus_per_task" in given:  # srun does not take it over from sbatch any more
        own = [f"--cpus-per-task={given['cpus_per_task']}", *given.get("srun_args", [])]
        given["srun_args"] = own
    if parameters.other:
        given["additional_parameters"] = parameters.other
    executor.update_parameters(**given)
    return executor


def _python() -> str:
    """The interpreter, so that it finds this project from any folder, and nothing else there."""
    known = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    path = os.pathsep.join([str(REPOSITORY), *filter(None, known)])
    return shlex.join(["env", f"PYTHONPATH={path}", sys.executable, "-P"])


def _submit(executor: Any, on: str, workers: list[Worker]) -> list[str]:
    """Submit all, on Slurm as one array; their ids."""
    try:
        if on == "local":
            with _apart():
                jobs = [executor.submit(worker) for worker in workers]
        else:
            with redirect_stderr(io.StringIO()):  # what sbatch says stands in the error
                jobs = executor.submit_array(workers)
    except (RuntimeError, OSError) as error:
        raise UserError(f"nothing is submitted: {str(error).strip()}") from error
    return [str(job.job_id) for job in jobs]


@contextmanager
def _apart() -> Iterator[None]:
    """Processes that are started inside outlive this one, its Ctrl-C and its terminal.

    And who reads the output of this one does not wait for theirs, which is in files.
    """
    ends = (signal.SIGINT, signal.SIGHUP)
    before = [signal.signal(end, signal.SIG_IGN) for end in ends]
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [(number, os.dup(number)) for number in (1, 2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for number, _ in kept:
            os.dup2(nothing, number)
        yield
    finally:
        for number, copy in kept:
            os.dup2(copy, number)
            os.close(copy)
        os.close(nothing)
        for end, handler in zip(ends, before, strict=True):
            signal.signal(end, handler)


def _host(on: str) -> str:
    return platform.node() if on == "local" else ""


def _tell(study: Study, on: str, ids: list[str], parameters: Parameters) -> None:
    """Say what was submitted, and how to go on."""
    count = f"{len(ids)} worker{'s' * (len(ids) > 1)}"
    where = "Slurm" if on == "slurm" else "this machine"
    minutes = f"{parameters.minutes} minutes each"
    say(f"{count} submitted to {where} as {submitted.shown(ids)}, {minutes}")
    asked = GPUS & parameters.given.keys() or any("gpu" in name for name in parameters.other)
    if on == "slurm" and not asked:
        say("    no GPU is asked for, as --slurm gres=gpu:1 does")
    say(f"    their output: {submitted.folder(study)}")
    say(f"    see:    {command_line(study, 'status')} --watch")
    say(f"    cancel: {command_line(study, 'cancel')}")


def command_line(study: Study, name: str) -> str:
    """A command of `tools.study` for a study, as it is typed."""
    words = ["python", "-m", "tools.study", name, str(study.path)]
    for flag, path in (("data", study.jobs[0].data), ("output", study.jobs[0].output)):
        if path != REPOSITORY / flag:
            words += [f"--{flag}", str(path)]
    return shlex.join(words)


def follow(study: Study) -> None:
    """Wait until all is done, and tell each job that ends; then the table, as `run` does.

    Raises:
        UserError: jobs are left that nobody does.
        SystemExit: code 1 if a job failed, 130 after Ctrl-C, which ends no worker.
    """
    try:
        failures = _wait(study)
    except KeyboardInterrupt:
        how = f"the workers go on; to end them: {command_line(study, 'cancel')}"
        print(f"interrupted: {how}", file=sys.stderr)
        raise SystemExit(130) from None
    conclude(study, failures)


def _wait(study: Study) -> list[Failure]:
    """Until no job is left; those that failed."""
    failures: list[Failure] = []
    left = list(study.jobs)
    first = True
    while left:
        workers = submitted.active(study)  # first: one that ends now has left its results
        states = {job: state(study, job) for job in left}
        left = [job for job in left if states[job] in OPEN]
        for job in (job for job in states if states[job] not in OPEN):
            failed = states[job] == "failed"
            if failed:
                failures.append(failure(study, job))
            if failed or not first:
                ended = len(study.jobs) - len(left)
                say(f"[{ended}/{len(study.jobs)}] {job.name}: {states[job]}")
        if left and not workers and "running" not in states.values():
            raise UserError(
                f"{len(left)} of {len(study.jobs)} jobs are left, and no worker is queued or "
                f"running: see {submitted.folder(study)}, and submit again"
            )
        first = False
        if left:
            time.sleep(FOLLOW_SECONDS)
    return failures
