"""Malformed files: what is wrong, and the words that the message must hold."""

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
_DIMENSIONS = SPACE[SPACE.index("  embed_dim") : SPACE.index("constraints")]
_DEPTHS = SPACE[SPACE.index("[{") : SPACE.index("\n  ops")]
_FIDELITIES = STUDY[STUDY.index("[{name") : STUDY.index("\nsearch")]
_OBJECTIVES = STUDY[STUDY.index("{top1") : -1]
_PROXY = "[{name: proxy, epochs: 1, recipe: proxy}"
_HALVED = "trials: 40, halving: "

# Text replaced, by what, and words of the message.
SPACE_CHANGES: list[tuple[str, ...]] = [
    ("resolution: 224", "resolutoin: 224", "line 2", "unknown key", "'resolution'"),
    ("mlp_ratio:", "mlp_ration:", "line 8", "unknown dimension", "'mlp_ratio'"),
    ("family: starnet", "family: demonett", "line 1", "family", "'demonett'"),
    ("resolution: 224", "resolution: big", "line 2", "whole number", "'big'"),
    ("resolution: 224", "resolution: 2", "line 2", "32", "2"),
    ("resolution: 224", "resolution: 224.5", "line 2", "whole number", "224.5"),
    ("resolution: 224", "resolution: 0x96", "line 2", "HEIGHTxWIDTH", "'0x96'"),
    ("resolution: 224", "resolution: 31x96", "line 2", "from 32 to 1024", "'31x96'"),
    ("resolution: 224", "resolution: 48x", "line 2", "HEIGHTxWIDTH", "'48x'"),
    ("resolution: 224", "resolution: 3x48x96", "line 2", "HEIGHTxWIDTH", "'3x48x96'"),
    ("resolution: 224", "resolution: 48×96", "line 2", "HEIGHTxWIDTH", "'48×96'"),
    ("resolution: 224", "resolution: [48, 96]", "line 2", "HEIGHTxWIDTH", "[48, 96]"),
    ("{low: 16, high: 48, step: 4}", "{low: 48, high: 16}", "line 4", "low is at most high", "48"),
    ("step: 4", "step: 5", "line 4", "misses high 48", "46"),
    ("step: 4", "step: 0", "line 4", "greater than 0", "0"),
    ("step: 4", "step: -4", "line 4", "greater than 0", "-4"),
    ("step: 4", "step: 4, log: true", "line 4", "step or log"),
    ("step: 4", "log: 3", "line 4", "boolean"),
    ("{low: 16, high: 48, step: 4}", "{lo: 16, high: 48}", "line 4", "'lo'", "'low'"),
    ("{low: 16, high: 48, step: 4}", "{low: 16}", "line 4", "high", "needed"),
    ("low: 16", "low: small", "line 4", "'small'"),
    ("low: 16", "low: true", "line 4", "low"),
    ("{low: 16, high: 48, step: 4}", "{low: 16.5, high: 48}", "line 4", "integer", "16.5"),
    ("low: 16", "low: 0", "line 4", "embed_dim", "got 0"),
    ("high: 48", "high: 40000", "line 4", "embed_dim", "40000"),
    ("{low: 16, high: 48, step: 4}", "4000", "line", "channels", "4000"),
    ("{low: 16, high: 48, step: 4}", "{each: [16, 32]}", "line 4", "whole network"),
    ("{each: [star, sum]}", "{each: [star], low: 1}", "line 6", "unknown key 'low'", "Known: each"),
    ("[3, 5, 7]", "[]", "line 9", "at least one"),
    ("[star, sum]", "[]", "line 6", "at least one"),
    ("[3, 5, 7]", "[3, 5, 3]", "line 9", "stands twice"),
    ("[star, sum]", "[star, summ]", "line 6", "star, sum", "'summ'", "Did you mean 'sum'"),
    ("[none, one, both, post]", "[none, pre]", "line 7", "none, one, both, post", "'pre'"),
    ("[none, one, both, post]", "[null, one]", "line 7", "None"),
    ("[none, one, both, post]", "{low: 1, high: 2}", "line 7", "chosen from a list"),
    ("[3, 5, 7]", "[3, 4]", "line 9", "odd", "4"),
    ("[3, 5, 7]", "{low: 3, high: 7, step: 1}", "line 9", "odd", "step"),
    ("[3, 5, 7]", "[3, 301]", "line 9", "301"),
    ("[star, sum]}", "[star, sum]}\n  stem_width: {each: 32}", "line 7", "stem_width", "whole network"),
    ("{low: 2, high: 12}", "deep", "line 5", "depths", "'deep'"),
    ("high: 12", "high: 120", "line 5", "depths", "120"),
    ("low: 2, high: 12", "low: -2, high: 12", "line 5", "-2"),
    ("{low: 2, high: 6}", "{low: 2.5, high: 6}", "line 8", "step"),
    ("mlp_ratio:", "widths: [16, 32, 64, 128]\n  mlp_ratio:", "line 4", "leave embed_dim"),
    (_DIMENSIONS, "  {}\n", "line 3", "at least one entry"),
    (_DIMENSIONS, "  [embed_dim]\n", "line 3", "mapping", "['embed_dim']"),
    ("{each: [star, sum]}", "{stages: [star, [star, sum], sum]}", "line 6", "each of the 4 stages", "got 3"),
    (_DEPTHS, "{choices: 5}", "line 5", "choices: should be a valid list; got 5"),
    (_DEPTHS, "{choices: {a: 1}}", "line 5", "choices: should be a valid list"),
    ("resolution: 224", "!!binary aGk= : 224", "line 2", "single word"),
    ("macs:", "maccs:", "line 11", "unknown constraint", "'macs'"),
    ("macs: {max: 1.2e9}", "latency_ms: {max: 5}", "line 11", "unknown constraint"),
    ("{max: 1.2e9}", "{}", "line 11", "neither"),
    ("{max: 1.2e9}", "{min: 2e9, max: 1e9}", "line 11", "min is at most max"),
    ("1.2e9", "lots", "line 11", "number", "'lots'"),
    ("1.2e9", ".inf", "line 11", "finite"),
    ("1.2e9", "1.0e6", "line 11", "no architecture satisfies", "1,000,000"),
    ("{max: 1.2e9}", "{min: 1.0e13}", "line 11", "no architecture satisfies"),
    ("{max: 1.2e9}", "{min: 500000000, max: 500000001}", "line 10", "constraints", "refused"),
    ("starnet_s4]", "starnet_s44]", "line 12", "unknown anchor", "'starnet_s4'"),
    ("starnet_s4]", "starnet_s1]", "line 12", "stands twice"),
    ("high: 12", "high: 10", "line 12", "starnet_s4", "outside", "value of depths of stage 3 is 12"),
    ("[3, 5, 7]", "[3, 5]", "line 12", "outside", "kernel_size"),
    ("1.2e9", "9e8", "line 12", "starnet_s4", "macs", "at most"),
    ("[starnet_s1, starnet_s4]", "starnet_s1", "line 12", "list"),
    ("resolution: 224", "resolution: 224\nresolution: 224", "line 3", "stands twice", "line 2"),
    ("  ops:", "  embed_dim: 24\n  ops:", "line 6", "stands twice", "line 4"),
    ("  embed_dim:", "\tembed_dim:", "line 4", "not YAML"),
    ("[3, 5, 7]", "[3, 5, 7", "not YAML"),
    ("[3, 5, 7]", "!!python/object/apply:os.system [ls]", "line 9", "remove the tag"),
    ("[3, 5, 7]", "!!binary aGVsbG8=", "line 9", "remove the tag 'binary'"),
    ("resolution: 224", "{a: b}: 224", "line 2", "single word"),
    ("family: starnet", "space: starnet", "not both"),
]

STUDY_CHANGES: list[tuple[str, ...]] = [
    ("space: starnet", "space: starnett", "line 1", "no file", "'starnet'"),
    ("space: starnet", "space: 3", "line 1", "string", "3"),
    ("space: starnet", "space: starnet\ndata: pets?clases=outermost", "line 2", "'clases'", "'classes'"),
    ("search:", "searching:", "line 5", "unknown key", "'search'"),
    ("{lr:", "{lrr:", "line 2", "unknown key 'lrr'", "'lr'"),
    ("weight_decay: 0.1", "weight_decay: heavy", "line 2", "number", "'heavy'"),
    ("weight_decay: 0.1", "weight_decay: -1", "line 2", "weight_decay", "-1"),
    ("low: 1e-3", "low: 1e-1", "line 2", "low is at most high"),
    ("[0.0, 0.1]", "[0.0, 7]", "line 2", "drop_path", "7"),
    ("[0.0, 0.1]", "[]", "line 2", "at least one"),
    ("low: 1e-3", "low: 0.0", "line 2", "lr"),
    ("weight_decay: 0.1", "mixup: 0.8, batch_size: 15", "line 2", "even", "got 15"),
    ("weight_decay: 0.1", "cutmix: [0.0, 1.0], batch_size: {low: 14, high: 16}", "line 2", "even", "15"),
    ("weight_decay: 0.1", "batch_size: 1", "line 2", "batch_size", "2; got 1"),
    ("weight_decay: 0.1", "optimizer: [adamw, sdg]", "line 2", "recipe.optimizer", "Did you mean 'sgd'"),
    ("weight_decay: 0.1", "optimizer: adahessian", "line 2", "optimizer", "second derivatives"),
    ("weight_decay: 0.1", "optimizer: sgd, momentum: [0.9, 0.0]", "line 2", "optimizer", "momentum"),
    ("weight_decay: 0.1", "auto_augment: trivialaugment", "line 2", "auto_augment", "no augm"),
    ("weight_decay: 0.1", "auto_augment: rand-x9-n2", "line 2", "'rand-x9-n2'"),
    ("samples: 10000,", "samples: 10000, accumulate: 3,", "line 4", "accumulate", "divide batch_size 128; got 3"),
    ("weight_decay: 0.1", "teacher: regnety_16", "line 2", "teacher", "Did you mean 'regnety_160'"),
    ("weight_decay: 0.1", "crop_scale: [0.9, 0.1]", "line 2", "crop_scale", "smallest"),
    ("{max: 15}", "{}", "line 3", "neither"),
    ("latency_ms: {max: 15}", "latency: {max: 15}", "line 3", "'latency_ms'"),
    ("resolution: 32", "resolution: 7x32", "line 4", "from 8 to 1024", "'7x32'"),
    ("resolution: 32", "resolutio: 32", "line 4", "'resolution'"),
    ("epochs: 3", "epochs: 0", "line 4", "epochs", "0"),
    (_FIDELITIES, "[]", "line 4", "one"),
    ("recipe: proxy}", "recipe: proxxy}", "line 4", "'proxy'"),
    ("sampler: tpe", "sampler: tpee", "line 5", "sampler", "Did you mean 'tpe'?", "nsga2"),
    ("trials: 40", "trials: 0", "line 5", "trials", "0"),
    ("trials: 40", "trials: many", "line 5", "integer", "'many'"),
    ("seed: 3", "seed: -3", "line 5", "seed", "-3"),
    ("keep_weights: front", "keep_weights: some", "line 5", "'front', 'all' or 'none'"),
    ("starnet_s050", "starnet_s0", "line 6", "unknown anchor"),
    ("[starnet_s050, starnet_s4]", "{names: [starnet_s4], recipe: search}", "line 6", "recipe", "'searched'"),
    ("[starnet_s050, starnet_s4]", "{names: [starnet_s9], recipe: searched}", "line 6", "unknown anchor"),
    ("top1_percent: max", "top_percent: max", "line 7", "unknown objective", "top1_percent"),
    ("direction: minimize", "direction: maximize", "line 7", "minimize", "'maximize'"),
    ("this-machine", "my-phone", "line 7", "this-machine", "'my-phone'"),
    ("top1_percent: maximize", "top1_percent: {direction: maximize, device: x}", "line 7", "no device"),
    (_OBJECTIVES, "{}", "line 7", "at least one entry is needed"),
    (_FIDELITIES, _PROXY + ", {name: full, epochs: 3}]", "line 4", "Say promote: 5"),
    (_FIDELITIES, _PROXY + ", {name: proxy, promote: 2}]", "line 4", "two fidelities are called 'proxy'"),
    (_FIDELITIES, _PROXY + ", {epochs: 3, promote: 2}]", "line 4", "have a name of their own"),
    (_FIDELITIES, "[{name: proxy, promote: 2}]", "line 4", "this is the first"),
    (_FIDELITIES, _PROXY + ", {name: 'fu/ll', promote: 2}]", "line 4", "letters, digits"),
    (_FIDELITIES, _PROXY + ", {name: full, promote: 41}]", "line 4", "41 are promoted, but 'proxy' has 40 candidates"),
    (_FIDELITIES, _PROXY + ", {name: full, promote: -1}]", "line 4", "promote"),
    (_FIDELITIES, _PROXY + ", {name: full, promote: 2, start: weight}]", "line 4", "start"),
    (_FIDELITIES, _PROXY + ", {name: full, promot: 2}]", "line 4", "Did you mean 'promote'?"),
    (_FIDELITIES, _PROXY + ", {name: full, promote: 2, epoch: 3}]", "line 4", "Did you mean 'epochs'?"),
    (_FIDELITIES, _PROXY + ", 3]", "line 4", "mapping"),
    (_FIDELITIES, _PROXY + ", {name: full, promote: 2, recipe: starnet-imagnet}]", "line 4", "fidelities.1.recipe"),
    ("trials: 40", _HALVED + "{eta: 1}", "line 5", "search.halving.eta", "greater than or equal to 2"),
    ("trials: 40", _HALVED + "{etta: 3}", "line 5", "unknown key 'etta'", "Did you mean 'eta'?"),
    ("trials: 40", _HALVED + "{eta: 4}", "line 5", "a training of 3 epochs has no room for a rung"),
    ("trials: 40", _HALVED + "{rungs: [2, 1]}", "line 5", "ascend", "got 2, 1"),
    ("trials: 40", _HALVED + "{rungs: [1, 3]}", "line 5", "less than the training's 3 epochs"),
    ("trials: 40", _HALVED + "{rungs: []}", "line 5", "at least one entry"),
    ("trials: 40", _HALVED + "{rungs: [{epoch: 1}]}", "line 5", "unknown key 'epoch'"),
    ("trials: 40", _HALVED + "3", "line 5", "a mapping of keys is needed"),
    ("{max: 15}", "4", "line 3", "{min: …, max: …", "--set constraints.latency_ms.max=4"),
]
