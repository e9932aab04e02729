"""Run a whole protocol for one method, dataset and seed; what is done already is not done again.

    python -m tools.protocol base2new --trainer MoPD --dataset shapes --seed 1 [-- KEY VALUE ...]
    python -m tools.protocol fewshot --trainer CoOp --dataset shapes --seed 1 --shots 1,2,4
    python -m tools.protocol xd --trainer CoOp --dataset imagenet --seed 1 --targets dtd,eurosat

The scripts under `scripts/` call this. docs/protocols.md explains the protocols.
"""

from collections.abc import Sequence
from typing import Any

from runs import command
from runs.job_words import read_jobs
from runs.run_job import run_job
from tools.results.run_tables import run_table


@command.mistakes_told()
def main(argv: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the protocol, print its table, and return the results.

    Raises:
        SystemExit: code 1 after a message on stderr.
    """
    jobs = read_jobs(argv, __doc__)
    results = [result for job in jobs for result in run_job(job)]
    print(run_table([found for job in jobs for found in job.found()]))
    return results


if __name__ == "__main__":
    command.run(main, resumes=True)
