"""A model of timm's as a `Network`, so that the one training loop trains it by the same recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import timm
import torch

from starsearch.errors import EvaluationError, did_you_mean, first_line
from starsearch.families.network import Network
from starsearch.families.timm import TIMM, TimmArchitecture
from starsearch.resolution import Resolution, sides


class TimmNetwork(Network):
    """A model of timm's with new weights; its state dict is that of the model itself."""

    def __init__(
        self,
        architecture: TimmArchitecture,
        *,
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        stem_stride: int = 2,
        initialization: str = "official",  # noqa: ARG002 — timm's own
    ) -> None:
        super().__init__()
        name = architecture.name
        check_timm_knows(name)
        options = {"drop_rate": drop_rate or None, "drop_path_rate": drop_path_rate or None}
        create: Any = timm.create_model
        try:
            self.net: Any = create(name, num_classes=num_classes, in_chans=in_chans, **options)
        except Exception as error:  # whatever a model's constructor may raise
            raise EvaluationError(f"timm cannot build {name!r} for this training: {first_line(error)}") from error
        self.architecture, self.num_classes = architecture, num_classes
        self.in_chans, self.stem_stride, self.num_features = in_chans, stem_stride, self.net.num_features
        self.classifier, self.paper = self.net.pretrained_cfg["classifier"], {}
        if stem_stride == 1:
            stems = self.net.pretrained_cfg["first_conv"]
            for stem in (stems,) if isinstance(stems, str) else stems:  # parallel branches, before they are folded
                conv = self.net.get_submodule(stem)
                conv.stride = tuple(max(1, stride // 2) for stride in conv.stride)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits (batch, classes) of (batch, channels, height, width) images."""
        logits: torch.Tensor = self.net(images)
        return logits

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters that timm's own recipe does not decay."""
        known = self.net.no_weight_decay() if hasattr(self.net, "no_weight_decay") else ()
        return {f"net.{name}" for name in known}

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return timm's."""
        return self.net.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load timm's."""
        return self.net.load_state_dict(state_dict, strict=strict, assign=assign)

    def count_macs(self, *, resolution: Resolution) -> int:
        """Return the multiply-accumulates of an image in convolutions and matrix products, as torch counts them."""
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            self.eval()(torch.zeros(1, self.in_chans, *sides(resolution)))
        return counter.get_total_flops() // 2


def check_timm_knows(name: str) -> None:
    """Raise `EvaluationError` where timm has no model of this name."""
    bare = name.partition(".")[0]
    if not timm.is_model(bare):
        raise EvaluationError(
            f"timm {timm.__version__} has no model {name!r}.{did_you_mean(bare, timm.list_models())} "
            f"List some: python -c \"import timm; print(timm.list_models('*{bare[:6]}*'))\""
        )


def check_baseline(name: str, *, num_classes: int, resolutions: Iterable[Resolution]) -> None:
    """Raise `EvaluationError` where timm cannot build a model, or it takes no images of these resolutions."""
    with torch.random.fork_rng(devices=[]):
        model = TimmNetwork(TimmArchitecture(name=name), num_classes=num_classes).eval()
    for pixels in resolutions:
        try:
            with torch.inference_mode():
                model(torch.zeros(1, 3, *sides(pixels)))
        except Exception as error:  # whatever a model may raise
            raise EvaluationError(
                f"{TIMM}{name} does not take images of {pixels} px: {first_line(error)} Leave it out, or "
                "name a model of any resolution."
            ) from error
