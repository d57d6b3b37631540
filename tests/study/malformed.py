"""Malformed files: what is wrong, and the words that the message must hold."""

from __future__ import annotations

SPACE = """\
family: starnet
resolution: 224
dimensions:
  embed_dim: {low: 16, high: 48, step: 4}
  depths: [{low: 1, high: 4}, {low: 1, high: 4}, {low: 2, high: 12}, {low: 1, high: 6}]
  ops: {each: [star, sum]}
  activation: [none, one, both, post]
  mlp_ratio: {low: 2, high: 6}
  kernel_size: [3, 5, 7]
constraints:
  macs: {max: 1.2e9}
anchors: [starnet_s1, starnet_s4]
"""

STUDY = """\
space: starnet
recipe: {lr: {low: 1e-3, high: 1e-2, log: true}, drop_path: [0.0, 0.1], weight_decay: 0.1}
constraints: {latency_ms: {max: 15}}
fidelities: [{name: proxy, resolution: 32, epochs: 3, samples: 10000, recipe: proxy}]
search: {sampler: tpe, trials: 40, seed: 3, keep_weights: front}
anchors: [starnet_s050, starnet_s4]
objectives: {top1_percent: maximize, latency_ms: {direction: minimize, device: this-machine}}
"""

# name: (text replaced, by what, words of the message)
SPACE_CHANGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown top-level key": ("resolution: 224", "resolutoin: 224", ("line 2", "unknown key", "'resolution'")),
    "unknown dimension": ("mlp_ratio:", "mlp_ration:", ("line 8", "unknown dimension", "'mlp_ratio'")),
    "unknown family": ("family: starnet", "family: demonett", ("line 1", "family", "'demonett'")),
    "resolution of text": ("resolution: 224", "resolution: big", ("line 2", "integer", "'big'")),
    "resolution too small": ("resolution: 224", "resolution: 2", ("line 2", "32", "2")),
    "fractional resolution": ("resolution: 224", "resolution: 224.5", ("line 2", "integer", "224.5")),
    "low above high": ("{low: 16, high: 48, step: 4}", "{low: 48, high: 16}", ("line 4", "low is at most high", "48")),
    "step misses high": ("step: 4", "step: 5", ("line 4", "misses high 48", "46")),
    "step of zero": ("step: 4", "step: 0", ("line 4", "greater than 0", "0")),
    "negative step": ("step: 4", "step: -4", ("line 4", "greater than 0", "-4")),
    "step with log": ("step: 4", "step: 4, log: true", ("line 4", "step or log")),
    "log that is no boolean": ("step: 4", "log: 3", ("line 4", "boolean")),
    "misspelt bound": ("{low: 16, high: 48, step: 4}", "{lo: 16, high: 48}", ("line 4", "'lo'", "'low'")),
    "missing bound": ("{low: 16, high: 48, step: 4}", "{low: 16}", ("line 4", "high", "needed")),
    "bound of text": ("low: 16", "low: small", ("line 4", "'small'")),
    "bound of truth": ("low: 16", "low: true", ("line 4", "low")),
    "fractional width": ("{low: 16, high: 48, step: 4}", "{low: 16.5, high: 48}", ("line 4", "integer", "16.5")),
    "width of nothing": ("low: 16", "low: 0", ("line 4", "embed_dim", "got 0")),
    "width without sense": ("high: 48", "high: 40000", ("line 4", "embed_dim", "40000")),
    "widths that double beyond sense": ("{low: 16, high: 48, step: 4}", "4000", ("line", "channels", "4000")),
    "each on a field of the whole network": (
        "{low: 16, high: 48, step: 4}",
        "{each: [16, 32]}",
        ("line 4", "whole network"),
    ),
    "each with company": (
        "{each: [star, sum]}",
        "{each: [star], low: 1}",
        ("line 6", "unknown key 'low'", "Known: each"),
    ),
    "empty choices": ("[3, 5, 7]", "[]", ("line 9", "at least one")),
    "empty choices of each": ("[star, sum]", "[]", ("line 6", "at least one")),
    "repeated choice": ("[3, 5, 7]", "[3, 5, 3]", ("line 9", "stands twice")),
    "unknown operation": ("[star, sum]", "[star, summ]", ("line 6", "star, sum", "'summ'", "Did you mean 'sum'")),
    "unknown placement": ("[none, one, both, post]", "[none, pre]", ("line 7", "none, one, both, post", "'pre'")),
    "null among placements": ("[none, one, both, post]", "[null, one]", ("line 7", "None")),
    "range of names": ("[none, one, both, post]", "{low: 1, high: 2}", ("line 7", "chosen from a list")),
    "even kernel": ("[3, 5, 7]", "[3, 4]", ("line 9", "odd", "4")),
    "even kernels by step": ("[3, 5, 7]", "{low: 3, high: 7, step: 1}", ("line 9", "odd", "step")),
    "kernel beyond sense": ("[3, 5, 7]", "[3, 301]", ("line 9", "301")),
    "each on the stem": (
        "[star, sum]}",
        "[star, sum]}\n  stem_width: {each: 32}",
        ("line 7", "stem_width", "whole network"),
    ),
    "stage of text": ("{low: 2, high: 12}", "deep", ("line 5", "depths", "'deep'")),
    "depth beyond sense": ("high: 12", "high: 120", ("line 5", "depths", "120")),
    "negative depth": ("low: 2, high: 12", "low: -2, high: 12", ("line 5", "-2")),
    "ratio range without step": ("{low: 2, high: 6}", "{low: 2.5, high: 6}", ("line 8", "step")),
    "widths beside embed_dim": ("mlp_ratio:", "widths: [16, 32, 64, 128]\n  mlp_ratio:", ("line 4", "leave embed_dim")),
    "no dimensions": (
        SPACE[SPACE.index("  embed_dim") : SPACE.index("constraints")],
        "  {}\n",
        ("line 3", "at least one entry"),
    ),
    "dimensions as a list": (
        SPACE[SPACE.index("  embed_dim") : SPACE.index("constraints")],
        "  [embed_dim]\n",
        ("line 3", "mapping", "['embed_dim']"),
    ),
    "too few stages": (
        "{each: [star, sum]}",
        "{stages: [star, [star, sum], sum]}",
        ("line 6", "each of the 4 stages", "got 3"),
    ),
    "shape of a number": (
        "[{low: 1, high: 4}, {low: 1, high: 4}, {low: 2, high: 12}, {low: 1, high: 6}]",
        "{choices: 5}",
        ("line 5", "choices: should be a valid list; got 5"),
    ),
    "shapes as a mapping": (
        "[{low: 1, high: 4}, {low: 1, high: 4}, {low: 2, high: 12}, {low: 1, high: 6}]",
        "{choices: {a: 1}}",
        ("line 5", "choices: should be a valid list"),
    ),
    "a binary key": ("resolution: 224", "!!binary aGk= : 224", ("line 2", "single word")),
    "unknown constraint": ("macs:", "maccs:", ("line 11", "unknown constraint", "'macs'")),
    "latency in a space": ("macs: {max: 1.2e9}", "latency_ms: {max: 5}", ("line 11", "unknown constraint")),
    "constraint without bound": ("{max: 1.2e9}", "{}", ("line 11", "neither")),
    "bounds that cross": ("{max: 1.2e9}", "{min: 2e9, max: 1e9}", ("line 11", "min is at most max")),
    "constraint of text": ("1.2e9", "lots", ("line 11", "number", "'lots'")),
    "infinite constraint": ("1.2e9", ".inf", ("line 11", "finite")),
    "constraint nothing satisfies": ("1.2e9", "1.0e6", ("line 11", "no architecture satisfies", "1,000,000")),
    "constraint all are below": ("{max: 1.2e9}", "{min: 1.0e13}", ("line 11", "no architecture satisfies")),
    "band nothing satisfies": (
        "{max: 1.2e9}",
        "{min: 500000000, max: 500000001}",
        ("line 10", "constraints", "refused"),
    ),
    "unknown anchor": ("starnet_s4]", "starnet_s44]", ("line 12", "unknown anchor", "'starnet_s4'")),
    "repeated anchor": ("starnet_s4]", "starnet_s1]", ("line 12", "stands twice")),
    "anchor outside": ("high: 12", "high: 10", ("line 12", "starnet_s4", "outside", "depths of stage 3 is 12")),
    "anchor outside a fixed field": ("[3, 5, 7]", "[3, 5]", ("line 12", "outside", "kernel_size")),
    "anchor beyond a constraint": ("1.2e9", "9e8", ("line 12", "starnet_s4", "macs", "at most")),
    "anchors as text": ("[starnet_s1, starnet_s4]", "starnet_s1", ("line 12", "list")),
    "a key twice": ("resolution: 224", "resolution: 224\nresolution: 224", ("line 3", "stands twice", "line 2")),
    "a dimension twice": ("  ops:", "  embed_dim: 24\n  ops:", ("line 6", "stands twice", "line 4")),
    "a tab": ("  embed_dim:", "\tembed_dim:", ("line 4", "not YAML")),
    "an open bracket": ("[3, 5, 7]", "[3, 5, 7", ("not YAML",)),
    "a Python object": ("[3, 5, 7]", "!!python/object/apply:os.system [ls]", ("line 9", "remove the tag")),
    "binary": ("[3, 5, 7]", "!!binary aGVsbG8=", ("line 9", "remove the tag 'binary'")),
    "a mapping as key": ("resolution: 224", "{a: b}: 224", ("line 2", "single word")),
    "a space that is a study": ("family: starnet", "space: starnet", ("not both",)),
}

STUDY_CHANGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "unknown space": ("space: starnet", "space: starnett", ("line 1", "no file", "'starnet'")),
    "space of a number": ("space: starnet", "space: 3", ("line 1", "string", "3")),
    "unknown option of the data": (
        "space: starnet",
        "space: starnet\ndata: pets?clases=outermost",
        ("line 2", "'clases'", "'classes'"),
    ),
    "unknown key": ("search:", "searching:", ("line 5", "unknown key", "'search'")),
    "unknown recipe field": ("{lr:", "{lrr:", ("line 2", "unknown key 'lrr'", "'lr'")),
    "recipe value of text": ("weight_decay: 0.1", "weight_decay: heavy", ("line 2", "number", "'heavy'")),
    "recipe value beyond sense": ("weight_decay: 0.1", "weight_decay: -1", ("line 2", "weight_decay", "-1")),
    "recipe range low above high": ("low: 1e-3", "low: 1e-1", ("line 2", "low is at most high")),
    "recipe range beyond sense": ("[0.0, 0.1]", "[0.0, 7]", ("line 2", "drop_path", "7")),
    "recipe without choices": ("[0.0, 0.1]", "[]", ("line 2", "at least one")),
    "logarithm of nothing": ("low: 1e-3", "low: 0.0", ("line 2", "lr")),
    "odd batches with mixup": ("weight_decay: 0.1", "mixup: 0.8, batch_size: 15", ("line 2", "even", "got 15")),
    "odd batches among choices": (
        "weight_decay: 0.1",
        "cutmix: [0.0, 1.0], batch_size: {low: 14, high: 16}",
        ("line 2", "even", "15"),
    ),
    "a batch of one": ("weight_decay: 0.1", "batch_size: 1", ("line 2", "batch_size", "2; got 1")),
    "unknown optimizer among choices": (
        "weight_decay: 0.1",
        "optimizer: [adamw, sdg]",
        ("line 2", "recipe.optimizer", "Did you mean 'sgd'"),
    ),
    "an optimizer of second order": (
        "weight_decay: 0.1",
        "optimizer: adahessian",
        ("line 2", "optimizer", "second derivatives"),
    ),
    "a momentum among those searched that the optimizer refuses": (
        "weight_decay: 0.1",
        "optimizer: sgd, momentum: [0.9, 0.0]",
        ("line 2", "optimizer", "momentum"),
    ),
    "unknown augmentation": (
        "weight_decay: 0.1",
        "auto_augment: trivialaugment",
        ("line 2", "auto_augment", "no augm"),
    ),
    "augmentation that timm cannot read": ("weight_decay: 0.1", "auto_augment: rand-x9-n2", ("line 2", "'rand-x9-n2'")),
    "micro-batches that divide no batch": (
        "samples: 10000,",
        "samples: 10000, accumulate: 3,",
        ("line 4", "accumulate", "divide batch_size 128; got 3"),
    ),
    "unknown teacher": (
        "weight_decay: 0.1",
        "teacher: regnety_16",
        ("line 2", "teacher", "Did you mean 'regnety_160'"),
    ),
    "crop shares in disorder": ("weight_decay: 0.1", "crop_scale: [0.9, 0.1]", ("line 2", "crop_scale", "smallest")),
    "constraint without bound": ("{max: 15}", "{}", ("line 3", "neither")),
    "unknown constraint": ("latency_ms: {max: 15}", "latency: {max: 15}", ("line 3", "'latency_ms'")),
    "unknown fidelity key": ("resolution: 32", "resolutio: 32", ("line 4", "'resolution'")),
    "fidelity without sense": ("epochs: 3", "epochs: 0", ("line 4", "epochs", "0")),
    "no fidelity": (
        "[{name: proxy, resolution: 32, epochs: 3, samples: 10000, recipe: proxy}]",
        "[]",
        ("line 4", "one"),
    ),
    "unknown recipe": ("recipe: proxy}", "recipe: proxxy}", ("line 4", "'proxy'")),
    "unknown sampler": ("sampler: tpe", "sampler: tpee", ("line 5", "sampler", "Did you mean 'tpe'?", "nsga2")),
    "no trials": ("trials: 40", "trials: 0", ("line 5", "trials", "0")),
    "trials of text": ("trials: 40", "trials: many", ("line 5", "integer", "'many'")),
    "negative seed": ("seed: 3", "seed: -3", ("line 5", "seed", "-3")),
    "unknown keeping": ("keep_weights: front", "keep_weights: some", ("line 5", "'front', 'all' or 'none'")),
    "unknown anchor": ("starnet_s050", "starnet_s0", ("line 6", "unknown anchor")),
    "anchors' recipe misspelt": (
        "[starnet_s050, starnet_s4]",
        "{names: [starnet_s4], recipe: search}",
        ("line 6", "recipe", "'searched'"),
    ),
    "anchor outside among names": (
        "[starnet_s050, starnet_s4]",
        "{names: [starnet_s9], recipe: searched}",
        ("line 6", "unknown anchor"),
    ),
    "unknown objective": ("top1_percent: max", "top_percent: max", ("line 7", "unknown objective", "top1_percent")),
    "wrong direction": ("direction: minimize", "direction: maximize", ("line 7", "minimize", "'maximize'")),
    "unknown device": ("this-machine", "my-phone", ("line 7", "this-machine", "'my-phone'")),
    "device of accuracy": (
        "top1_percent: maximize",
        "top1_percent: {direction: maximize, device: x}",
        ("line 7", "no device"),
    ),
    "no objectives": (
        "{top1_percent: maximize, latency_ms: {direction: minimize, device: this-machine}}",
        "{}",
        ("line 7", "at least one entry is needed"),
    ),
}
