"""The loss of a run: the weighted sum of its terms."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int

from pvlad_jax.losses.term import LossSizes, LossTerm


class WeightedTerm(NamedTuple):
    """A term of the loss and its factor in the sum."""

    weight: float
    term: LossTerm


Terms = Mapping[str, WeightedTerm]  # by name, in the order in which they are added


def init_losses(terms: Terms, sizes: LossSizes, rng: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """(parameters, state) of all terms: what is trained with the network's parameters, and what is carried from step to
    step.
    """
    params, state = {}, {}
    for _, term in terms.values():
        of_term = term.init(sizes, rng)
        params, state = params | of_term[0], state | of_term[1]
    return params, state


def total_loss(
    terms: Terms, output: Any, labels: Int[Array, 'B'], params: dict, state: dict
) -> tuple[Float[Array, ''], dict[str, Float[Array, '']], dict]:
    """The loss, the metrics of each term (its own, and unweighted `loss_NAME`), and the new state.

    Args:
      output: the network's output in training (`tracklet_network.Output`).
      labels: numbers of the training identities, 0 .. I-1.
      params, state: those of `init_losses`. Differentiate with respect to `params` as well.
    """
    outputs = {name: term(output, labels, params, state) for name, (_, term) in terms.items()}
    loss = sum(terms[name].weight * out.value for name, out in outputs.items())
    metrics, new_state = {}, dict(state)
    for out in outputs.values():
        metrics |= out.metrics
        new_state |= out.state
    metrics |= {f'loss_{name}': out.value for name, out in outputs.items()}
    return loss, metrics | {'loss': loss}, new_state
