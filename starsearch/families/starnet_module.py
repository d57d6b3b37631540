"""StarNet for the whole design space, as one module on top of timm's, and its registration with timm.

State-dict keys and outputs are timm's own (`timm.models.starnet`) wherever timm can express the network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, cast

import torch
from timm.layers import DropPath, Linear, SelectAdaptivePool2d, calculate_drop_path_rates
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models import starnet as timm_starnet
from torch import nn

from starsearch.errors import ArchitectureError
from starsearch.families.layers import ACTIVATION_FUNCTIONS
from starsearch.families.network import Network, combine, join, parsed
from starsearch.families.starnet import StarNetArchitecture
from starsearch.families.starnet_cpu import fast_forward

INITIALIZATIONS = ("official", "timm", "identity")


class Block(nn.Module):
    """A star (or sum) block: depthwise → two branches → star or sum → projection → depthwise → + input."""

    def __init__(self, architecture: StarNetArchitecture, stage: int, drop_path: float, **factory: Any) -> None:
        super().__init__()
        dim, hidden = architecture.stage_widths[stage], architecture.inner_width(stage)
        kernel_size = architecture.kernel_size[stage]
        depthwise = {"kernel_size": kernel_size, "padding": kernel_size // 2, "groups": dim, **factory}
        self.op = architecture.ops[stage]
        self.activation = architecture.activation[stage]
        self.branches = architecture.branches[stage]
        self.dwconv = timm_starnet.ConvBN(dim, dim, **depthwise)
        self.f1 = timm_starnet.ConvBN(dim, hidden, with_bn=False, **factory)
        if self.branches == "both":
            self.f2 = timm_starnet.ConvBN(dim, hidden, with_bn=False, **factory)
        self.g = timm_starnet.ConvBN(hidden, dim, **factory)
        self.dwconv2 = timm_starnet.ConvBN(dim, dim, with_bn=False, **depthwise)
        self.act = _activation(architecture)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, dim, height, width) to the same shape."""
        y = self.dwconv(x)
        if self.branches == "one":
            y = self._join_one_branch(y)
        else:
            x1 = self.f1(y)
            y = self._combine_and_project(x1, self.f2(y) if self.branches == "both" else x1)
        y = self.dwconv2(y)
        out: torch.Tensor = x + self.drop_path(y)
        return out

    def _join_one_branch(self, x: torch.Tensor) -> torch.Tensor:
        """The map itself joined with what expansion, activation and projection make of it (section 4.3)."""
        inner = self.f1(x)
        branch = self.g(self.act(inner) if self.activation in ("one", "both") else inner)
        other = self.act(x) if self.activation == "both" else x
        joined = join(self.op, branch, other)
        return cast("torch.Tensor", self.act(joined) if self.activation == "post" else joined)

    def _combine_and_project(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        """The branches combined, projected and normalised, a star in float32 where autocast computes in float16.

        Without a bounded activation on both branches their product exceeds float16's 65,504 as soon as both exceed
        256, and the norm behind the projection makes NaN of it.
        """
        kind = x1.device.type
        # A model that is in float16 as a whole has nothing else, so only what autocast made float16 is guarded.
        autocasts = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.float16
        guarded = self.op == "star" and x1.dtype == torch.float16 and autocasts
        if not guarded:
            return cast("torch.Tensor", self.g(combine(self, x1, x2)))
        with torch.autocast(kind, enabled=False):
            return cast("torch.Tensor", self.g(combine(self, x1.float(), x2.float())))


class StarNet(timm_starnet.StarNet, Network):
    """A StarNet of any `StarNetArchitecture`.

    What timm's StarNet offers is inherited: `forward_features`, `forward_intermediates`, `reset_classifier`,
    `set_grad_checkpointing`, `group_matcher`. Only the construction is ours.

    Args:
        architecture: the architecture or its one-line text.
        num_classes: outputs of the head; 0 for none.
        drop_path_rate: stochastic depth of the last block; earlier ones rise linearly from 0.
        global_pool: timm's name of the pooling.
        output_stride: timm passes it; only 32 is possible.
        stem_stride: 2 as published; 1 for small images.
        initialization: "official" leaves convolutions at PyTorch's default, as the code that trained the
            published weights does (its `isinstance(m, nn.Linear or nn.Conv2d)` sees linear layers only);
            "timm" draws them from a truncated normal of 0.02; "identity" is "official" with the last depthwise
            convolution of each block at zero, so that every block starts as the identity and depth does not slow a
            short training down.

    Raises:
        ArchitectureError: the text cannot be read, or an option has a value that is not known.
    """

    timm_name: ClassVar[str] = "starsearch_starnet"

    def __init__(
        self,
        architecture: StarNetArchitecture | str = "starnet_s1",
        num_classes: int = 1000,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        global_pool: str = "avg",
        output_stride: int = 32,
        stem_stride: int = 2,
        initialization: str = "official",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)  # not timm's: it would build StarNet-S4 first
        if output_stride != 32:
            raise ArchitectureError(f"StarNet has no dilated form: output_stride is 32; got {output_stride}.")
        if initialization not in INITIALIZATIONS:
            raise ArchitectureError(f"initialization is 'official', 'timm' or 'identity'; got {initialization!r}.")
        architecture = parsed(architecture, StarNetArchitecture)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.architecture = architecture
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.stem_stride = stem_stride
        self.grad_checkpointing = False
        self.stem = nn.Sequential(
            timm_starnet.ConvBN(in_chans, architecture.stem_width, 3, stride=stem_stride, padding=1, **factory),
            _activation(architecture),
        )
        self.stages = nn.Sequential(*_build_stages(architecture, drop_path_rate, factory))
        self.feature_info = [
            {"num_chs": width, "reduction": stem_stride * 2 ** (stage + 1), "module": f"stages.{stage}"}
            for stage, width in enumerate(architecture.stage_widths)
        ]
        self.num_features = architecture.stage_widths[-1]
        self.norm = nn.BatchNorm2d(self.num_features, **factory)
        self.global_pool = SelectAdaptivePool2d(pool_type=global_pool)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.flatten = nn.Flatten(1) if global_pool else nn.Identity()
        self.head = Linear(self.head_hidden_size, num_classes, **factory) if num_classes > 0 else nn.Identity()
        self.apply(self._init_weights if initialization == "timm" else _init_officially)
        if initialization == "identity":
            self.apply(_init_as_identity)

    def plain_fields(self) -> dict[str, Any]:
        """Return the stem's width and each stage's numbers."""
        network: Any = self.architecture.canonical()
        stages = zip(
            network.stage_widths,
            network.depths,
            map(network.inner_width, range(network.num_stages)),
            network.kernel_size,
            network.ops,
            network.activation,
            network.branches,
            strict=True,
        )
        return {"stem_width": network.stem_width, "stages": list(stages)}

    def quick_forward(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the form that trains several times as fast on small maps on a CPU."""
        return partial(fast_forward, self)


def _activation(architecture: StarNetArchitecture) -> nn.Module:
    made: nn.Module = getattr(nn, ACTIVATION_FUNCTIONS[architecture.act_type].torch)()
    return made


def _build_stages(
    architecture: StarNetArchitecture, drop_path_rate: float, factory: dict[str, Any]
) -> list[nn.Sequential]:
    drop_paths = iter(cast("list[float]", calculate_drop_path_rates(drop_path_rate, sum(architecture.depths))))
    stages, in_width = [], architecture.stem_width
    for stage, (width, depth) in enumerate(zip(architecture.stage_widths, architecture.depths, strict=True)):
        down_sampler = timm_starnet.ConvBN(in_width, width, 3, stride=2, padding=1, **factory)
        blocks = [Block(architecture, stage, next(drop_paths), **factory) for _ in range(depth)]
        stages.append(nn.Sequential(down_sampler, *blocks))
        in_width = width
    return stages


def _init_officially(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _init_as_identity(module: nn.Module) -> None:
    if isinstance(module, Block):
        for parameter in module.dwconv2.parameters():
            nn.init.zeros_(parameter)


default_cfgs = generate_default_cfgs({"starsearch_starnet.untrained": timm_starnet._cfg()})


@register_model
def starsearch_starnet(pretrained: bool = False, **kwargs: Any) -> StarNet:
    """`timm.create_model("starsearch_starnet", architecture="starnet:embed_dim=24,depths=2-2-8-3,ops=sum")`."""
    stages = parsed(kwargs.get("architecture", "starnet_s1"), StarNetArchitecture).num_stages
    model: StarNet = build_model_with_cfg(
        StarNet,
        "starsearch_starnet",
        pretrained,
        pretrained_filter_fn=timm_starnet.checkpoint_filter_fn,
        feature_cfg={"out_indices": tuple(range(stages)), "flatten_sequential": True},
        **kwargs,
    )
    return model
