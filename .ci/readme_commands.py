"""Runs the commands of README.md, in its order, in the environment that is given.

    python .ci/readme_commands.py --venv=VENV [--list] [--only=TEXT]

Every command there has an entry in COMMANDS: how it is run here, or why not. tests/test_readme.py compares the two.
"""

import argparse
import dataclasses
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# A line of a block or a piece of inline code that is a command; the rest is code, names and flags.
_COMMAND = re.compile(r'(make|python3?|pip|\.venv/bin/python) ')


@dataclasses.dataclass(frozen=True)
class Run:
    """The command itself, and what is added to keep it short or to point it at data that are here."""

    extra: str = ''
    replace: tuple[tuple[str, str], ...] = ()
    before: str = ''  # a command that makes what it needs


@dataclasses.dataclass(frozen=True)
class Skip:
    reason: str


_SHORT = (
    '--config.training.steps=4 --config.training.eval_every=0 --config.training.eval_untrained=false '
    '--config.batch.identities=4 --config.batch.tracklets=2'
)
_MAKE = Skip('a line of the Makefile, which runs it')
_MARS = Skip('needs the MARS data, which are not ours to have')

COMMANDS: dict[str, Run | Skip] = {
    'make demo': Run(),
    'make test': Skip('.ci/run gives it last, with PyTorch and gcsfs installed'),
    'python3 -m venv .venv': _MAKE,
    '.venv/bin/python -m pip install -r requirements.txt': _MAKE,
    '.venv/bin/python main.py --config=configs/synthetic.py --workdir=runs/demo': _MAKE,
    '.venv/bin/python -m pip install -r requirements.txt -r requirements-test.txt': Skip(
        'in two steps in the Makefile, which runs them'
    ),
    '.venv/bin/python -m pytest': _MAKE,
    'pip install -U "jax[cuda12]"': Skip('gigabytes, and needs a GPU'),
    'pip install -U "jax[tpu]"': Skip('needs a TPU'),
    'python data_prep/build_tfds.py --dataset=tracklet_folder --source=FOLDER --name=my_tracklets --data_dir=data': Run(
        replace=(('FOLDER', 'my_frames'),), before='python .ci/sample_tracklets.py my_frames'
    ),
    'python main.py --config=configs/tracklet_folder.py --config.dataset.name=my_tracklets '
    '--workdir=runs/my_tracklets': Run(_SHORT),
    'python main.py --workdir=runs/my_tracklets --mode=eval': Run(),
    'python data_prep/build_tfds.py --dataset=mars --source=MARS_FOLDER --data_dir=data': _MARS,
    'python data_prep/import_weights.py --source=i3d-kinetics --output=weights/i3d_kinetics.safetensors': Run(),
    'python data_prep/import_weights.py --source=torchreid --file=osnet_x1_0_msmt17.pth '
    '--output=weights/osnet_x1_0_msmt17.safetensors': Skip('the file is found on Google Drive, and needs PyTorch'),
    'python main.py --config=configs/mars.py --workdir=runs/mars': _MARS,
    'python main.py --mode=export --workdir=runs/demo': Run(),
    'python main.py --mode=report --workdir=runs/demo': Skip('needs Jinja2 of requirements-use.txt'),
    'python -m pvlad_jax embed --model=runs/my_tracklets --input=FOLDER --output=mine.npz': Run(
        replace=(('FOLDER', 'my_frames'),)
    ),
    'python -m pvlad_jax.evaluation --query=q.npz --gallery=g.npz --protocol=mars_official': Run(
        replace=(('q.npz', 'runs/demo/embeddings/query.npz'), ('g.npz', 'runs/demo/embeddings/gallery.npz'))
    ),
    'python main.py --config=configs/synthetic.py:pooling=average,backbone=r3d_18 --workdir=...': Run(
        _SHORT + ' --config.clips.height=32 --config.clips.width=16 --config.evaluation.frames=first:4 '
        '--config.evaluation.flip=False --config.evaluation.strips=0',
        replace=(('--workdir=...', '--workdir=runs/r3d_18'),),
    ),
}


def readme_commands(text: str) -> list[str]:
    """The commands of a Markdown text, in its order, each once: lines of indented and fenced blocks, and inline
    code.
    """
    found = []
    for line in text.splitlines():
        block = (
            re.match(r'(?: {4}|```)?\s*(.*)', line)[1].partition('  #')[0].strip() if line.startswith('    ') else ''
        )
        for command in [block, *(code.strip() for code in re.findall(r'`([^`]+)`', line))]:
            if _COMMAND.match(command) and command not in found:
                found.append(command)
    return found


def command_line(command: str, how: Run, venv: str) -> list[str]:
    """The arguments of a command as it is run here."""
    for before, after in how.replace:
        command = command.replace(before, after)
    words = shlex.split(f'{command} {how.extra}')
    if words[0] == 'make':
        return [*words, f'VENV={venv}']
    return [f'{venv}/bin/python', *words[1:]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--venv', required=True, help='the virtual environment')
    parser.add_argument('--list', action='store_true', help='say what would be done')
    parser.add_argument('--only', default='', help='only commands that contain this')
    given = parser.parse_args()
    venv = os.path.abspath(given.venv)
    for command in readme_commands((ROOT / 'README.md').read_text(encoding='utf-8')):
        how = COMMANDS.get(command, Skip('.ci/readme_commands.py does not know it'))
        if given.only not in command:
            continue
        if isinstance(how, Skip):
            print(f'not run: {command}\n         ({how.reason})', flush=True)
            continue
        steps = [command_line(how.before, Run(), venv)] if how.before else []
        for words in [*steps, command_line(command, how, venv)]:
            print('$ ' + shlex.join(words), flush=True)
            began = time.monotonic()
            if not given.list and (code := subprocess.run(words, check=False).returncode):
                print(f'README.md: {command!r} ended with exit code {code}.', file=sys.stderr)
                return 1
            print(f'  ({time.monotonic() - began:.0f} s)', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
