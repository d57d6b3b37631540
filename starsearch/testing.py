"""Contracts of what can be added to starsearch, as pytest classes.

Subclass one in a test module, under a name that begins with `Test`, and override its fixtures:

    class TestMyEvaluator(EvaluatorContract):
        @pytest.fixture
        def evaluator(self):
            return MyEvaluator()

Needs pytest (`pip install "starnet-search[testing]"`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import cloudpickle

from starsearch.candidate import Candidate
from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import EvaluationError, ExportError, StarsearchError, StudyError
from starsearch.evaluators.evaluator import WHOLE, Evaluation, Evaluator, TrainingPart
from starsearch.export.format import Format, TrainedNetwork, write_format
from starsearch.export.onnx import build_onnx
from starsearch.export.verification import check_onnx
from starsearch.export.weights import state_dict_arrays
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import INPUT, layer_params, weight_shapes
from starsearch.families.network import Network, build_model
from starsearch.families.text import architecture_hash, format_architecture, parse_architecture
from starsearch.latency.backends.backend import Backend
from starsearch.latency.prediction.terms import layer_kinds
from starsearch.measurement import Measurement, Reading
from starsearch.progress import Progress, follow
from starsearch.recipe import Recipe
from starsearch.search.executor import Executor, Failure, Job, News

__all__ = ["BackendContract", "EvaluatorContract", "ExecutorContract", "FamilyContract", "FormatContract"]


class BackendContract:
    """A backend makes timers whose calls are milliseconds, and describes its device the same way each time."""

    resolution = 32

    @pytest.fixture
    def make_backend(self) -> Callable[[], Backend]:
        """Makes a `starsearch.latency.backends.backend.Backend` with the same options ; override it."""
        raise NotImplementedError

    @pytest.fixture
    def backend(self, make_backend: Callable[[], Backend]) -> Backend:
        """The backend; its tests are skipped where this machine cannot run it."""
        backend = make_backend()
        if (missing := backend.missing()) is not None:
            pytest.skip(missing)
        return backend

    @pytest.fixture
    def network(self) -> Architecture:
        """What is timed."""
        return Architecture.of(embed_dim=8, depths=(1, 1, 1, 1))

    def test_equal_backends_are_one(self, make_backend: Callable[[], Backend]) -> None:
        """What was made ready for one serves its equals: the reference's timer is kept by backend."""
        assert make_backend() == make_backend()
        assert hash(make_backend()) == hash(make_backend())
        assert min(make_backend().copies, make_backend().calibration_runs) >= 1

    def test_the_device_is_described_in_words_that_do_not_change(self, backend: Backend) -> None:
        """Profiles and references are of one device, compared by its text."""
        assert backend.describe_device() == backend.describe_device()
        assert backend.describe_device().text.strip()

    def test_a_timer_gives_milliseconds(self, backend: Backend, network: Architecture) -> None:
        """Each call is one reading, batch 1."""
        timer = backend.make_timer(network, resolution=self.resolution, rng=np.random.default_rng(0))
        readings = [timer() for _ in range(3)]
        assert all(math.isfinite(ms) and 0 < ms < 60_000 for ms in readings)

    def test_what_it_cannot_run_is_refused_in_words(self, backend: Backend) -> None:
        """The error is the user's, not a runtime's."""
        with pytest.raises(StarsearchError):
            backend.make_timer(b"no network", resolution=self.resolution, rng=np.random.default_rng(0))


class EvaluatorContract:
    """An evaluator yields its progress, returns readings with their units in their names, and repeats for a seed."""

    unrepeatable: tuple[str, ...] = ("images_per_second",)
    """Names of readings that differ from run to run; latencies always do."""

    @pytest.fixture
    def evaluator(self) -> Evaluator:
        """The evaluator, a callable as `starsearch.evaluators.evaluator.Evaluator` is; override it."""
        raise NotImplementedError

    @pytest.fixture
    def candidate(self) -> Candidate:
        """A candidate that it judges quickly."""
        architecture = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1,mlp_ratio=2")
        return Candidate(architecture=architecture, recipe=Recipe(epochs=1, batch_size=16))

    def evaluate(self, evaluator: Evaluator, candidate: Candidate) -> tuple[list[Progress], tuple[Reading, ...]]:
        """Return what an evaluation with seed 0 yields and what it returns."""
        progress: list[Progress] = []
        return progress, follow(evaluator(candidate, seed=0, weights=None), progress.append)

    def test_progress_never_falls_and_readings_are_finite_and_named_once(
        self, evaluator: Evaluator, candidate: Candidate
    ) -> None:
        """The first promise: what the driver shows and what it records."""
        progress, readings = self.evaluate(evaluator, candidate)
        fractions = [one.fraction for one in progress]
        assert fractions == sorted(fractions)
        assert all(0 <= fraction <= 1 for fraction in fractions)
        assert all(one.stage for one in progress), "a stage says what is being done"
        assert readings, "an evaluation without readings is a failed one: raise EvaluationError"
        assert len({one.name for one in readings}) == len(readings)
        assert all(math.isfinite(one.value) for one in readings)

    def test_the_same_seed_gives_the_same_readings_also_in_another_process(
        self, evaluator: Evaluator, candidate: Candidate
    ) -> None:
        """The second: Ray sends the evaluator to a worker, and a retry is the same trial."""
        first = self._repeatable(evaluator, candidate)
        sent: Any = cloudpickle
        assert self._repeatable(sent.loads(sent.dumps(evaluator)), candidate) == first

    def test_it_can_be_stopped_midway_and_used_again(self, evaluator: Evaluator, candidate: Candidate) -> None:
        """The third: a pruned or interrupted trial closes its evaluation."""
        evaluation = evaluator(candidate, seed=0, weights=None)
        next(evaluation, None)
        evaluation.close()
        assert self._repeatable(evaluator, candidate)

    def _repeatable(self, evaluator: Evaluator, candidate: Candidate) -> dict[str, Reading]:
        _, readings = self.evaluate(evaluator, candidate)
        varying = [one.name for one in readings if one.name in self.unrepeatable or "latency_ms" in one.name]
        return {one.name: one for one in readings if one.name not in varying}


MakeExecutor = Callable[[Evaluator], Executor]


def echo(candidate: Candidate, *, seed: int, weights: Path | None, part: TrainingPart = WHOLE) -> Evaluation:  # noqa: ARG001
    """Return the seed; recipes of 2 and 3 epochs ask for the candidate's and for nobody's fault instead."""
    yield Progress(fraction=0.0, stage="thinking")
    if candidate.recipe.epochs == 2:
        raise EvaluationError("the candidate's fault")
    if candidate.recipe.epochs == 3:
        raise StudyError("nobody can evaluate here")
    yield Progress(fraction=1.0, stage="thinking")
    return (Measurement(name="seed", value=seed),)


def job(number: int, *, epochs: int = 1) -> Job:
    """Return a job for `echo` whose seed is its number."""
    candidate = Candidate(architecture=Architecture.of(), recipe=Recipe(epochs=epochs))
    return Job(number=number, candidate=candidate, seed=number, weights=None, part=WHOLE)


class ExecutorContract:
    """An executor runs up to its capacity of jobs, and says what happens in each up to its last news."""

    @pytest.fixture
    def make_executor(self) -> MakeExecutor:
        """From an evaluator to the executor; override it."""
        raise NotImplementedError

    @pytest.fixture
    def executor(self, make_executor: MakeExecutor) -> Iterator[Executor]:
        """The executor of `echo`, closed at the end."""
        made = make_executor(echo)
        yield made
        made.close()

    def finish(self, executor: Executor, running: set[int]) -> dict[int, list[News]]:
        """Return the news of running jobs by number, up to the last of each."""
        told: dict[int, list[News]] = {number: [] for number in running}
        while running:
            if (said := executor.next()) is not None:
                number, news = said
                assert number in running, "nothing follows a job's last news"
                told[number].append(news)
                running = running if isinstance(news, Progress) else running - {number}
        return told

    def test_each_job_tells_its_progress_and_last_its_readings(self, executor: Executor) -> None:
        """As many jobs as there is room for, twice."""
        for first in (0, 100):
            numbers = range(first, first + max(1, executor.capacity))
            for number in numbers:
                executor.submit(job(number))
            for number, told in self.finish(executor, set(numbers)).items():
                assert told[-1] == (Measurement(name="seed", value=number),)
                fractions = [one.fraction for one in told if isinstance(one, Progress)]
                assert fractions == sorted(fractions)
                assert len(fractions) == len(told) - 1

    def test_a_candidates_error_is_its_failure_and_the_next_job_runs(self, executor: Executor) -> None:
        """The reason is one line for the user, the traceback for a file."""
        executor.submit(job(1, epochs=2))
        failure = self.finish(executor, {1})[1][-1]
        assert isinstance(failure, Failure)
        assert failure.reason == "EvaluationError: the candidate's fault"
        assert "Traceback" in failure.log
        assert not failure.lost
        executor.submit(job(2))
        assert self.finish(executor, {2})[2][-1] == (Measurement(name="seed", value=2),)

    def test_an_error_that_is_no_candidates_fault_leaves_it(self, executor: Executor) -> None:
        """A full disk ends the study, not one trial after the other."""
        executor.submit(job(1, epochs=3))
        with pytest.raises(StudyError, match="nobody can evaluate here"):
            self.finish(executor, {1})

    def test_it_is_closed_while_a_job_runs_and_twice(self, make_executor: MakeExecutor) -> None:
        """Ctrl-C closes it at any moment."""
        executor = make_executor(echo)
        executor.submit(job(1))
        executor.close()
        executor.close()


_RESOLUTION = 64
_NUM_CLASSES = 5


class FamilyContract:
    """A family's texts read back, and its layers and its module are the same network, which ONNX Runtime runs too."""

    texts: tuple[str, ...] = ()
    """Architectures of the family, one line each; override it with some that use every field."""

    @pytest.fixture
    def architectures(self) -> list[Architecture]:
        """The architectures of `texts`."""
        return [parse_architecture(text) for text in self.texts]

    @pytest.fixture
    def networks(self, architectures: list[Architecture]) -> list[Network]:
        """Their networks, with running statistics of some random images."""
        networks = []
        for architecture in architectures:
            torch.manual_seed(0)
            networks.append(build_model(architecture, num_classes=_NUM_CLASSES).train())
            networks[-1](torch.randn(8, 3, _RESOLUTION, _RESOLUTION))
        return [network.eval() for network in networks]

    def test_text_and_canonical_form_say_the_same_network(self, architectures: list[Architecture]) -> None:
        """Studies store networks by their texts and hashes."""
        for architecture in architectures:
            canonical = architecture.canonical()
            assert canonical == canonical.canonical() == parse_architecture(format_architecture(architecture))
            assert lower(canonical) == lower(architecture)
        assert len({architecture_hash(one) for one in architectures}) == len(set(self.texts))

    def test_every_layer_reads_the_shape_that_an_earlier_one_has(self, architectures: list[Architecture]) -> None:
        """Cost, latency and ONNX follow the list from its begin to its end, with a row per operation."""
        for layers in (lower(architecture, resolution=_RESOLUTION) for architecture in architectures):
            shapes = {INPUT: layers[0].in_shape}
            for layer in layers:
                assert layer.name not in shapes
                assert all(shapes[source] == layer.in_shape for source in layer.inputs)
                shapes[layer.name] = layer.out_shape
            assert layers[-1].out_shape == (1000, 1, 1)
            assert len(layer_kinds(layers)) == len(layers)

    def test_the_module_has_the_weights_that_the_layers_own(self, networks: list[Network]) -> None:
        """State-dict keys begin with the names of layers, and their parameters are counted alike."""
        for network in networks:
            layers = network.lower(resolution=_RESOLUTION)
            owned = {key: shape for layer in layers for key, shape in weight_shapes(layer).items()}
            assert {key: array.shape for key, array in state_dict_arrays(network).items()} == owned
            assert sum(map(layer_params, layers)) == sum(one.numel() for one in network.parameters())

    def test_module_and_layers_compute_the_same_logits(self, networks: list[Network]) -> None:
        """The ONNX file is built from the layers; ONNX Runtime's logits are the module's."""
        for network in networks:
            graph = build_onnx(network.lower(resolution=_RESOLUTION), state_dict_arrays(network))
            check_onnx(graph, network, resolution=_RESOLUTION)

    def test_the_quick_form_computes_the_same_logits(self, networks: list[Network]) -> None:
        """Training takes `quick_forward`."""
        images = torch.randn(2, 3, _RESOLUTION, _RESOLUTION)
        for network in networks:
            with torch.no_grad():
                torch.testing.assert_close(network.quick_forward()(images), network(images), rtol=1e-3, atol=1e-4)


_PIXELS = 32


class FormatContract:
    """A format writes a network, and reads back whether it is that network; the network stays as it is."""

    text: str = "starnet:embed_dim=8,depths=1-1,ops=sum"
    """The network that is written, in one line; override it for another family's."""

    @pytest.fixture
    def form(self) -> Format:
        """The format; override it."""
        raise NotImplementedError

    @pytest.fixture
    def network(self) -> TrainedNetwork:
        """A small network of five classes; its running statistics are not those of a new one."""
        torch.manual_seed(0)
        model = build_model(parse_architecture(self.text), num_classes=5).train()
        model(torch.randn(8, 3, _PIXELS, _PIXELS))
        images = [torch.randn(1, 3, _PIXELS, _PIXELS).numpy() for _ in range(8)]
        return TrainedNetwork(
            model=model.eval(),
            source="random weights",
            preprocessing=Preprocessing(resolution=_PIXELS),
            class_names=("one", "two", "three", "four", "five"),
            calibration=lambda: images,
        )

    def test_it_is_described_for_the_command(self, form: Format) -> None:
        """`starsearch export --help` reads these."""
        assert form.name.replace("-", "").isalnum()
        assert form.help.strip()
        assert not Path(form.file).is_absolute()

    def test_what_it_writes_reads_back_and_the_network_stays(
        self, form: Format, network: TrainedNetwork, tmp_path: Path
    ) -> None:
        """The files are there, and neither weights nor mode of the model have changed."""
        before = {key: value.clone() for key, value in network.model.state_dict().items()}
        files, _ = write_format(network, form, tmp_path / "export")
        assert files
        assert all(path.exists() for path in files)
        after = network.model.state_dict()
        assert all(torch.equal(value, after[key]) for key, value in before.items())
        assert not network.model.training

    def test_a_damaged_file_does_not_read_back(self, form: Format, network: TrainedNetwork, tmp_path: Path) -> None:
        """Cut in half, the largest file is an `ExportError`, not a runtime's own."""
        path = tmp_path / "export" / form.file
        path.parent.mkdir(exist_ok=True)
        form.write(network, path)
        largest = max([path, *path.rglob("*")], key=lambda one: one.stat().st_size if one.is_file() else 0)
        largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
        with pytest.raises(ExportError):
            form.read_back(network, path)
