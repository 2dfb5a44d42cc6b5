"""A JAX program as an ONNX graph, by a rule for each operation that the networks use at test."""
