"""What every term of the loss has in common."""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int

from pvlad_jax.config import LossConfig


class TermOutput(NamedTuple):
    """The value of a term on a batch, unweighted; what to watch, by name; what it carries to the next step."""

    value: Float[Array, '']
    metrics: dict[str, Float[Array, '']]
    state: dict[str, Array]


class LossSizes(NamedTuple):
    """What the sizes of a term's own parameters may depend on."""

    num_identities: int  # I, in training
    embedding_dim: int  # E
    channels: int  # C, of the backbone's local features


class LossTerm:
    """A term, made from the configuration of the losses; a line in `losses.LOSSES`. Pure: what it keeps is handed in
    and out.

    With gradient accumulation each part of a batch is a batch of its own for a term; the docstrings say what that means
    for it.
    """

    def __init__(self, config: LossConfig):
        self.config = config

    def init(self, sizes: LossSizes, rng: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """(parameters to be trained with the network's, state to be carried from step to step); none by default."""
        return {}, {}

    def __call__(
        self, output: Any, labels: Int[Array, 'B'], params: dict[str, Any], state: dict[str, Array]
    ) -> TermOutput:
        """
        Args:
          output: the network's output in training (`tracklet_network.Output`).
          labels: numbers of the training identities, 0 .. I-1.
          params, state: those of `init` of all terms, among the network's parameters.
        """
        raise NotImplementedError
