"""Small ONNX networks."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT


def convolutions(number, *, width=48, size=28, batch=1):
    """A chain of equal 3×3 convolutions, as ONNX bytes: twice the number is twice the work."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.05, (width, width, 3, 3)).astype(np.float32) for _ in range(number)]
    shape = [batch, width, size, size]
    nodes = [
        helper.make_node("Conv", [f"x{i}", f"w{i}"], [f"x{i + 1}"], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        for i in range(number)
    ]
    constants = {f"w{i}": weight for i, weight in enumerate(weights)}
    return _serialize(nodes, (FLOAT, shape), output=f"x{number}", constants=constants)


def whole_numbers():
    """A network that takes integers."""
    return _serialize([helper.make_node("Neg", ["x0"], ["y"])], (TensorProto.INT64, [1, 4]), output="y")


def failing_when_run():
    """A network that is accepted and then reads beyond its input."""
    node = helper.make_node("Gather", ["x0", "beyond"], ["y"], axis=1)
    return _serialize([node], (FLOAT, [1, 4]), output="y", constants={"beyond": np.array([9])})


def unknown_operator():
    """A network of an operator that no runtime has."""
    model = onnx.load_from_string(convolutions(1))
    model.graph.node[0].op_type = "Starify"
    return model.SerializeToString()


def _serialize(nodes, image, *, output, constants=None):
    element, shape = image
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x0", element, shape)],
        [helper.make_tensor_value_info(output, element, None)],
        [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
