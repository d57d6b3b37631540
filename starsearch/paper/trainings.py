"""Tables of trained networks: each network by several seeds at one fidelity, judged by one contrast or by the order."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from starsearch.accuracy.evidence import published_top1_percent
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.paper.finding import Finding, Reproduction, Setting, interval_of_mean, judge_sign
from starsearch.progress import Progress
from starsearch.recipe import Fidelity

_S4 = "starnet:embed_dim=32,depths=3-3-12-5"
_SMALL = Fidelity(name="starnet-small", epochs=3, samples=10_000, validation_samples=5_000, recipe="proxy")
# A 32 px image has nine patches of 16 px that overlap by half.
_SMALL_DEMONET = replace(_SMALL, name="demonet-small", stem_stride=1)
SMALL_FIDELITIES = (_SMALL, _SMALL_DEMONET)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedTable:
    """A table of accuracies.

    Attributes:
        networks: by the row's label the network's text and its published ImageNet top-1 in percent.
        contrast: by label the weights of a difference that the claim says is positive, in points; without one the claim
            is the order of the rows.
        small: the fidelity of the small scale.
        small_rows: the rows of the small scale, where they are fewer.
        recipe: the shipped recipe of the paper's scale.
    """

    networks: Mapping[str, tuple[str, float]]
    contrast: Mapping[str, float] | None = None
    small: Fidelity = _SMALL
    small_rows: TrainedTable | None = None
    recipe: str = "starnet-imagenet"


def _published(texts: Mapping[str, str], table: str = "") -> dict[str, tuple[str, float]]:
    """Rows by label: each network's text with its published top-1, that of `table` where several have it."""
    known = published_top1_percent(table)
    return {label: (text, known[parse_architecture(text).canonical()]) for label, text in texts.items()}


def _demonets(table: str, sizes: Sequence[tuple[int, int]]) -> TrainedTable:
    """Tables 2 and 3: the mean of the gaps between star and sum is the claim; small, of every third size."""
    networks, contrast = {}, {}
    for width, depth in sizes:
        for op, weight in (("sum", -1), ("star", 1)):
            label = f"{op}, width {width}, depth {depth}"
            networks[label] = f"demonet:width={width},depths={depth},ops={op}"
            contrast[label] = weight / len(sizes)
    return TrainedTable(
        networks=_published(networks, table),
        contrast=contrast,
        small=_SMALL_DEMONET,
        small_rows=_demonets(table, sizes[::3]) if len(sizes) > 3 else None,
        recipe="demonet-imagenet",
    )


def _starnets(**texts: str) -> dict[str, tuple[str, float]]:
    """Rows by label, from what each changes of S4."""
    return _published({label: f"{_S4},{text}" if text else _S4 for label, text in texts.items()})


def _ops(letters: str) -> str:
    return f"ops={'-'.join('star' if one == '*' else 'sum' for one in letters)}"


_TABLE2 = _demonets("table 2", [(width, 12) for width in range(96, 289, 32)])
_TABLE3 = _demonets("table 3", [(192, depth) for depth in range(10, 23, 2)])
_TABLE4 = TrainedTable(
    networks=_published(
        {
            "sum": "demonet:ops=sum",
            "sum, no activation": "demonet:ops=sum,activation=none",
            "star": "demonet:ops=star",
            "star, no activation": "demonet:ops=star,activation=none",
        }
    ),
    contrast={"sum": 1, "sum, no activation": -1, "star": -1, "star, no activation": 1},
    small=_SMALL_DEMONET,
    recipe="demonet-imagenet",
)
_TABLE7 = TrainedTable(
    networks=_starnets(
        **{one: _ops(one) for one in ("++++", "*+++", "**++", "***+", "****", "++*+", "+++*", "++**")},
    ),
    contrast={"++**": 1, "**++": -1},
)
_TABLE9 = TrainedTable(
    networks=_starnets(**{f"act. {one}": f"activation={one}" for one in ("none", "both", "post", "one")})
)
_TABLE17 = TrainedTable(
    networks=_starnets(**{one: f"act_type={one}" for one in ("relu6", "relu", "gelu", "leaky_relu", "hard_swish")})
)
_SECTION43 = TrainedTable(
    networks=_starnets(**{"both branches": "", "one branch": "branches=one"}),
    contrast={"both branches": 1, "one branch": -1},
)


def find_top1(table: TrainedTable, setting: Setting) -> Generator[Progress, None, Finding]:
    """Train what is not there yet, and compare."""
    from starsearch.bench.making import make_slice, training_slice
    from starsearch.bench.table import read_table

    assert setting.data is not None
    fidelity = table.small
    if setting.scale == "small":
        table = table.small_rows or table
    else:
        fidelity = Fidelity(name=table.recipe, resolution=224, recipe=table.recipe, crop_pct=0.875)
    if setting.epochs is not None:
        fidelity = replace(fidelity, name=f"{fidelity.name}-{setting.epochs}", epochs=setting.epochs)
    networks = {parse_architecture(text): label for label, (text, _) in table.networks.items()}
    wanted = [(network, seed) for seed in range(setting.seeds) for network in networks]
    checkpoints = setting.folder / "checkpoints" if setting.scale == "paper" else None
    trained = training_slice(fidelity, setting.data, wanted=wanted, checkpoints=checkpoints)
    for made in make_slice(trained, setting.folder, names=networks):
        left = made.seconds_left / 60
        stage = f"{made.there} of {made.wanted} trained" + (f", {left:.0f} min left" if left == left else "")
        yield Progress(fraction=made.there / made.wanted, stage=stage)
    rows = read_table(setting.folder)
    # A network of several tables is trained once; its row has the name that the first of them gives it.
    labels = {format_architecture(network): label for network, label in networks.items()}
    rows = rows[rows["fidelity"] == fidelity.name].assign(label=rows["network"].map(labels))
    top1 = rows.pivot_table(index="seed", columns="label", values="top1_percent")
    return judge_top1(table, top1.head(setting.seeds), setting.data.name)


def judge_top1(table: TrainedTable, top1: pd.DataFrame, data: str) -> Finding:
    """Return the rows and the verdict from top-1 in percent (seeds, networks by label)."""
    from scipy.stats import kendalltau

    published = pd.Series({label: value for label, (_, value) in table.networks.items()})
    top1 = top1.reindex(columns=list(published.index)).dropna()
    shown = pd.DataFrame(
        {
            "network": published.index,
            "published": published.to_numpy(),
            "here": top1.mean().round(2).to_numpy(),
            "spread": top1.std().round(2).to_numpy(),
        }
    )
    taus = [kendalltau(values, published).statistic for values in top1.to_numpy()]
    if table.contrast is None:
        values, what = taus, "Kendall's τ with the published order"
    else:
        weights = pd.Series(table.contrast).reindex(published.index, fill_value=0).to_numpy()
        values, what = (top1.to_numpy() @ weights).tolist(), f"the difference (published {published @ weights:.1f})"
    if len(values) < 2:
        sentence = f"Of {len(values)} seeds no interval can be given: repeat with --seeds 3."
        return Finding(rows=shown, verdict="could not be told", sentence=sentence)
    mean, low, high = interval_of_mean(values)
    if table.contrast is None:
        low, high = max(low, -1.0), min(high, 1.0)
    overall = kendalltau(top1.mean(), published)
    sentence = (
        f"On {data}, {len(values)} seeds, {what} is {mean:.2f} ({low:.2f} to {high:.2f}, 95 %); "
        f"τ of the means {overall.statistic:.2f} (p {overall.pvalue:.2f})."
    )
    return Finding(rows=shown, verdict=judge_sign(low, high), sentence=sentence.replace("-", "−"))


def _row(title: str, claim: str, table: TrainedTable, hours: float) -> Reproduction:
    return Reproduction(title=title, claim=claim, find=partial(find_top1, table), needs_data=True, hours=hours)


TABLES = {
    "table2": _row("Table 2: DemoNet over width", "Stars beat sums at every width.", _TABLE2, 0.8),
    "table3": _row("Table 3: DemoNet over depth", "Stars beat sums at every depth.", _TABLE3, 0.9),
    "table4": _row(
        "Table 4: DemoNet without activations", "Without activations sums lose much and stars little.", _TABLE4, 0.5
    ),
    "table7": _row("Table 7: stars by stage", "Stars count most in the last two stages of S4.", _TABLE7, 0.7),
    "table9": _row("Table 9: where the activation stands", "One activated branch is best.", _TABLE9, 0.4),
    "table17": _row("Table 17: activation functions", "ReLU6 is best.", _TABLE17, 0.5),
    "section4.3": _row("Section 4.3: one branch", "Both branches must be transformed.", _SECTION43, 0.2),
}
