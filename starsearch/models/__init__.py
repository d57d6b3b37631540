"""The networks as `nn.Module`s, registered with timm."""

from starsearch.models.starnet import StarNet, build_model, starsearch_starnet

__all__ = ["StarNet", "build_model", "starsearch_starnet"]
