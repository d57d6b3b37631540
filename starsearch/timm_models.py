"""`import starsearch.timm_models` makes `timm.create_model("starsearch_starnet", ...)` and its like known to timm."""

from starsearch.families import demonet_module as demonet_module
from starsearch.families import starnet_module as starnet_module
