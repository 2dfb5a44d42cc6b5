"""Flags of the build command that would change nothing in the build that is asked for: they are refused by name."""

from collections.abc import Iterator, Mapping

from absl import flags

from data_prep.datasets.dataset_source import DatasetSource
from pvlad_jax.core.errors import UserError

OF_FILES = ('source', 'bit_depth')  # frames that are drawn come from none
OF_A_SOURCE = ('bit_depth', 'allow_partial')  # beside the flags of the data set itself
OF_WRITING = ('overwrite', 'workers', 'decode_frames', 'beam', 'beam_options')  # --verify decodes every frame


def refuse_flags_without_effect(given: flags.FlagValues, datasets: Mapping[str, DatasetSource]) -> None:
    """UserError that names the flags which have another value than their default and would not be looked at.

    Args:
      given: The flags, with a known --dataset.
      datasets: All that can be built, by name.
    """
    useless = dict(_without_effect(given, datasets))
    if useless:
        named = '; '.join(f'--{name} {why}' for name, why in useless.items())
        raise UserError(f'{named}. Leave {"it" if len(useless) == 1 else "them"} out.')


def _without_effect(given: flags.FlagValues, datasets: Mapping[str, DatasetSource]) -> Iterator[tuple[str, str]]:
    """(name of a flag, why it has no effect)."""
    source = datasets[given.dataset]
    own = {flag.name for flag in source.flags}
    of_data_sets = {flag.name for other in datasets.values() for flag in other.flags}
    for name in sorted(given):
        if given[name].value == given[name].default:
            continue
        if name in of_data_sets - own:
            having = [other for other, its in datasets.items() if name in {flag.name for flag in its.flags}]
            yield name, f'is for --dataset={_either(having)}, not for {given.dataset}'
        elif name in OF_FILES and not source.needs_source:
            yield name, f'is for raw data in files, and {given.dataset} is drawn'
        elif name in OF_WRITING and given.verify:
            yield name, 'is for building, not for --verify'
        elif name == 'allow_partial' and given.verify and not given.source:
            yield name, f'is for building: a partial data set is verified by its name, --name={given.dataset}_partial'
        elif name in own.union(OF_A_SOURCE) and given.verify and not given.source:
            yield name, 'is for reading raw data, and --verify reads none without --source'
        elif name == 'beam_options' and not given.beam:
            yield name, 'is for --beam'
        elif name == 'workers' and given.beam:
            yield name, 'is for a build without --beam, which has --beam_options'


def _either(names: list[str]) -> str:
    """'a, b or c'."""
    return ' or '.join(filter(None, (', '.join(names[:-1]), names[-1])))
