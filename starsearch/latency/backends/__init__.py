"""What runs a network to time it: ONNX Runtime on CPU or GPU, Core ML, PyTorch; one interface, found by name."""
