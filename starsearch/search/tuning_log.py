"""`TuningLog`: what Ray Tune's driver hears of its trials, as trials of the study. Its workers never write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starsearch.candidate import Candidate
from starsearch.measurement import Measurement, accuracy_measurement
from starsearch.progress import Progress
from starsearch.search.events import Event, TrialEnded, TrialProgressed, TrialStarted
from starsearch.search.failures import failure_reason

if TYPE_CHECKING:
    from starsearch.records import Lease, StudyRecord
    from starsearch.search.tuning_worker import Tuned
    from starsearch.study.spec import StudySpec

# The anchor of a recipe search: the base recipe, which is always tried and stands in every table.
BASE_RECIPE = "base recipe"
INTERRUPTED = "interrupted"
PARTED = "parted"  # the study's attribute: of a trial that goes on with another's training, whose and after which epoch


@dataclass(slots=True, kw_only=True)
class _Segment:
    """A trial of the study that a trial of Tune is, or was until its recipe changed.

    Attributes:
        number: in the study.
        candidate: architecture and recipe.
        params: that stand for the recipe.
        origin: trial of Tune and epoch whose training it goes on with; None for its own.
        curve: top-1 after each epoch, those before its origin too.
        values: what was last measured.
        seconds: trained and validated.
    """

    number: int
    candidate: Candidate
    params: Mapping[str, Any]
    origin: Mapping[str, Any] | None
    curve: dict[int, float]
    values: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class TuningLog:
    """Writes Tune's trials into the record, a recipe a trial.

    Where Population Based Training gives a training another recipe, its trial ends as stopped and another begins, which
    says with whose training it goes on: what a trial was trained by is never changed afterwards.

    Args:
        spec: of the study.
        tuned: what all trials train.
        record: of the study.
        lease: checked before anything is written.
        base: params of the base recipe.
        rungs: epochs at which trainings may be stopped.
        repeats: number of the interrupted trial that a trial of these params repeats.
        watch: is told of everything.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        tuned: Tuned,
        record: StudyRecord,
        lease: Lease,
        base: Mapping[str, Any],
        rungs: tuple[int, ...],
        repeats: list[tuple[int, Mapping[str, Any]]],
        watch: Callable[[Event], None],
    ) -> None:
        self._spec = spec
        self._tuned = tuned
        self._record = record
        self._lease = lease
        self._base = dict(base)
        self._rungs = rungs
        self._repeats = repeats
        self._watch = watch
        self._segments: dict[str, list[_Segment]] = {}
        self._running: set[str] = set()
        self._parted: dict[str, Any] = record.attribute(PARTED) or {}
        self.last_reason = ""

    def begin(self, trial: str, params: Mapping[str, Any]) -> None:
        """A trial of Tune is trained, or goes on after a pause."""
        if trial not in self._running:
            self._open(trial, params, origin=None)

    def report(self, trial: str, result: Mapping[str, Any]) -> None:
        """A trial has been trained for another epoch."""
        segment = self._segments[trial][-1]
        params, origin = result["params"], result["origin"]
        if (params, origin) != (segment.params, segment.origin):
            self._stop(trial, segment)
            segment = self._open(trial, params, origin=origin)
        epoch = int(result["epoch"])
        segment.values = {name: float(value) for name, value in result.items() if _is_number(value)}
        segment.seconds += float(result.get("time_this_iter_s", 0.0))
        if epoch not in segment.curve:  # a training that was restored repeats what it had not kept
            segment.curve[epoch] = segment.values["top1_percent"]
            self._lease.check()
            self._record.report(segment.number, epoch=epoch, value=segment.curve[epoch])
        progress = Progress(
            fraction=epoch / self._tuned.epochs,
            stage="training",
            epoch=epoch,
            values={"top1_percent": segment.curve[epoch]},
        )
        self._watch(TrialProgressed(number=segment.number, progress=progress))

    def end(self, trial: str) -> None:
        """A trial of Tune has trained to its end, or was stopped."""
        segment = self._segments[trial][-1]
        self._running.discard(trial)
        if max(segment.curve, default=0) < self._tuned.epochs:
            self._stop(trial, segment)
            return
        readings = self._readings(segment)
        self._lease.check()
        self._record.complete(
            segment.number,
            values=[segment.values["top1_percent"]],
            measurements=readings,
            constraints={},
            seconds=segment.seconds,
        )
        self._tell(segment, "complete")

    def fail(self, trial: str, error: BaseException | None, *, interrupted: bool) -> None:
        """A trial of Tune has failed; `interrupted` where its recipe is not at fault."""
        self._running.discard(trial)
        self._fail(self._segments[trial][-1], failure_reason(error) if error else "It failed.", interrupted=interrupted)

    def interrupt_running(self) -> None:
        """Whatever still runs is over, and runs again when the study goes on."""
        for trial in sorted(self._running):
            self._fail(self._segments[trial][-1], INTERRUPTED, interrupted=True)
        self._running.clear()

    def _open(self, trial: str, params: Mapping[str, Any], *, origin: Mapping[str, Any] | None) -> _Segment:
        recipe = self._spec.space.decode(params, self._spec.recipe).recipe
        is_base = dict(params) == self._base and origin is None
        candidate = Candidate(
            architecture=self._tuned.architecture, recipe=recipe, anchor=BASE_RECIPE if is_base else None
        )
        donor = None if origin is None else self._donor(origin)
        curve = (
            {} if donor is None or origin is None else {e: v for e, v in donor.curve.items() if e <= origin["epoch"]}
        )
        self._lease.check()
        number = self._record.start(
            candidate,
            params=params,
            retry_of=self._take_repeat(params),
            continues=None if donor is None else donor.number,
            curve=curve,
            elsewhere=True,
        )
        segment = _Segment(number=number, candidate=candidate, params=dict(params), origin=origin, curve=dict(curve))
        self._segments.setdefault(trial, []).append(segment)
        self._running.add(trial)
        continues = None if donor is None else donor.number
        if donor is not None and origin is not None:
            self._parted[str(number)] = {"from": donor.number, "epoch": origin["epoch"]}
            self._record.set_attribute(PARTED, self._parted)
        self._watch(TrialStarted(number=number, candidate=candidate, continues=continues))
        return segment

    def _donor(self, origin: Mapping[str, Any]) -> _Segment | None:
        """The trial of the study whose training was taken over: the last of that trial of Tune that had got so far."""
        known = reversed(self._segments.get(origin["trial"], []))
        return next((segment for segment in known if origin["epoch"] in segment.curve), None)

    def _take_repeat(self, params: Mapping[str, Any]) -> int | None:
        for repeat in self._repeats:
            if dict(repeat[1]) == dict(params):
                self._repeats.remove(repeat)
                return repeat[0]
        return None

    def _stop(self, trial: str, segment: _Segment) -> None:
        if not segment.values:  # nothing of its own was ever heard: another's training was taken over at once
            self._fail(segment, f"Its training was given up for another's (trial {trial}).", interrupted=False)
            return
        epochs = max(segment.curve)
        rung = max(sum(epochs >= rung for rung in self._rungs) - 1, 0)
        self._lease.check()
        self._record.prune(
            segment.number,
            rung=rung,
            epochs=epochs,
            measurements=self._readings(segment),
            constraints={},
            seconds=segment.seconds,
        )
        self._tell(segment, "pruned", epochs=epochs)

    def _fail(self, segment: _Segment, reason: str, *, interrupted: bool) -> None:
        self.last_reason = reason
        self._lease.check()
        self._record.fail(segment.number, reason=reason, seconds=segment.seconds, interrupted=interrupted)
        self._tell(segment, "fail", reason=reason)

    def _readings(self, segment: _Segment) -> tuple[Measurement, ...]:
        """What was trained to, and what the network costs: the same for all, so that the tables say which it is."""
        from starsearch.evaluators.proxy import count_cost

        data, values = self._tuned.data, segment.values
        num_images = min(self._tuned.fidelity.validation_samples or data.num_validation, data.num_validation)
        accuracies = (name for name in ("top1_percent", "top5_percent") if name in values)
        speeds = (Measurement(name=name, value=values[name]) for name in ("images_per_second",) if name in values)
        resolution = self._spec.space.resolution
        return (
            *(accuracy_measurement(name, values[name], num_images=num_images) for name in accuracies),
            *speeds,
            *count_cost(self._tuned.architecture, resolution=resolution, num_classes=len(data.classes)),
        )

    def _tell(self, segment: _Segment, state: Any, *, epochs: int | None = None, reason: str | None = None) -> None:
        self._watch(
            TrialEnded(
                number=segment.number,
                candidate=segment.candidate,
                state=state,
                measurements=() if state == "fail" else self._readings(segment),
                reason=reason,
                seconds=segment.seconds,
                epochs=epochs,
            )
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
