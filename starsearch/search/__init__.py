"""The search: ask a sampler, evaluate the candidate, tell the record.

session         `run_study`: lease, driver, front
driver          the loop
proposer        the sampler's in-memory mirror of the record, in which it is asked
unseen          a candidate the study does not know, where the sampler has no new one
samplers        samplers by name
agenda          what runs before the sampler is asked: unfinished trials and anchors
outcome         what measurements mean for the objectives and constraints
front_measuring what was predicted of the front is measured at the end
executor        where evaluations run: the interface, and this process
ray_executor    tasks of a Ray cluster
ray_cluster     the connection to it, and what fits on its nodes
promoting       who comes from the fidelity below
ladder          successive halving: who waits at which rung
running         a trial under way
checkpoints     where trainings are kept between two trials
tally           how many candidates have been judged
failures        why an evaluation failed: a line and a log
weights         whose trained weights are kept
events          what the driver tells whoever watches
"""

from starsearch.search.events import (
    Event,
    FrontProgressed,
    MemberMeasured,
    StudyEnded,
    StudyStarted,
    TrialEnded,
    TrialProgressed,
    TrialStarted,
)
from starsearch.search.executor import Executor, LocalExecutor
from starsearch.search.front_measuring import Meter
from starsearch.search.promoting import Below, look_below
from starsearch.search.samplers import SAMPLERS, find_sampler
from starsearch.search.session import run_study

__all__ = [
    "SAMPLERS",
    "Below",
    "Event",
    "Executor",
    "FrontProgressed",
    "LocalExecutor",
    "MemberMeasured",
    "Meter",
    "StudyEnded",
    "StudyStarted",
    "TrialEnded",
    "TrialProgressed",
    "TrialStarted",
    "find_sampler",
    "look_below",
    "run_study",
]
