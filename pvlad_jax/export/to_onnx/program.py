"""`export.program.embed_clips` as an ONNX model: what `model.jax` computes, with the weights inside.

    frames [B, S, T, H, W, 3] uint8, valid [B, S, T] bool, before_NAME [B, V, ...] -> embedding [B, E], after_NAME

B and S are open. The graph is written from the network's jaxpr, operation by operation. A library that does so,
jax2onnx, exists; its versions for this JAX hold Orbax back below what checkpoints need, and bring a dozen packages,
where these rules need `onnx` alone, and give the convolutions that platforms other than CPUs get.
"""

from collections.abc import Mapping

import jax
import numpy as np
from jax import export
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

import pvlad_jax
from pvlad_jax.export.program import embed_clips, statistics_shapes
from pvlad_jax.export.to_onnx.arithmetic import ARITHMETIC, ELEMENTWISE
from pvlad_jax.export.to_onnx.graph import Call, Graph, NotInOnnx, Proto, Rule, Value, constant, is_number
from pvlad_jax.export.to_onnx.layout import LAYOUT
from pvlad_jax.models.tracklet_network import TrackletNetwork

RULES: dict[str, Rule] = {**ARITHMETIC, **LAYOUT}
FRAMES, VALID, BEFORE, AFTER, EMBEDDING = 'frames', 'valid', 'before_', 'after_', 'embedding'
# Operations that stand for a program of their own, and where they keep it.
_INNER = {'jit': 'jaxpr', 'pjit': 'jaxpr', 'checkpoint': 'jaxpr', 'remat2': 'jaxpr', 'closed_call': 'call_jaxpr'}
_INNER |= {'custom_jvp_call': 'call_jaxpr', 'custom_vjp_call': 'call_jaxpr'}
_NEVER_KNOWN = ('dim_as_value', 'platform_index', 'cond', *_INNER)
_KEPT_NARROW = ('broadcast_in_dim',)  # known numbers that would only become more


def onnx_model(
    network: TrackletNetwork,
    flip: bool,
    weights: Mapping[str, np.ndarray],
    clip: tuple[int, int, int],
    properties: Mapping[str, str],
) -> Proto:
    """The model, an `onnx.ModelProto`. Traced, not compiled.

    Args:
      network: one that computes in float32.
      weights: by name, as `TrainedModel.embedding_weights` gives them.
      clip: (T, H, W).
      properties: the model's metadata.

    Raises:
      NotInOnnx: the network uses an operation without a rule.
    """
    b, s = export.symbolic_shape('b, s')
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()}
    before = {
        name: jax.ShapeDtypeStruct((b, *shape.shape), shape.dtype)
        for name, shape in statistics_shapes(network, shapes, clip, flip).items()
    }
    frames = jax.ShapeDtypeStruct((b, s, *clip, 3), np.uint8)
    valid = jax.ShapeDtypeStruct((b, s, clip[0]), bool)

    def program(*arguments):
        return embed_clips(network, flip, *arguments)

    traced, results = jax.make_jaxpr(program, return_shape=True)(shapes, frames, valid, before)
    graph = Graph({'b': (FRAMES, 0), 's': (FRAMES, 1)})
    known = [constant(weights[name]) for name in sorted(weights)]  # the order of dictionaries in JAX
    inputs = [graph.input(FRAMES, frames.shape, frames.dtype), graph.input(VALID, valid.shape, valid.dtype)]
    inputs += [graph.input(BEFORE + name, before[name].shape, before[name].dtype) for name in sorted(before)]
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
        values = write_program(graph, traced, [*known, *inputs])
    named = {EMBEDDING: results[0], **{AFTER + name: results[1][name] for name in sorted(results[1])}}
    for (name, described), value in zip(named.items(), values, strict=True):
        graph.output(name, value, described.shape)
    return graph.model('pvlad_jax', pvlad_jax.__version__, properties)


def write_program(graph: Graph, program: ClosedJaxpr | Jaxpr, inputs: list[Value]) -> list[Value]:
    """Adds a program to the graph and returns its results."""
    jaxpr, values = getattr(program, 'jaxpr', program), {}
    values.update(zip(jaxpr.constvars, map(constant, getattr(program, 'consts', ()))))
    values.update(zip(jaxpr.invars, inputs, strict=True))

    def value_of(atom) -> Value:
        return constant(np.asarray(atom.val, atom.aval.dtype)) if isinstance(atom, Literal) else values[atom]

    for equation in _needed(jaxpr):
        operands = [value_of(atom) for atom in equation.invars]
        values.update(zip(equation.outvars, _written(graph, equation, operands), strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The operations that a result depends on."""
    needed, kept = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}, []
    for equation in reversed(jaxpr.eqns):
        if needed.intersection(equation.outvars):
            kept.append(equation)
            needed.update(atom for atom in equation.invars if not isinstance(atom, Literal))
    return kept[::-1]


def _written(graph: Graph, equation: JaxprEqn, operands: list[Value]) -> list[Value]:
    name, params = equation.primitive.name, equation.params
    if name in _INNER:
        return write_program(graph, params[_INNER[name]], operands)
    if name == 'platform_index':  # the branch of platforms that are not named: plain convolutions
        return [constant(np.int32(params['platforms'].index(None)))]
    if name == 'cond' and operands[0].array is not None:
        return write_program(graph, params['branches'][int(operands[0].array)], operands[1:])
    if (found := _known(equation, operands)) is not None:
        return found
    if name not in RULES:
        raise NotInOnnx(f'the operation {name}')
    given, results = [v.aval for v in equation.invars], [v.aval for v in equation.outvars]
    about = Call(name, params, [a.shape for a in given], [a.shape for a in results], np.dtype(results[0].dtype))
    return RULES[name](graph, operands, about)


def _known(equation: JaxprEqn, operands: list[Value]) -> list[Value] | None:
    """The results where they follow from numbers that are known; None otherwise."""
    name, arrays = equation.primitive.name, [operand.array for operand in operands]
    if name in (*_NEVER_KNOWN, *_KEPT_NARROW) or any(array is None for array in arrays):
        return None
    if name in ELEMENTWISE:
        arrays = np.broadcast_arrays(*arrays)  # to no more than they are
    else:
        shapes = [atom.aval.shape for atom in (*equation.invars, *equation.outvars)]
        if not all(is_number(size) for shape in shapes for size in shape):
            return None
        arrays = [np.broadcast_to(array, atom.aval.shape) for array, atom in zip(arrays, equation.invars)]
    found = equation.primitive.bind(*arrays, **equation.params)
    return [constant(result) for result in (found if equation.primitive.multiple_results else [found])]
