"""A state of a network that several data sets were joined to train: each is scored by its own protocol."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pvlad_jax.evaluation.mean_of_data_sets import MeanResult
from pvlad_jax.runs.evaluator import Evaluator
from pvlad_jax.runs.experiment import Experiment
from pvlad_jax.runs.open_data import said_of
from pvlad_jax.runs.outputs import Log, Scored


class JoinedScored(NamedTuple):
    """As `Scored`, of each data set by its name; `result` is their mean with the results themselves."""

    result: MeanResult
    each: Mapping[str, Scored]

    @property
    def tracklets(self) -> int:
        return sum(scored.tracklets for scored in self.each.values())

    def of(self, checkpoint: str) -> 'JoinedScored':
        """The same, with the choice of the checkpoint said in the results."""
        return together(self.result.dataset, {name: scored.of(checkpoint) for name, scored in self.each.items()})


class JoinedEvaluator:
    """An `Evaluator` for each data set, which share the compiled step."""

    def __init__(self, experiment: Experiment, log: Log = lambda text: None):
        self.experiment, self._evaluators = experiment, {}
        embed = None
        for name, test in experiment.parts.items():
            self._evaluators[name] = Evaluator(test, log, embed)
            embed = self._evaluators[name].embed

    def stop_when(self, asked: Callable[[], bool]) -> None:
        """As `Evaluator.stop_when`."""
        for evaluator in self._evaluators.values():
            evaluator.stop_when(asked)

    def __call__(self, variables: dict, step: int, role: str = 'test') -> JoinedScored:
        """As `Evaluator`; UserError names the data set, of which one that fails leaves the others without a result."""
        each = {}
        for name, evaluator in self._evaluators.items():
            with said_of(name):
                each[name] = evaluator(variables, step, role)
        return together(self.experiment.dataset.name, each)


def together(dataset: str, each: Mapping[str, Scored]) -> JoinedScored:
    """The results of the data sets of a join, by name, as one."""
    return JoinedScored(MeanResult(dataset, {name: scored.result for name, scored in each.items()}), each)


AnyEvaluator = Evaluator | JoinedEvaluator
AnyScored = Scored | JoinedScored


def evaluator_of(experiment: Experiment, log: Log = lambda text: None) -> AnyEvaluator:
    """What scores the states of an experiment."""
    return JoinedEvaluator(experiment, log) if experiment.parts else Evaluator(experiment, log)
