"""What `validate` is compared with: timm's data set and loader, and a plain loop."""

import warnings

import timm
import torch

TINY = "starnet:embed_dim=8,depths=1-1-1-1,mlp_ratio=2"
HERE = {"workers": 0, "device": "cpu"}


def settled(model):
    """The model after a few batches in training mode: random star networks are chaotic."""
    torch.manual_seed(1)
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.randn(8, 3, 64, 64))
    return model.eval()


def timms_logits(model, folder, *, resolution=64, crop_pct=0.875):
    """Logits and classes by timm's own data set, loader and a plain loop."""
    dataset = timm.data.create_dataset("", root=str(folder / "val"))
    loader = timm.data.create_loader(
        dataset,
        input_size=(3, resolution, resolution),
        batch_size=7,
        interpolation="bicubic",
        crop_pct=crop_pct,
        num_workers=0,
        use_prefetcher=False,
    )
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # timm's data set leaves the closing of files to Python
        batches = [(model(pixels), targets) for pixels, targets in loader]
    return torch.cat([logits for logits, _ in batches]), torch.cat([targets for _, targets in batches])


def percent(logits, targets, most):
    hits = logits.argsort(descending=True)[:, :most] == targets.unsqueeze(1)
    return 100 * hits.any(1).double().mean().item()
