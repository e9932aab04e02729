"""A job that is written as words is read again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils import UserError
from runs.job_words import read_jobs, words_of
from runs.jobs import Job

TARGETS = ["digits", "folder:/a b/-c", "csv:x.csv"]


@given(
    tag=st.text("ab.-_+=", max_size=5).filter(lambda tag: tag != "--"),  # no tag to argparse
    folder=st.sampled_from(["-odd", "a b", "/x/y"]),
    targets=st.lists(st.sampled_from(TARGETS), unique=True).map(tuple),
    opts=st.lists(st.text("ab -,=:/.'", max_size=6), max_size=4).map(tuple),
)
def test_a_job_comes_back_as_it_was(tag, folder, targets, opts):
    job = Job(
        protocol="xd", trainer="CoOp", dataset="shapes", seed=3, shots=2, data=Path(folder),
        output=Path(f"{folder}-out"), targets=targets, config="embedded", tag=tag, opts=opts,
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Job, "check", lambda job: None)  # words are compared, not what a job may be
        assert read_jobs(words_of(job)) == [job]


@pytest.mark.parametrize("target", ["folder:/a,b", " digits", "folder:/a "])
def test_a_target_that_words_cannot_name_is_refused(tmp_path, target):
    job = Job("xd", "CoOp", "shapes", 1, 2, tmp_path, tmp_path, (target,))
    with pytest.raises(UserError, match="has a comma or outer blanks: rename it"):
        job.check()
