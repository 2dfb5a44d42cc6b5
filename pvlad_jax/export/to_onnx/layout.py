"""Operations of JAX that move numbers, in ONNX: shapes, order of axes, slices, places, padding."""

import dataclasses

import numpy as np

from pvlad_jax.export.to_onnx.graph import Call, Graph, NotInOnnx, Rule, Size, Value, constant, is_number

_END, _START = np.iinfo(np.int64).max, np.iinfo(np.int64).min


def _broadcast(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    """Axes of size 1 alone; what needs them wider asks for it."""
    rank, places = len(call.results[0]), call.params['broadcast_dimensions']
    new = [axis for axis in range(rank) if axis not in places]
    shape = [1] * rank
    for axis, size in zip(places, values[0].shape):
        shape[axis] = size
    if values[0].array is not None:
        return [constant(values[0].array.reshape(shape))]
    if not new:
        return values
    return [graph.node('Unsqueeze', [values[0], constant(np.array(new, np.int64))], shape, call.dtype)]


def _reshape(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    if call.params.get('dimensions') is not None:
        raise NotInOnnx('reshape in another order of axes')
    x, shape = graph.full(values[0], call.shapes[0]), call.results[0]
    unknown = [size for size in shape if not is_number(size)]
    if len(unknown) == 1 and 0 not in shape:
        target = constant(np.array([size if is_number(size) else -1 for size in shape], np.int64))
    else:
        target = graph.sizes(shape)
    return [graph.node('Reshape', [x, target], shape, call.dtype)]


def _transpose(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    return [transposed(graph, values[0], call.params['permutation'])]


def transposed(graph: Graph, value: Value, order: tuple[int, ...]) -> Value:
    if value.array is not None:
        return constant(value.array.transpose(order))
    if tuple(order) == tuple(range(len(order))):
        return value
    return graph.node('Transpose', [value], [value.shape[axis] for axis in order], value.dtype, perm=list(order))


def _squeeze(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    return [squeezed(graph, values[0], call.params['dimensions'])]


def squeezed(graph: Graph, value: Value, axes: tuple[int, ...]) -> Value:
    if not axes:
        return value
    shape = [size for axis, size in enumerate(value.shape) if axis not in axes]
    return graph.node('Squeeze', [value, constant(np.array(axes, np.int64))], shape, value.dtype)


def _concatenate(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    parts = [graph.full(value, shape) for value, shape in zip(values, call.shapes)]
    return [graph.node('Concat', parts, call.results[0], call.dtype, axis=call.params['dimension'])]


def _stack(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    axis = call.params['axis']
    parts = []
    for value, shape in zip(values, call.shapes):
        wide = [*shape[:axis], 1, *shape[axis:]]
        place = constant(np.array([axis], np.int64))
        parts.append(graph.node('Unsqueeze', [graph.full(value, shape), place], wide, call.dtype))
    return [graph.node('Concat', parts, call.results[0], call.dtype, axis=axis)]


def _unstack(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    x, axis = graph.full(values[0], call.shapes[0]), call.params['axis']
    places = (constant(np.array(number, np.int64)) for number in range(len(call.results)))
    return [
        graph.node('Gather', [x, place], shape, call.dtype, axis=axis) for place, shape in zip(places, call.results)
    ]


def _split(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    x, axis, first, parts = graph.full(values[0], call.shapes[0]), call.params['axis'], 0, []
    for size in map(int, call.params['sizes']):
        parts.append(sliced(graph, x, {axis: (first, first + size, 1)}))
        first += size
    return parts


def _slice(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    x, p = graph.full(values[0], call.shapes[0]), call.params
    steps, ranges = p['strides'] or (1,) * len(x.shape), {}
    for axis, (first, last, step) in enumerate(zip(p['start_indices'], p['limit_indices'], steps)):
        if not (is_number(first) and first == 0 and last == x.shape[axis] and step == 1):
            ranges[axis] = (first, last if is_number(last) else _to_end(last, x.shape[axis]), step)
    return [dataclasses.replace(sliced(graph, x, ranges), shape=call.results[0])]


def _to_end(last: Size, size: Size) -> int:
    if last != size:
        raise NotInOnnx(f'a slice up to {last}')
    return _END


def sliced(graph: Graph, value: Value, ranges: dict[int, tuple[int, int, int]]) -> Value:
    """By axis: (first, last, step)."""
    if not ranges:
        return value
    first, last, steps = (constant(np.array(column, np.int64)) for column in zip(*ranges.values()))
    shape = list(value.shape)
    for axis, (low, high, step) in ranges.items():
        if high != _END and step > 0:
            shape[axis] = len(range(low, high, step))
    axes = constant(np.array(list(ranges), np.int64))
    return graph.node('Slice', [value, first, last, axes, steps], shape, value.dtype)


def _reverse(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    return [sliced(graph, values[0], {axis: (-1, _START, -1) for axis in call.params['dimensions']})]


def _pad(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    widths = call.params['padding_config']
    if any(inner for _, _, inner in widths) or not all(is_number(low) and is_number(high) for low, high, _ in widths):
        raise NotInOnnx('pad between numbers')
    pads = constant(np.array([low for low, _, _ in widths] + [high for _, high, _ in widths], np.int64))
    x = graph.full(values[0], call.shapes[0])
    return [graph.node('Pad', [x, pads, values[1]], call.results[0], call.dtype, mode='constant')]


def _dynamic_slice(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    """From places that are known after all."""
    x, sizes = graph.full(values[0], call.shapes[0]), call.params['slice_sizes']
    if any(value.array is None for value in values[1:]):
        raise NotInOnnx('a slice from a place that depends on the input')
    ranges = {}
    for axis, (first, size) in enumerate(zip(values[1:], sizes)):
        if size != x.shape[axis]:
            low = min(max(int(first.array), 0), x.shape[axis] - size)
            ranges[axis] = (low, low + size, 1)
    return [sliced(graph, x, ranges)]


def _gather(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    """What JAX makes of indices, and of slices with steps: known places along some axes."""
    about, sizes, places = call.params['dimension_numbers'], call.params['slice_sizes'], values[1].array
    axes, dropped = about.start_index_map, about.collapsed_slice_dims
    if places is None or about.operand_batching_dims or any(not is_number(sizes[axis]) for axis in axes):
        raise NotInOnnx('gather from places that depend on the input')
    x = graph.full(values[0], call.shapes[0])
    if places.ndim == 1:
        ranges = {axis: (int(low), int(low) + sizes[axis], 1) for axis, low in zip(axes, places)}
        return [squeezed(graph, sliced(graph, x, ranges), dropped)]
    kept = tuple(axis for axis in range(len(call.results[0])) if axis not in about.offset_dims)
    lines = [places[(*(slice(None) if i == n else 0 for i in range(len(axes))), n)] for n in range(len(axes))]
    grid = np.stack(np.meshgrid(*lines, indexing='ij'), -1)
    if not axes == dropped == kept or not np.array_equal(grid, places):
        raise NotInOnnx('gather of scattered places')
    for axis, line in zip(axes, lines):
        shape = [*x.shape[:axis], len(line), *x.shape[axis + 1 :]]
        x = graph.node('Gather', [x, constant(line.astype(np.int64))], shape, call.dtype, axis=axis)
    return [x]


def _size(graph: Graph, values: list[Value], call: Call) -> list[Value]:
    return [squeezed(graph, graph.cast(graph.sizes((call.params['dim'],)), call.dtype), (0,))]


LAYOUT: dict[str, Rule] = {
    'broadcast_in_dim': _broadcast,
    'concatenate': _concatenate,
    'dim_as_value': _size,
    'dynamic_slice': _dynamic_slice,
    'gather': _gather,
    'pad': _pad,
    'reshape': _reshape,
    'rev': _reverse,
    'slice': _slice,
    'split': _split,
    'squeeze': _squeeze,
    'stack': _stack,
    'transpose': _transpose,
    'unstack': _unstack,
}
