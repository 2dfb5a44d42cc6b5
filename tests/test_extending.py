"""The examples of docs/extending.md work as they stand, and are short."""

import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import simplejpeg
from absl import flags
from rich.console import Console

from configs.default import get_config
from data_prep import build_tfds
from data_prep.datasets import DATASETS
from pvlad_jax.config import freeze
from pvlad_jax.core.errors import UserError
from pvlad_jax.data.dataset_format import FOLDER_VERSION
from pvlad_jax.data.tracklet_dataset import TrackletDataset
from pvlad_jax.losses.total import WeightedTerm, total_loss
from pvlad_jax.models.pooling import POOLINGS, build_pooling
from pvlad_jax.models.pooling.interface import merge_clips

PAGE = Path(__file__).resolve().parents[1] / 'docs' / 'extending.md'


def example(heading: str) -> dict[str, Any]:
    """The names that the code under a heading defines."""
    section = PAGE.read_text(encoding='utf-8').partition(f'\n## {heading}\n')[2].partition('\n## ')[0]
    code = re.search(r'```python\n(.*?)```', section, re.DOTALL)[1]
    assert code.count('\n') < 30
    names: dict[str, Any] = {'__name__': 'example'}
    exec(compile(code, f'{PAGE.name}: {heading}', 'exec'), names)
    return names


def test_a_backbone():
    spec = example('A backbone')['SPECS']['plain']
    module, clips = spec.build(), jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 32, 16, 3)), jnp.float32)
    valid = jnp.array([[True, True, False], [True, True, True]])
    variables = jax.jit(partial(module.init, train=False))(jax.random.key(0), clips, valid)
    run = jax.jit(partial(module.apply, train=False))
    assert tuple(variables['params']) == spec.layers
    x, after = run(variables, clips, valid)
    assert x.shape[1:] == (3, *(size // stride for size, stride in zip((32, 16), spec.strides()[1:])), spec.channels)
    changed, _ = run(variables, clips.at[0, 2].set(9.0), valid)
    np.testing.assert_array_equal(x, changed)  # a masked frame changes nothing
    np.testing.assert_array_equal(after, valid)


def test_a_pooling(monkeypatch):
    monkeypatch.setitem(POOLINGS, 'generalised_mean', example('A pooling')['GeneralisedMean'])
    config = get_config('pooling=generalised_mean')
    pooling = build_pooling(freeze(config).model)
    x = jnp.asarray(np.abs(np.random.default_rng(0).standard_normal((4, 3, 2, 2, 5))), jnp.float32)
    statistics, _ = pooling.apply({}, x, jnp.ones((4, 3), bool))
    found = pooling.finish(merge_clips(statistics, pooling.merge, 2))  # two videos of two clips
    by_hand = np.mean(np.asarray(x, np.float64).reshape(2, -1, 5) ** 3, axis=1) ** (1 / 3)
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)
    assert found.shape[1] == pooling.size(5)


def test_a_loss():
    term = example('A loss')['ContrastiveLoss'](freeze(get_config()).loss)
    far, near = jnp.eye(4), jnp.asarray([[1, 0], [1, 0], [0, 1], [0, 1]], jnp.float32)
    labels = jnp.array([0, 0, 1, 1])

    def value(embedding):
        return total_loss(
            {'contrastive': WeightedTerm(2.0, term)}, SimpleNamespace(embedding=embedding), labels, {}, {}
        )

    assert float(value(near)[0]) == 0
    loss, metrics, _ = value(far)
    assert float(loss) == 2 * float(metrics['loss_contrastive']) == 2
    assert float(metrics['contrastive_pull']) == 1


def test_a_data_set(tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, 'parade', example('A data set')['SOURCE'])
    frame = simplejpeg.encode_jpeg(np.full((16, 8, 3), 90, np.uint8))
    for folder in ('train_1_1', 'train_2_1', 'query_3_1', 'gallery_3_2'):
        (tmp_path / 'raw' / folder).mkdir(parents=True)
        for number in range(3):
            (tmp_path / 'raw' / folder / f'{number:04d}.jpg').write_bytes(frame)

    def build(*arguments: str) -> None:
        values = flags.FlagValues()
        build_tfds.define_flags(values)
        values(['', '--dataset=parade', f'--source={tmp_path / "raw"}', f'--data_dir={tmp_path / "data"}', *arguments])
        build_tfds.run(values, Console(quiet=True))

    build()
    dataset = TrackletDataset(tmp_path / 'data' / 'parade' / FOLDER_VERSION)
    assert {split: len(table) for split, table in dataset.tables.items()} == {'train': 2, 'query': 1, 'gallery': 1}
    with pytest.raises(UserError, match='people in train: expected 3, found 2'):
        build('--documented_people=3', '--name=other')
