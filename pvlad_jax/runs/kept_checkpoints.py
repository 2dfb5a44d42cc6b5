"""Which checkpoints of a run are kept: the latest, and the best by a score that comes after they are saved."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from orbax.checkpoint import checkpoint_managers


def kept_steps(steps: Sequence[int], scores: Mapping[int, float], latest: int, best: int) -> set[int]:
    """The `latest` last of the steps, and the `best` ones with the highest scores, of equals the last."""
    kept = set(sorted(steps)[-latest:] if latest else [])
    scored = sorted((step for step in steps if step in scores), key=lambda step: (scores[step], step))
    return kept | set(scored[-best:] if best else [])


@dataclasses.dataclass
class LatestAndBest(checkpoint_managers.PreservationPolicy):
    """`kept_steps` as Orbax asks for it. Its own BestN knows only metrics that are there when a step is saved."""

    kept: Callable[[Sequence[int]], set[int]]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        kept = self.kept([checkpoint.step for checkpoint in checkpoints])
        return [checkpoint.step in kept for checkpoint in checkpoints]
