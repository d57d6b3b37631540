"""The published networks that every study evaluates through its own pipeline."""

from __future__ import annotations

from starsearch.families.starnet import Architecture

ANCHORS: dict[str, Architecture] = {
    # "Rewrite the Stars", supplement table 14.
    "starnet_s050": Architecture.of(embed_dim=16, depths=(1, 1, 3, 1), mlp_ratio=3),
    "starnet_s100": Architecture.of(embed_dim=20, depths=(1, 2, 4, 1), mlp_ratio=4),
    "starnet_s150": Architecture.of(embed_dim=24, depths=(1, 2, 4, 2), mlp_ratio=3),
    # The same, table 5.
    "starnet_s1": Architecture(),
    "starnet_s2": Architecture.of(embed_dim=32, depths=(1, 2, 6, 2)),
    "starnet_s3": Architecture.of(embed_dim=32, depths=(2, 2, 8, 4)),
    "starnet_s4": Architecture.of(embed_dim=32, depths=(3, 3, 12, 5)),
}
