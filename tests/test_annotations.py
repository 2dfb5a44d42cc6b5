"""The tests check annotations: every module of both packages imports under jaxtyping's hook, and a wrong shape or type
ends a test.
"""

import importlib
import pkgutil
from types import ModuleType

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import data_prep
import pvlad_jax
from pvlad_jax.evaluation.blocks import padded_size
from pvlad_jax.losses.triplet import batch_hard_triplet
from tests.helpers import annotation_checks

# Commands that define absl flags of the same names as others do; `__main__` runs when it is imported.
NOT_IMPORTED = ('.contact_sheet', '.__main__')


def modules(package: ModuleType) -> list[ModuleType]:
    names = [found.name for found in pkgutil.walk_packages(package.__path__, f'{package.__name__}.')]
    return [importlib.import_module(name) for name in names if not name.endswith(NOT_IMPORTED)]


@pytest.mark.parametrize('package', [pvlad_jax, data_prep], ids=lambda p: p.__name__)
def test_every_module_imports_under_the_hook(package):
    found = modules(package)
    assert len(found) > 20
    assert not [module.__name__ for module in found if 'jaxtyping' not in type(module.__loader__).__module__]
    annotation_checks.make_all()
    # They name classes of modules that need an optional package.
    assert annotation_checks.unchecked <= {
        f'pvlad_jax.commands.gallery.{name}' for name in ('_open', '_note_unfinished')
    }


def test_a_wrong_shape_or_type_is_an_error():
    labels = jnp.array([0, 0, 1, 1])
    batch_hard_triplet(jnp.eye(4), labels, 1)  # an int is a float too (PEP 484)
    for embedding, ids in (
        (jnp.eye(5), labels),
        (jnp.eye(4)[0], labels),
        (jnp.eye(4), labels.astype(jnp.float32)),
        (np.eye(4), labels),
    ):
        with pytest.raises(jaxtyping.TypeCheckError):
            batch_hard_triplet(embedding, ids, 0.3)
    with pytest.raises(jaxtyping.TypeCheckError, match='n_gallery'):
        padded_size(2.5)
