"""Recipes that are hard to write."""

from dataclasses import replace

from starsearch.recipe import Recipe


def recipes():
    plain = Recipe()
    return [
        plain,
        replace(plain, lr=1e-5, min_lr=1e-12, weight_decay=0.025, epochs=7),
        replace(plain, auto_augment="rand-m3-mstd0.5-inc1", ema_decay=0.9998, clip_grad=1.0, crop_scale=(0.35, 1.0)),
        replace(plain, optimizer="sgd", schedule="none", initialization="timm", crop="random-resized"),
    ]
