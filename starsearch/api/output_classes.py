"""Which output of a network stands for which class of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from starsearch.api.classifier import Classifier
from starsearch.data import DataSet
from starsearch.errors import EvaluationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Between which outputs a network chooses.

    Attributes:
        outputs: of each class of the data, its output; None where they are the same in the same order.
        notes: what a reader shall know of that.
    """

    outputs: tuple[int, ...] | None
    notes: tuple[str, ...] = ()


def compare_classes(classifier: Classifier, data: DataSet) -> Comparison:
    """The outputs that stand for the data's classes: by name where the network says its classes, else by ImageNet's.

    Data that says but numbers, as many as the network has outputs, is compared in their order.

    A network of 1,000 outputs without names is taken for one of ImageNet in timm's order, and a data set of some of
    its synsets is compared among those, as timm does with subsets of ImageNet (ImageNet-A, ImageNet-R).

    Raises:
        EvaluationError: the network has other classes.
    """
    from starsearch.data.synsets import NUM_IMAGENET_CLASSES, imagenet_indices

    classes, names = data.classes, classifier.class_names
    if names:
        return _by_name(classifier, data)
    places = imagenet_indices(classes)
    if classifier.num_outputs == NUM_IMAGENET_CLASSES and places is not None:
        return _subset(places, classifier.num_outputs)
    if classifier.num_outputs == len(classes):
        taken = "The network does not name its classes; they are taken to be the data's, in their order."
        return Comparison(outputs=None, notes=(taken,))
    raise EvaluationError(
        f"{classifier.text} has {classifier.num_outputs:,} outputs and {data.name!r} {len(classes):,} classes "
        f"({', '.join(classes[:3])}, …): it was trained for other ones. A network of ImageNet's 1,000 can be validated "
        "on some of them where the class folders are called by synset (n01440764)."
    )


def _by_name(classifier: Classifier, data: DataSet) -> Comparison:
    from starsearch.data.synsets import imagenet_indices

    places = {name: output for output, name in enumerate(classifier.class_names)}
    if set(data.classes) <= set(places):
        return _subset(tuple(places[name] for name in data.classes), classifier.num_outputs)
    # The same classes under other names: the hub's words and ImageNet's synsets.
    own, others = imagenet_indices(classifier.class_names), imagenet_indices(data.classes)
    if own is not None and others is not None and set(others) <= set(own):
        return _subset(tuple(own.index(place) for place in others), classifier.num_outputs)
    if data.validation.numbered and len(data.classes) == classifier.num_outputs:
        taken = "The data says but the numbers of its classes; they are taken to be the network's, in its order."
        return Comparison(outputs=None, notes=(taken,))
    unknown = [name for name in data.classes if name not in places]
    raise EvaluationError(
        f"{classifier.text} does not know {len(unknown):,} of the {len(data.classes):,} classes of {data.name!r} "
        f"({', '.join(unknown[:3])}{', …' if len(unknown) > 3 else ''}): it was trained for other ones "
        f"({', '.join(classifier.class_names[:3])}, …)."
    )


def _subset(outputs: tuple[int, ...], num_outputs: int) -> Comparison:
    if outputs == tuple(range(num_outputs)):
        return Comparison(outputs=None)
    note = (
        f"The data has {len(outputs):,} of the network's {num_outputs:,} classes; only their logits are compared, "
        "which is easier than to choose among all."
        if len(outputs) < num_outputs
        else "The network has the data's classes in another order; they are matched by name."
    )
    return Comparison(outputs=outputs, notes=(note,))
