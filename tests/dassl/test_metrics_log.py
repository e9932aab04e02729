"""metrics.jsonl: what is kept, dropped and replaced."""

import json

import pytest

from dassl.engine.metrics_log import MetricsLog


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def written(tmp_path):
    log = MetricsLog(str(tmp_path), 0)
    for epoch in (1, 2, 3):
        log.write(epoch, "train", {"loss": 1.0 / epoch})
    log.write(3, "test", {"accuracy": 50.0})
    return tmp_path


def test_records_are_lines_of_json_with_epoch_and_split_first(written):
    text = (written / "metrics.jsonl").read_text()
    assert text.splitlines()[1] == '{"epoch": 2, "split": "train", "loss": 0.5}'
    assert text.endswith('{"epoch": 3, "split": "test", "accuracy": 50.0}\n')


@pytest.mark.parametrize(("start", "kept"), [(0, 0), (1, 1), (2, 2), (3, 4), (9, 4)])
def test_later_epochs_are_dropped_as_soon_as_a_run_goes_on(written, start, kept):
    before = lines(written)
    MetricsLog(str(written), start)
    assert lines(written) == before[:kept]


def test_a_torn_last_line_is_dropped(written):
    before = lines(written)
    with open(written / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"epoch": 3, "sp')
    MetricsLog(str(written), 3)
    assert lines(written) == before


def test_a_second_record_of_an_epoch_and_split_replaces_the_first(written):
    log = MetricsLog(str(written), 3)
    log.write(3, "test", {"accuracy": 60.0})
    assert [r["accuracy"] for r in lines(written) if r["split"] == "test"] == [60.0]
    assert len(lines(written)) == 4


def test_a_loss_term_named_epoch_does_not_break_the_record(tmp_path):
    MetricsLog(str(tmp_path), 0).write(1, "train", {"epoch": 7.0, "loss": 2.0})
    assert lines(tmp_path) == [{"epoch": 1, "split": "train", "loss": 2.0}]


def test_nothing_is_written_before_the_first_record(tmp_path):
    MetricsLog(str(tmp_path), 0)
    assert list(tmp_path.iterdir()) == []


def test_a_listener_gets_each_record_that_is_written_and_none_of_before(written):
    heard = []
    log = MetricsLog(str(written), 2, heard.append)
    log.write(3, "train", {"loss": 0.2, "split": "not this"})
    log.write(3, "train", {"loss": 0.1})
    assert heard == [
        {"epoch": 3, "split": "train", "loss": 0.2},
        {"epoch": 3, "split": "train", "loss": 0.1},
    ]
    assert lines(written)[-1] == heard[-1]
