"""What every export format does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export.format import Format, TrainedNetwork, write_format
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture

_RESOLUTION = 32


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
        model(torch.randn(8, 3, _RESOLUTION, _RESOLUTION))
        images = [torch.randn(1, 3, _RESOLUTION, _RESOLUTION).numpy() for _ in range(8)]
        return TrainedNetwork(
            model=model.eval(),
            source="random weights",
            preprocessing=Preprocessing(resolution=_RESOLUTION),
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
