"""The weights of another run, which a new one begins with (config.init_from): what fits is loaded, the rest is made
anew.

Modules are taken in the order of the flow, backbone first; where one is another than in that run, everything behind it
is made anew. The backbone must be the same. The classifier is always made anew, since it tells other people apart.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flax.traverse_util import flatten_dict

from pvlad_jax.config import Config, flatten
from pvlad_jax.core.errors import UserError
from pvlad_jax.core.paths import is_remote, user_path
from pvlad_jax.export.artifact import is_export
from pvlad_jax.models.pooling import build_pooling
from pvlad_jax.runs.exported_model import load_exported
from pvlad_jax.runs.trained_model import BEST, LAST, TrainedModel, load_trained
from pvlad_jax.runs.workdir import Folder, open_workdir, place_of
from pvlad_jax.training.train_state import TrainState

# Behind the backbone, in the order of the flow, and how they are called in messages.
MODULES = {'aggregator': 'pooling', 'to_embedding': 'embedding', 'neck': 'bnneck'}
# May differ from the other run's, since no array depends on them; a user should know.
ALLOWED = (
    'clips.frames',
    'clips.height',
    'clips.width',
    'model.backbone.last_stride',
    'model.backbone.time_padding',
    'model.backbone.batch_norm',
    'model.dtype',
)

Shapes = dict[str, tuple[int, ...]]


@dataclasses.dataclass(frozen=True)
class Inherited:
    """What a new run takes over.

    Attributes:
      folder, config: of the other run.
      params, batch_stats: of the modules that are taken, by name, on the host.
      table: what was loaded, made anew and ignored, to be printed.
    """

    folder: Folder
    config: Config
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    table: str

    def into(self, state: TrainState) -> TrainState:
        """The state with these modules in it."""
        for name, params in self.params.items():
            state = state.with_params(name, params, self.batch_stats.get(name))
        return state


def source_of(init_from: str) -> tuple[str, str | None]:
    """(working directory, and 'last', 'best', a step or None) of WORKDIR[@STEP].

    A folder on a disk whose own name ends so is one.
    """
    folder, at, step = init_from.rpartition('@')
    named = at and (step.isdecimal() or step in (LAST, BEST))
    if not named or (not is_remote(init_from) and user_path(init_from).exists()):
        return init_from, None
    return folder, step


def refuse_itself(config: Config, workdir: Folder | str) -> None:
    """UserError where a run is to begin with its own weights. The other run need not be there."""
    if config.init_from and place_of(source_of(config.init_from)[0]) == place_of(workdir):
        raise UserError(
            f'config.init_from = {config.init_from!r} is the working directory of this very run. Give the new run '
            'another --workdir; to continue this one, with more steps or as it is, leave init_from out.'
        )


def inherit(config: Config, shapes: TrainState, workdir: Folder) -> Inherited:
    """Reads and compares; nothing is computed.

    Args:
      shapes: of the new run's state.
      workdir: of the new run.

    Raises:
      UserError: no such run or step, a damaged one, this very run, or a network whose backbone is another.
    """
    refuse_itself(config, workdir)
    path, step = source_of(config.init_from)
    said = f'config.init_from = {config.init_from!r}'
    try:
        folder = open_workdir(path)
    except UserError as error:
        raise UserError(f'{said}: {error}') from error
    if not (folder / 'checkpoints').exists() and (folder / 'split_0').exists():
        raise UserError(f'{said}: {folder} holds a run of all splits. Name one of them, such as {folder / "split_0"}.')
    if is_export(path) and step:
        raise UserError(f'{said}: {folder} is an export, which holds one step alone. Leave out @{step}.')
    try:
        model = load_exported(Path(folder)) if is_export(path) else load_trained(str(folder), step)
    except UserError as error:
        raise UserError(f'{said}: {error}') from error
    new = _shapes(shapes.params, shapes.batch_stats)
    old = _shapes(model.variables['params'], model.variables.get('batch_stats', {}))
    _check_backbone(said, config, model, old['backbone'], new['backbone'])
    taken, rows = _taken(said, config, model, old, new)
    variables = model.variables
    return Inherited(
        folder,
        model.config,
        {name: variables['params'][name] for name in taken if name in variables['params']},
        {name: variables['batch_stats'][name] for name in taken if name in variables.get('batch_stats', {})},
        _table(model.checkpoint, rows, _differences(config, model.config)),
    )


def _taken(
    said: str, config: Config, model: TrainedModel, old: Mapping[str, Shapes], new: Mapping[str, Shapes]
) -> tuple[list[str], list[tuple[str, str, str]]]:
    """(modules to be loaded, rows of the table). `said`: how messages begin."""
    taken, rows = ['backbone'], [('backbone', 'loaded', _arrays(new['backbone']))]
    pooling, same = build_pooling(config.model), _same_pooling(config, model)
    if same:
        _check_places(said, new.get('aggregator', {}), old.get('aggregator', {}))
    else:
        why = f'that run has another ({model.config.model.pooling}, or of another size)'
        rows.append(('pooling', 'made anew', why))
    for name, called in MODULES.items():
        here, there = new.get(name, {}), old.get(name, {})
        before, same = same, same and here == there
        if same and here:
            taken.append(name)
            rows.append((called, 'loaded', _arrays(here)))
        elif name != 'aggregator' and here:
            why = 'that run has another' if before else 'what comes before it is another'
            rows.append((called, 'made anew', why if there else 'that run has none'))
        elif name != 'aggregator' and there:
            rows.append((called, 'ignored', 'this run has none'))
    if pooling.pretrained_head and 'aggregator' not in taken:
        raise UserError(
            f"{said}: config.model.pooling = 'pretrained_head' takes its layer from imported weights, and that run has "
            'another pooling. Set config.model.backbone.weights instead, or another pooling.'
        )
    if pooling.data_dependent and ('aggregator' not in taken or config.vlad_init.from_data):
        rows.append(('codewords', 'made anew', 'from the training data, with the centring of the descriptors'))
    people, others = (modules['classifier']['params/kernel'][-1] for modules in (new, old))
    ignored = f'; that of {others} people is ignored' if others > 1 else ''  # an export has none
    rows.append(('classifier', 'made anew', f'for {people} people{ignored}'))
    return taken, rows


def _shapes(params: Mapping[str, Any], batch_stats: Mapping[str, Any]) -> dict[str, Shapes]:
    """{'neck': {'params/scale': (512,), 'batch_stats/mean': (512,)}}."""
    found: dict[str, Shapes] = {}
    for kind, tree in (('params', params), ('batch_stats', batch_stats)):
        for name, module in tree.items():
            leaves = flatten_dict(module, sep='/') if isinstance(module, Mapping) else {'': module}
            found.setdefault(name, {}).update({f'{kind}/{leaf}': tuple(array.shape) for leaf, array in leaves.items()})
    return found


def _check_backbone(said: str, config: Config, model: TrainedModel, old: Shapes, new: Shapes) -> None:
    name, other = config.model.backbone.name, model.config.model.backbone.name
    if name != other:
        raise UserError(
            f'{said} has the backbone {other}, and this run {name}: weights and the normalisation of colours belong to '
            f'a backbone. Set --config.model.backbone.name={other}, or begin with imported weights of {name}.'
        )
    if old != new:
        now, before = flatten(config), flatten(model.config)
        fields = [
            f'{field} = {before[field]!r} there and {now[field]!r} here'
            for field in sorted(now)
            if field.startswith('model.backbone.')
            and field.rpartition('.')[2] in ('temporal', 'temporal_blocks', 'last_stride')
            and now[field] != before[field]
        ]
        wrong = next(leaf for leaf in sorted(old.keys() | new.keys()) if old.get(leaf) != new.get(leaf))
        raise UserError(
            f'{said} has a backbone of other arrays ({"; ".join(fields) or wrong}). Give the new run the same ones.'
        )


def _same_pooling(config: Config, model: TrainedModel) -> bool:
    """Whether the two poolings agree in all that they read of a configuration, such as P, K and D; in dtype they may
    differ.
    """
    there = dataclasses.replace(model.config.model, dtype=config.model.dtype)
    return build_pooling(there) == build_pooling(config.model)


def _check_places(said: str, here: Shapes, there: Shapes) -> None:
    """UserError where poolings of one configuration have arrays of other shapes: a position term has one value for each
    place.
    """
    if here != there:
        leaf = next(leaf for leaf in sorted(here.keys() | there.keys()) if here.get(leaf) != there.get(leaf))
        raise UserError(
            f'{said} was trained on another input size, and its pooling has a value for each place of it ({leaf}: '
            f'{there.get(leaf)} there, {here.get(leaf)} here). Give the same config.clips.height, clips.width and '
            'model.backbone.last_stride; or set config.model.position_term=False, which loads the backbone alone.'
        )


def _arrays(shapes: Shapes) -> str:
    return f'{len(shapes)} array{"s" if len(shapes) > 1 else ""}'


def _differences(now: Config, before: Config) -> list[str]:
    here, there = flatten(now), flatten(before)
    return [f'{field} {there[field]} there, {here[field]} here' for field in ALLOWED if here[field] != there[field]]


def _table(checkpoint: str, rows: Iterable[tuple[str, str, str]], differences: list[str]) -> str:
    lines = [f'Weights of {checkpoint}:', *(f'  {name:<11}{what:<11}{why}'.rstrip() for name, what, why in rows)]
    return '\n'.join([*lines, *([f'  (different, and allowed: {"; ".join(differences)})'] if differences else [])])
