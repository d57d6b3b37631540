import pytest
import torch

from starsearch.families.family import Architecture, count_macs, count_params, presets
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture

# Of timm's models at 224×224 with 1000 classes: parameters, MACs of convolutions and head, fvcore's count.
PUBLISHED = {
    "starnet_s050": (542_728, 91_285_248, 92_771_712),
    "starnet_s100": (1_043_280, 185_626_176, 187_471_712),
    "starnet_s150": (1_560_616, 227_376_384, 229_468_096),
    "starnet_s1": (2_869_168, 421_877_376, 424_608_832),
    "starnet_s2": (3_682_024, 544_113_664, 546_835_712),
    "starnet_s3": (5_750_792, 753_999_872, 757_424_384),
    "starnet_s4": (7_482_728, 1_049_561_600, 1_054_039_808),
}


@pytest.mark.parametrize("name", presets())
def test_anchors_have_the_published_counts(name):
    architecture = presets()[name]
    counts = (
        count_params(architecture),
        count_macs(architecture),
        count_macs(architecture, convention="fvcore"),
    )
    assert counts == PUBLISHED[name]


# fvcore traces the module with torch.jit, which torch deprecates.
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("starnet_s050", {}),
        ("starnet:embed_dim=8,depths=1-0-2-1,ops=sum-star-sum-star,mlp_ratio=2.5-4-3-1", {"num_classes": 10}),
        ("starnet:depths=1-1,widths=12-20,kernel_size=3-5,activation=both-post,stem_width=8", {"in_chans": 1}),
        ("starnet:embed_dim=10,depths=0-0-1", {"stem_stride": 1}),
    ],
)
@pytest.mark.parametrize("resolution", [33, 64])
def test_both_conventions_equal_what_fvcore_counts_on_the_module(text, options, resolution):
    from fvcore.nn import FlopCountAnalysis

    architecture = parse_architecture(text)
    model = build_model(architecture, **options).eval()
    image = torch.zeros(1, options.get("in_chans", 3), resolution, resolution)
    analysis = FlopCountAnalysis(model, image).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = analysis.by_operator()
    assert count_macs(architecture, resolution=resolution, **options) == by_operator["conv"] + by_operator["linear"]
    assert count_macs(architecture, resolution=resolution, convention="fvcore", **options) == analysis.total()


def test_without_a_head_only_its_share_is_missing():
    whole, headless = (count_params(Architecture.of(), num_classes=classes) for classes in (1000, 0))
    assert whole - headless == 192 * 1000 + 1000
    assert count_macs(Architecture.of()) - count_macs(Architecture.of(), num_classes=0) == 192 * 1000
