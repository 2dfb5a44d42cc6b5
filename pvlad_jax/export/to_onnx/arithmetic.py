"""Operations of JAX that compute, in ONNX: number by number, sums along axes, products of matrices, convolutions."""

import math
import string

import numpy as np

from pvlad_jax.export.to_onnx.graph import Call, Graph, NotInOnnx, Rule, Size, Value, constant, is_number
from pvlad_jax.export.to_onnx.layout import transposed

_BOOL, _INT32 = np.dtype(bool), np.dtype(np.int32)
# Operations whose operands and results have one shape, and the ONNX operations that are applied in turn.
ELEMENTWISE: dict[str, tuple[str, ...]] = {
    'abs': ('Abs',),
    'add': ('Add',),
    'and': ('And',),
    'div': ('Div',),
    'eq': ('Equal',),
    'exp': ('Exp',),
    'ge': ('GreaterOrEqual',),
    'gt': ('Greater',),
    'le': ('LessOrEqual',),
    'log': ('Log',),
    'logistic': ('Sigmoid',),
    'lt': ('Less',),
    'max': ('Max',),
    'min': ('Min',),
    'mul': ('Mul',),
    'ne': ('Equal', 'Not'),
    'neg': ('Neg',),
    'not': ('Not',),
    'or': ('Or',),
    'rsqrt': ('Sqrt', 'Reciprocal'),
    'sqrt': ('Sqrt',),
    'sub': ('Sub',),
    'tanh': ('Tanh',),
}
_LOGICAL = ('and', 'or', 'not')  # of integers they work bit by bit


def elementwise(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    if call.name in _LOGICAL and call.dtype != _BOOL:
        raise NotInOnnx(f'{call.name} of {call.dtype}')
    *first, last = ELEMENTWISE[call.name]
    result, shape = values, _together(values)
    for operation in first:
        result = [graph.node(operation, result, shape, _BOOL if call.dtype == _BOOL else call.dtype)]
    return [graph.node(last, result, shape, call.dtype)]


def _together(values: list[Value]) -> tuple[Size, ...]:
    """The shape to which ONNX broadcasts."""
    rank = max(len(value.shape) for value in values)
    padded = [(1,) * (rank - len(value.shape)) + value.shape for value in values]
    return tuple(next((n for n in sizes if not (is_number(n) and n == 1)), 1) for sizes in zip(*padded))


def _select(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    if len(values) != 3 or values[0].dtype != _BOOL:
        raise NotInOnnx('select_n among more than two')
    which, if_false, if_true = values
    return [graph.node('Where', [which, if_true, if_false], _together(values), call.dtype)]


def _square(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    return [graph.node('Mul', values * 2, values[0].shape, call.dtype)]


def _integer_pow(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    exponent = constant(np.array(call.params['y'], call.dtype))
    return [graph.node('Pow', [values[0], exponent], values[0].shape, call.dtype)]


def _cast(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    return [graph.cast(values[0], call.dtype)]


def _same(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    return values


def _reduce(operation: str) -> Rule:
    def rule(graph: Graph, values: list[Value], call: Call) -> list[Value]:
        x, axes = graph.full(values[0], call.shapes[0]), constant(np.array(call.params['axes'], np.int64))
        x = graph.cast(x, _INT32) if call.dtype == _BOOL else x  # any: the largest of 0 and 1; all: the smallest
        return [graph.cast(graph.node(operation, [x, axes], call.results[0], x.dtype, keepdims=0), call.dtype)]

    return rule


def _dot(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    (of_x, of_y), (batch_x, batch_y) = call.params['dimension_numbers']
    x, y = (graph.full(value, shape) for value, shape in zip(values, call.shapes))
    if not batch_x and len(y.shape) == 2 and (tuple(of_x), tuple(of_y)) == ((len(x.shape) - 1,), (0,)):
        return [graph.node('MatMul', [x, y], call.results[0], call.dtype)]
    letters = iter(string.ascii_lowercase)
    names_x, names_y = [next(letters) for _ in x.shape], [next(letters) for _ in y.shape]
    for i, j in (*zip(of_x, of_y), *zip(batch_x, batch_y)):
        names_y[j] = names_x[i]
    free_x = [n for i, n in enumerate(names_x) if i not in (*of_x, *batch_x)]
    free_y = [n for i, n in enumerate(names_y) if i not in (*of_y, *batch_y)]
    result = [names_x[i] for i in batch_x] + free_x + free_y
    equation = f'{"".join(names_x)},{"".join(names_y)}->{"".join(result)}'
    return [graph.node('Einsum', [x, y], call.results[0], call.dtype, equation=equation)]


def _convolution(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    """In any number of axes and any layout: ONNX wants N, C, then places, and transposes next to each other cancel out
    when ONNX Runtime reads the file.
    """
    p = call.params
    pads = [*(low for low, _ in p['padding']), *(high for _, high in p['padding'])]
    if math.prod(p['lhs_dilation']) != 1 or p['batch_group_count'] != 1 or min(pads, default=0) < 0:
        raise NotInOnnx('a transposed convolution')
    layout = p['dimension_numbers']
    x = transposed(graph, graph.full(values[0], call.shapes[0]), layout.lhs_spec)
    kernel = transposed(graph, graph.full(values[1], call.shapes[1]), layout.rhs_spec)
    shape = [call.results[0][axis] for axis in layout.out_spec]
    y = graph.node(
        'Conv',
        [x, kernel],
        shape,
        call.dtype,
        strides=list(p['window_strides']),
        pads=pads,
        dilations=list(p['rhs_dilation']),
        group=p['feature_group_count'],
    )
    return [transposed(graph, y, tuple(int(axis) for axis in np.argsort(layout.out_spec)))]


ARITHMETIC: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    'conv_general_dilated': _convolution,
    'convert_element_type': _cast,
    'copy': _same,
    'dot_general': _dot,
    'integer_pow': _integer_pow,
    'reduce_and': _reduce('ReduceMin'),
    'reduce_max': _reduce('ReduceMax'),
    'reduce_min': _reduce('ReduceMin'),
    'reduce_or': _reduce('ReduceMax'),
    'reduce_sum': _reduce('ReduceSum'),
    'select_n': _select,
    'square': _square,
    'stop_gradient': _same,
}
