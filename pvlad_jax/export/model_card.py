"""MODEL_CARD.md: what a network was trained on, what was measured, what it is for and where it fails, for people who
get an export (Mitchell et al., Model Cards for Model Reporting, 2019). All of it comes from model.json."""

from collections.abc import Mapping
from typing import Any

from pvlad_jax.core.terminal import printable
from pvlad_jax.evaluation.result import MAIN_METRICS, protocol_line

_UNKNOWN = 'not recorded'

_USE = """\
## Intended use

To compare tracklets of people with each other: search for further tracklets of a person among those of other cameras,
with a threshold that was calibrated on people of the place, and with a person who looks at each match before anything
follows from it. An embedding links the sightings of a person and is personal data of that person; in the European Union
it is biometric data where it is processed to identify people. Whoever runs it is responsible for a legal basis.

Not for: following individuals without a legal basis; proof of identity; decisions about people by appearance alone.

## Limits

- A match says that two tracklets look alike. People in the same uniform look alike; one person with and without a coat
  does not.
- Ranks are shares of queries *whose person is in the gallery*. In practice most people who pass are not.
- Networks learn the people, clothes, seasons and cameras of their data: expect lower results elsewhere. Measure on
  people of your own place.
- Nobody has measured whether errors are spread evenly over groups of people. Look at errors by group before use.
- What a network was trained on can in part be inferred from its weights: treat those of private video as private.
"""


def model_card(manifest: Mapping[str, Any]) -> str:
    """The card as Markdown, from the fields of model.json."""
    about, size = manifest['training'], manifest['embedding']['size']
    frames, height, width = manifest['input']['clip']
    architecture = manifest['architecture']
    parts = [
        f'# Model card: {_code(architecture["model.pooling"])} on {_code(architecture["model.backbone.name"])}',
        'A network for video-based person re-identification: the cropped frames of one walking person (a tracklet) to '
        f'a unit vector of {size} numbers, compared by cosine distance. Fingerprint {_code(manifest["fingerprint"])}; '
        'embeddings of networks with another one cannot be compared with these.',
        '## Input',
        f'uint8 RGB frames of {height} x {width} pixels in clips of {frames}, all frames of the tracklet. '
        f'{manifest["input"]["resize"]} Pixels are normalised inside the program.'
        + (' Each embedding is the average with that of the mirror image.' if manifest['flip'] else ''),
        '## Training',
        _table(
            {
                'data set': _code(about['dataset']) + (' (rendered people)' if about['rendered'] else ''),
                'split': _code(about['split']),
                'weights it began with': _began_with(about.get('began_with'), manifest.get('imported_weights')),
                'training people': _number(about.get('people')),
                'tracklets, frames of the training split': _counts(about.get('counts'), about.get('people')),
                'step': _number(about.get('step')),
                'checkpoint': printable(about['checkpoint']) or _UNKNOWN,
            }
        ),
        '## Results',
        *(
            _results(result, bool(about.get('evaluated_otherwise')))
            for result in manifest.get('evaluations') or [manifest.get('evaluation')]
        ),
        '## Licences',
        _licences(manifest.get('imported_weights'), about.get('began_with'), about['rendered']),
        _USE,
    ]
    return '\n\n'.join(parts)


def _results(result: Mapping[str, Any] | None, otherwise: bool) -> str:
    if not result:
        return (
            'No evaluation of this checkpoint was in the working directory when it was exported, so nothing is '
            'claimed. `python main.py --mode=eval --workdir=WORKDIR` makes one.'
        )
    partial = ' The data set lacks a part of the benchmark: no result of it.' if result['partial'] else ''
    otherwise_said = ' Measured with another setting of mirror images than this export has.' if otherwise else ''
    head = (
        f'On {_code(result["dataset"])}, {_text(result["split"])}: '
        f'{_text(protocol_line(result))}.{partial}{otherwise_said}'
    )
    return head + '\n\n' + _table({name: f'{100 * result[key]:.2f} %' for name, key in MAIN_METRICS.items()})


def _began_with(run: Mapping[str, Any] | None, weights: Mapping[str, Any] | None) -> str:
    if run:
        sets = f', trained on {", ".join(map(_code, run["data_sets"]))}' if run['data_sets'] else ''
        return f'those of another run, {_code(run["run"])}{sets}'
    return f'imported, {_code(weights["file"])}' if weights else 'none'


def _licences(weights: Mapping[str, Any] | None, run: Mapping[str, Any] | None, rendered: bool) -> str:
    lines = ['- Code of the program, the loader beside this file among it: Apache-2.0.']
    if weights:
        origin = _text(weights.get('origin') or _UNKNOWN).rstrip('.')
        licence = _text(weights.get('licence') or _UNKNOWN).rstrip('.')
        lines.append(
            f'- Training began with imported weights, {_code(weights["file"])}. Origin: {origin}. Licence: {licence}.'
        )
        lines.append(
            '- Weights trained on research data inherit the limits of the data, whatever the licence of their code.'
        )
    elif run:
        lines.append(
            f'- Training began with the weights of another run, {_code(run["run"])}. The terms of its data, and of '
            'weights that it began with itself, hold here as well: read its model card.'
        )
    else:
        lines.append('- No imported weights: training began with random numbers.')
    if rendered:
        of_this_run = ' of this run' if run else ''
        lines.append(f'- Training data{of_this_run}: rendered people, free of the rights of persons.')
    else:
        lines.append(
            "- Training data: the terms of the data set's authors hold for what is made of it. Benchmarks of real "
            'people are for academic research, and the people in them agreed to nothing else.'
        )
    return '\n'.join(lines)


def _table(rows: Mapping[str, str]) -> str:
    return '\n'.join(['| | |', '|---|---|', *(f'| {name} | {value} |' for name, value in rows.items())])


def _counts(counts: Any, people: int | None) -> str:
    """Of the split as the data set has it, of which a run may hold people out."""
    if not counts:
        return _UNKNOWN
    said = f'{counts[0]:,}, {counts[2]:,}'
    return said if people in (None, counts[1]) else f'{said}, of {counts[1]:,} people; not all were trained on'


def _number(value: Any) -> str:
    return _UNKNOWN if value is None else f'{value:,}'


def _text(value: Any) -> str:
    """A name that others chose, on one line and without marks of Markdown or HTML."""
    one_line = ' '.join(printable(value).split())
    for mark in '\\`*_[]<>|#':
        one_line = one_line.replace(mark, f'\\{mark}')
    return one_line


def _code(value: Any) -> str:
    """A name as code: nothing in it is markup."""
    return f'`{" ".join(printable(value).replace("`", chr(39)).replace("|", "/").split()) or "-"}`'
