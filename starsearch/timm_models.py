"""`import starsearch.timm_models` makes `timm.create_model("starsearch_starnet", ...)` known to timm."""

from starsearch.families import starnet_module as starnet_module
