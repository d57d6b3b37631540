"""`StudyFiles`: the weights, checkpoints and logs in a study's folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from starsearch.errors import StudyError
from starsearch.measurement import Prediction
from starsearch.objective import miss
from starsearch.pareto import non_dominated
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial


class StudyFiles:
    """The files of a study; without a folder there are none.

    `weights/trial-N.safetensors` stays of the front, the anchors, or all, as the study says. `checkpoints/KEY.pt` stays
    as long as the candidate's training may continue. `logs/trial-N.txt` says why a trial failed.
    """

    def __init__(self, folder: Path | None, spec: StudySpec) -> None:
        self._folder = folder
        self._spec = spec
        self._judged: list[_Judged] = []

    def weights(self, number: int) -> Path | None:
        """Return where the evaluation of a trial writes its weights; the folder is made."""
        if self._folder is None or self._spec.keep_weights == "none":
            return None
        path = self._folder / _weights_name(number)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(
                f"The folder {path.parent} for trained weights cannot be made: {error.strerror}. Make {self._folder} "
                "writable, or set search.keep_weights to none."
            ) from error
        return path

    def checkpoint(self, trial: Trial) -> Path | None:
        """Return where the training of a candidate is kept; who writes there makes the folder."""
        return None if self._folder is None else self._folder / "checkpoints" / f"{trial.key}.pt"

    def log(self, trial: Trial, text: str) -> Path | None:
        """Write why a trial failed to a file; None where there is no text or no place for it."""
        if self._folder is None or not text:
            return None
        path = self._folder / "logs" / f"trial-{trial.number}.txt"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError:  # the reason is in the record; a full disk must not stop the study here
            return None
        return path

    def add(self, trial: Trial) -> Trial:
        """Note a trial that has a result; return it with the name of its weights file, if there is one."""
        if trial.state != "complete":
            return trial
        self._judged.append(_Judged(trial, self._spec))
        name = _weights_name(trial.number)
        is_there = self.weights(trial.number) is not None and self._folder and (self._folder / name).is_file()
        return replace(trial, weights=name) if is_there else trial

    def end(self, trial: Trial, running: Iterable[int]) -> None:
        """Delete what is not needed any more after a trial has ended; what runs may be writing its weights."""
        self.clear_weights(running)
        checkpoint = self.checkpoint(trial)
        if checkpoint is not None and trial.state != "pruned" and not trial.lost:
            _delete(checkpoint.parent.glob(f"{checkpoint.name}*"))

    def clear_checkpoints(self, keep: Iterable[str]) -> None:
        """Delete what a killed driver has left, except the trainings of these candidates' keys."""
        if self._folder is not None:
            kept = {f"{key}.pt" for key in keep}
            _delete(path for path in (self._folder / "checkpoints").glob("*.pt*") if path.name not in kept)

    def clear_weights(self, running: Iterable[int] = ()) -> None:
        """Delete the weights of trials that failed, were cut off, or are no longer on the front."""
        if self._folder is None or self._spec.keep_weights == "none":
            return
        kept = {*running, *(one.number for one in self._judged if one.is_anchor)}
        kept |= {one.number for one in (self._judged if self._spec.keep_weights == "all" else self._front())}
        for path in (self._folder / "weights").glob("trial-*.safetensors*"):
            number = path.name.removeprefix("trial-").split(".")[0]
            if not number.isdigit() or int(number) not in kept:
                path.unlink(missing_ok=True)

    def _front(self) -> Sequence[_Judged]:
        """Return the trials that no other surely dominates, within what predictions leave open.

        A measurement may show that a dominating trial breaks a constraint, so only one that surely keeps them counts.
        While none is feasible, the one that misses its constraints by least stands for the front.
        """
        feasible = [one for one in self._judged if one.is_feasible]
        if not feasible:
            nearest = min(self._judged, key=lambda one: (one.miss, one.number), default=None)
            return [] if nearest is None else [nearest]
        sure = np.array([one.worst for one in feasible if one.is_surely_feasible])
        sure = sure[non_dominated(sure)] if len(sure) else np.empty((0, len(self._spec.objectives)))
        return [one for one in feasible if not ((sure <= one.best).all(axis=1) & (sure < one.best).any(axis=1)).any()]


class _Judged:
    """What a complete trial may turn out to be once its predictions are measured; losses at best and at worst."""

    def __init__(self, trial: Trial, spec: StudySpec) -> None:
        ends = [_at_end(trial, end) for end in ("low", "high")]
        losses = np.array([one.losses(spec.objectives) for one in ends])
        limits = {name: limit for one in spec.constraints for name, limit in one.limits.items()}
        self.number = trial.number
        self.is_anchor = trial.is_anchor
        self.is_feasible = trial.is_feasible(spec.constraints)
        self.is_surely_feasible = all(one.is_feasible(spec.constraints) for one in ends)
        self.miss = miss(trial.violations(spec.constraints), limits)
        self.best, self.worst = losses.min(axis=0), losses.max(axis=0)


def _at_end(trial: Trial, end: Literal["low", "high"]) -> Trial:
    """Return the trial at one end of what its predictions leave open.

    One network in ten lies outside its prediction's 90 % interval by definition. What is deleted cannot be restored, so
    twice that interval is taken, in logarithms.
    """
    readings = (
        replace(one, value=getattr(one, end) ** 2 / one.value) if isinstance(one, Prediction) else one
        for one in trial.readings
    )
    return replace(trial, readings=tuple(readings))


def _weights_name(number: int) -> str:
    return f"weights/trial-{number}.safetensors"


def _delete(files: Iterable[Path]) -> None:
    for file in files:
        with suppress(OSError):  # a file too many is no reason to end a study
            file.unlink(missing_ok=True)
