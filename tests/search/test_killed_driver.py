"""Real driver processes that are killed, interrupted, or meet each other."""

import signal
import subprocess
from contextlib import contextmanager

import pytest

from starsearch.errors import StudyLeasedError
from starsearch.records.table import load_trials
from tests.command_line import running
from tests.search.studies import FakeEvaluator, make_spec, run, url_of


class Driver:
    def __init__(self, process):
        self.process = process

    def read(self, word):
        """The rest of the next line, which must start with `word`."""
        line = self.process.stdout.readline()
        assert line.startswith(word), line + (self.process.stderr.read() if self.process.poll() is not None else "")
        return line.removeprefix(word).strip()

    def evaluate(self):
        """Let the evaluation that has begun end; returns its candidate."""
        key = self.read("evaluating")
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()
        return key


@contextmanager
def driver(folder, trials):
    pipes = dict.fromkeys(("stdin", "stderr"), subprocess.PIPE)
    with running("-m", "tests.search.driver_process", folder, trials, **pipes) as process:
        yield Driver(process)


def test_a_killed_driver_loses_no_finished_trial_and_its_candidate_runs_again_first(tmp_path):
    with driver(tmp_path, trials=6) as first:
        finished = [first.evaluate() for _ in range(3)]
        unfinished = first.read("evaluating")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    left = load_trials(url_of(tmp_path))
    assert left["state"].tolist() == ["COMPLETE"] * 3 + ["RUNNING"]

    evaluator = FakeEvaluator()
    assert run(tmp_path, make_spec(trials=6), evaluator).why == "complete"
    assert evaluator.asked[0] == unfinished
    assert not set(evaluator.asked) & set(finished)
    trials = load_trials(url_of(tmp_path))
    assert (trials["state"] == "COMPLETE").sum() == 7  # six searched and the anchor
    assert trials["state"].tolist().count("INTERRUPTED") == 1
    assert trials["reason"][3] == "The driver died while it was evaluated."
    assert trials.loc[3].filter(like="params_").equals(trials.loc[4].filter(like="params_"))

    again = FakeEvaluator()
    assert run(tmp_path, make_spec(trials=8), again).why == "complete"
    assert len(again.asked) == 2
    assert not set(again.asked) & {*finished, *evaluator.asked}


def test_ctrl_c_ends_the_running_trial_and_the_study_goes_on_later(tmp_path):
    with driver(tmp_path, trials=6) as first:
        finished = [first.evaluate() for _ in range(2)]
        interrupted = first.read("evaluating")
        first.process.send_signal(signal.SIGINT)
        assert first.read("ended") == "interrupted"
        assert first.process.wait() == 0
    trials = load_trials(url_of(tmp_path))
    assert trials["state"].tolist() == ["COMPLETE", "COMPLETE", "INTERRUPTED"]
    assert trials["reason"][2] == "interrupted"

    evaluator = FakeEvaluator()
    assert run(tmp_path, make_spec(trials=6), evaluator).why == "complete"
    assert evaluator.asked[0] == interrupted
    assert not set(evaluator.asked) & set(finished)


def test_a_second_driver_is_refused_while_the_first_lives(tmp_path):
    with driver(tmp_path, trials=6) as first:
        first.evaluate()
        first.read("evaluating")
        with driver(tmp_path, trials=6) as second:
            told = second.read("refused")
            assert second.process.wait() == 2
        with pytest.raises(StudyLeasedError, match=f"process {first.process.pid} on .* since 20"):
            run(tmp_path, make_spec(trials=6))
        assert told.startswith("StudyLeasedError")
        assert str(first.process.pid) in told
        trials = load_trials(url_of(tmp_path))
        assert trials["state"].tolist() == ["COMPLETE", "RUNNING"], "the refused ones have touched nothing"
