"""Hypothesis strategies that several folders of tests share."""

from typing import Any

from hypothesis import strategies as st

from starsearch.families.layers import ACTIVATION_FUNCTIONS
from starsearch.families.starnet import ACTIVATION_PLACEMENTS, BRANCH_OPS, StarNetArchitecture


@st.composite
def architectures(
    draw: st.DrawFn, *, max_stages: int = 4, max_depth: int = 2, max_width: int = 24, canonical: bool = False
) -> StarNetArchitecture:
    """Architectures of the whole design space, small enough to run in milliseconds.

    Every field varies: stages without blocks, free widths, ratios that are no integers, 1×1 to 7×7 kernels.
    """
    stages = draw(st.integers(1, max_stages))

    def per_stage(values: st.SearchStrategy[Any]) -> tuple[Any, ...]:
        return tuple(draw(values) for _ in range(stages))

    architecture = StarNetArchitecture(
        embed_dim=draw(st.integers(1, max_width // 2)),
        depths=per_stage(st.integers(0, max_depth)),
        ops=per_stage(st.sampled_from(BRANCH_OPS)),
        activation=per_stage(st.sampled_from(ACTIVATION_PLACEMENTS)),
        branches=per_stage(st.sampled_from(("both", "both", "one", "self"))),
        act_type=draw(st.sampled_from(list(ACTIVATION_FUNCTIONS))),
        mlp_ratio=per_stage(st.one_of(st.integers(1, 6), st.sampled_from((0.25, 0.5, 1.5, 2.75, 3.3)))),
        kernel_size=per_stage(st.sampled_from((1, 3, 5, 7))),
        widths=draw(st.one_of(st.none(), st.just(per_stage(st.integers(1, max_width))))),
        stem_width=draw(st.integers(1, max_width)),
    )
    return architecture.canonical() if canonical else architecture
