"""Figure 2: decision boundaries of small star and sum networks beside those of support vector machines."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from starsearch.paper.finding import Finding, Setting, interval_of_mean, judge_sign
from starsearch.progress import Progress

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

# From the authors' repository (2D_visual): data, network, training and kernels.
_WIDTH, _DEPTH, _EXPANSION = 100, 4, 3
_EPOCHS, _BATCH = 30, 32
_POINTS_A_SIDE = 120
_FEWEST_SEEDS = 10  # a training takes a second
NETWORKS = ("sum", "star", "sum, no activation", "star, no activation")
KERNELS = ("Gaussian kernel", "polynomial kernel")
Points = NDArray[np.float32]


def make_demonet_2d(op: str, *, activation: bool) -> torch.nn.Module:
    """Return the DemoNet for points of section 3.4.2: no convolutions, no layer scale, ReLU or none."""
    from torch import nn
    from torch.nn.init import trunc_normal_

    from starsearch.families.network import join

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(_WIDTH)
            self.f1, self.f2 = (nn.Linear(_WIDTH, _EXPANSION * _WIDTH) for _ in range(2))
            self.act = nn.ReLU() if activation else nn.Identity()
            self.g = nn.Linear(_EXPANSION * _WIDTH, _WIDTH)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(x)
            out: torch.Tensor = x + self.g(join(op, self.act(self.f1(y)), self.f2(y)))
            return out

    blocks = (Block() for _ in range(_DEPTH))
    model = nn.Sequential(nn.Linear(2, _WIDTH), *blocks, nn.LayerNorm(_WIDTH), nn.Linear(_WIDTH, 2))
    for module in model.modules():
        if isinstance(module, nn.Linear):
            trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return model


def train_2d(model: torch.nn.Module, points: Points, labels: NDArray[np.int64]) -> None:
    """Train by the authors' recipe: SGD from 0.1 to 0.005 on a cosine, 30 epochs, whole batches of 32."""
    import torch
    from torch.nn.functional import cross_entropy

    x, y = torch.from_numpy(points), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=2e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _EPOCHS, eta_min=0.005)
    for _ in range(_EPOCHS):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - _BATCH + 1, _BATCH):
            batch = order[start : start + _BATCH]
            loss = cross_entropy(model(x[batch]), y[batch], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        schedule.step()


def find_boundaries(setting: Setting) -> Generator[Progress, None, Finding]:
    """Train the four networks by each seed; compare them with the machines on a grid."""
    import torch
    from sklearn.datasets import make_moons
    from sklearn.svm import SVC

    seeds = max(setting.seeds, _FEWEST_SEEDS)
    points, labels = make_moons(100, noise=0.4, random_state=0)
    points = points.astype(np.float32)
    grid = _grid(points)
    machines = {
        "Gaussian kernel": SVC(kernel="rbf", gamma=4).fit(points, labels),
        "polynomial kernel": SVC(kernel="poly", degree=4, coef0=4, gamma="scale").fit(points, labels),
    }
    shown: dict[str, Any] = {name: machine.predict(grid) for name, machine in machines.items()}
    fits = {name: [float((machine.predict(points) == labels).mean())] for name, machine in machines.items()}
    rows: list[dict[str, Any]] = []
    for number, (name, seed) in enumerate((name, seed) for name in NETWORKS for seed in range(seeds)):
        yield Progress(fraction=number / (len(NETWORKS) * seeds), stage=f"training {name}")
        torch.manual_seed(seed)
        model = make_demonet_2d(name.split(",")[0], activation="no" not in name)
        train_2d(model, points, labels)
        with torch.no_grad():
            classes, fitted = (model(torch.from_numpy(one)).argmax(1).numpy() for one in (grid, points))
        shown.setdefault(name, classes)
        agreement = {kernel: float((classes == shown[kernel]).mean()) for kernel in KERNELS}
        rows.append({"function": name, "seed": seed, "accuracy": float((fitted == labels).mean()), **agreement})
    return _judge(pd.DataFrame(rows), fits, _draw(shown, points, labels))


def _judge(runs: pd.DataFrame, fits: dict[str, list[float]], figure: Figure) -> Finding:
    star, total = (runs[runs["function"] == name].set_index("seed") for name in ("star", "sum"))
    gap, low, high = interval_of_mean((100 * (star["accuracy"] - total["accuracy"])).tolist())
    nearer, near_low, near_high = interval_of_mean((star[KERNELS[1]] - star[KERNELS[0]]).tolist())
    means = runs.groupby("function", sort=False)[["accuracy", *KERNELS]].agg(["mean", "std"])
    table = pd.DataFrame(
        {
            "function": means.index,
            "published": "picture",
            "here": 100 * means["accuracy", "mean"].to_numpy(),
            "spread": 100 * means["accuracy", "std"].to_numpy(),
            **{f"agreement with the {kernel}": means[kernel, "mean"].to_numpy() for kernel in KERNELS},
        }
    )
    machines = pd.DataFrame(
        {"function": list(fits), "published": "picture", "here": [100 * one[0] for one in fits.values()]}
    )
    verdicts = {judge_sign(low, high), judge_sign(near_low, near_high)}
    verdict = verdicts.pop() if len(verdicts) == 1 else "could not be told"
    return Finding(
        rows=pd.concat([table, machines], ignore_index=True),
        verdict=verdict,
        sentence=(
            f"Over {len(star)} seeds stars fit the training points by {gap:.1f} points ({low:.1f} to {high:.1f}) "
            "better than sums, and their boundary agrees with the polynomial kernel's on "
            f"{nearer:+.2f} ({near_low:+.2f} to {near_high:+.2f}) more of the plane than with the Gaussian kernel's. "
            "The paper shows pictures, no figures."
        ),
        figure=figure,
    )


def _grid(points: Points) -> Points:
    (left, bottom), (right, top) = points.min(0) - 0.5, points.max(0) + 0.5
    x, y = np.meshgrid(np.linspace(left, right, _POINTS_A_SIDE), np.linspace(bottom, top, _POINTS_A_SIDE))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def _draw(shown: dict[str, Any], points: Points, labels: NDArray[np.int64]) -> Figure:
    """The figure's arrangement: networks above, machines below; without activations in a row between."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 8.4), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = _grid(points)
    x, y = (grid[:, axis].reshape(_POINTS_A_SIDE, -1) for axis in (0, 1))
    axes: Iterator[Any] = iter(figure.subplots(3, 2).flat)
    for name in (*NETWORKS, *KERNELS):
        at = next(axes)
        at.contourf(x, y, shown[name].reshape(x.shape), levels=1, colors=["#D6E6F4", "#FBE3D3"])
        at.scatter(
            *points.T, c=labels, s=14, cmap=ListedColormap(["#0072B2", "#D55E00"]), edgecolors="white", linewidths=0.5
        )
        at.set(title=name, xticks=[], yticks=[])
    return figure
