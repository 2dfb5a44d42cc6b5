"""An ONNX graph while it is written: tensors by name, numbers that are known, sizes that are not.

Sizes are numbers or products with the symbols of `jax.export`, such as 4*b*s; symbols are read from the inputs' shapes
when the graph runs.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

# The oldest in which all reductions take their axes in one way: ONNX Runtime 1.14 and newer read it.
OPSET, IR_VERSION = 18, 8
Proto = Any  # a message of the package onnx, which is an extra and is imported by a `Graph` alone
Size = Any  # an int, or a symbolic dimension of jax.export


class NotInOnnx(ValueError):
    """Something of a JAX program that no rule writes as ONNX."""


@dataclasses.dataclass(frozen=True)
class Value:
    """An array of the program.

    Attributes:
      shape: its sizes, with 1 on axes along which it is the same: ONNX broadcasts by itself, so a broadcast is carried
        out (`Graph.full`) only for operations that need it.
      array: its numbers where they do not depend on the inputs.
      name: of the graph's tensor; '' where `array` is given.
    """

    shape: tuple[Size, ...]
    dtype: np.dtype
    array: np.ndarray | None = None
    name: str = ''


@dataclasses.dataclass(frozen=True)
class Call:
    """An operation in the program.

    Attributes:
      shapes, results: sizes of the operands and of the results, in the program.
      dtype: of the first result.
    """

    name: str
    params: dict[str, Any]
    shapes: list[tuple[Size, ...]]
    results: list[tuple[Size, ...]]
    dtype: np.dtype


def constant(array: Any) -> Value:
    array = np.asarray(array)
    return Value(array.shape, array.dtype, array)


def is_number(size: Size) -> bool:
    return isinstance(size, (int, np.integer))


class Graph:
    """Inputs, nodes and constants, in their order.

    Args:
      symbols: where a symbol is found, (input, axis).
    """

    def __init__(self, symbols: Mapping[str, tuple[str, int]]):
        from onnx import helper, numpy_helper

        self._onnx, self._tensor = helper, numpy_helper.from_array
        self.symbols, self.inputs, self.outputs = symbols, [], []
        self.nodes: list[Proto] = []
        self._constants: dict[tuple, Proto] = {}
        self._sizes: dict[str, str] = {}

    def input(self, name: str, shape: Sequence[Size], dtype: DTypeLike) -> Value:
        self.inputs.append(self._described(name, shape, dtype))
        return Value(tuple(shape), np.dtype(dtype), name=name)

    def output(self, name: str, value: Value, shape: Sequence[Size]) -> None:
        self.nodes.append(self._onnx.make_node('Identity', [self.name_of(self.full(value, shape))], [name]))
        self.outputs.append(self._described(name, shape, value.dtype))

    def node(
        self, operation: str, inputs: Sequence[Value], shape: Sequence[Size], dtype: DTypeLike, **attributes
    ) -> Value:
        """One more node, and its result of that shape and type."""
        name = f'{operation}_{len(self.nodes)}'
        self.nodes.append(
            self._onnx.make_node(operation, [self.name_of(value) for value in inputs], [name], **attributes)
        )
        return Value(tuple(shape), np.dtype(dtype), name=name)

    def name_of(self, value: Value) -> str:
        """Of the tensor; numbers become a constant of the graph, one for all that are equal."""
        if value.array is None:
            return value.name
        array = np.ascontiguousarray(value.array).reshape(value.array.shape)  # which makes 0 axes 1
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._constants:
            self._constants[key] = self._tensor(array, f'constant_{len(self._constants)}')
        return self._constants[key].name

    def cast(self, value: Value, dtype: DTypeLike) -> Value:
        if value.dtype == dtype:
            return value
        return self.node('Cast', [value], value.shape, dtype, to=self._onnx.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def full(self, value: Value, shape: Sequence[Size]) -> Value:
        """The value with all sizes that it has in the program."""
        if tuple(value.shape) == tuple(shape):
            return value
        if value.array is not None and all(map(is_number, shape)):
            return constant(np.broadcast_to(value.array, shape))
        return self.node('Expand', [value, self.sizes(shape)], shape, value.dtype)

    def sizes(self, shape: Sequence[Size]) -> Value:
        """A shape as int64 [rank], in the graph."""
        if all(map(is_number, shape)):
            return constant(np.array(shape, np.int64))
        return self.node('Concat', [self._size(size) for size in shape], (len(shape),), np.int64, axis=0)

    def _size(self, size: Size) -> Value:
        """[1] int64. NotInOnnx for anything but a product of a number and symbols."""
        if is_number(size):
            return constant(np.array([size], np.int64))
        if (text := str(size)) not in self._sizes:
            factors = [self._factor(factor) for factor in text.split('*')]
            product = factors[0]
            for factor in factors[1:]:
                product = self.node('Mul', [product, factor], (1,), np.int64)
            self._sizes[text] = self.name_of(product)
        return Value((1,), np.dtype(np.int64), name=self._sizes[text])

    def _factor(self, text: str) -> Value:
        if text.isdecimal():
            return constant(np.array([int(text)], np.int64))
        if text not in self.symbols:
            raise NotInOnnx(f'an array of size {text}')
        name, axis = self.symbols[text]
        of = Value((), np.dtype(np.int64), name=name)
        return self.node('Shape', [of], (1,), np.int64, start=axis, end=axis + 1)

    def model(self, name: str, producer_version: str, properties: Mapping[str, str]) -> Proto:
        """All of it, without nodes and constants that no output depends on."""
        needed, kept = {output.name for output in self.outputs}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        constants = [tensor for tensor in self._constants.values() if tensor.name in needed]
        graph = self._onnx.make_graph(kept[::-1], name, self.inputs, self.outputs, constants)
        model = self._onnx.make_model(
            graph,
            opset_imports=[self._onnx.make_opsetid('', OPSET)],
            ir_version=IR_VERSION,
            producer_name='pvlad_jax',
            producer_version=producer_version,
        )
        self._onnx.set_model_props(model, dict(properties))
        return model

    def _described(self, name: str, shape: Sequence[Size], dtype: DTypeLike) -> Proto:
        sizes = [size if is_number(size) else str(size).upper() for size in shape]
        return self._onnx.make_tensor_value_info(name, self._onnx.np_dtype_to_tensor_dtype(np.dtype(dtype)), sizes)


# (graph, operands as they are, perhaps not broadcast, what the program says of them) -> results.
Rule = Callable[[Graph, list[Value], Call], list[Value]]
