"""What `import pvlad_jax` gives, and that no import of the package changes anything else."""

import subprocess
import sys

import pytest

import pvlad_jax

# Of the packages, scoring needs the smallest set of libraries.
NOT_FOR_SCORING = (
    'rich absl cv2 PIL tensorflow_datasets grain orbax tensorboardX flax optax ml_collections safetensors pyarrow'
).split()


def run(code: str) -> str:
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize('name', pvlad_jax.__all__)
def test_every_public_name_is_there(name):
    assert getattr(pvlad_jax, name) is not None and name in dir(pvlad_jax)


def test_the_package_alone_imports_nothing():
    assert run(
        'import sys, pvlad_jax; print("jax" in sys.modules, "numpy" in sys.modules, pvlad_jax.__version__)'
    ).split()[:2] == ['False', 'False']


def test_scoring_needs_numpy_scipy_and_jax_only():
    assert (
        run(f'import sys, pvlad_jax.evaluation; print([m for m in {NOT_FOR_SCORING} if m in sys.modules])').strip()
        == '[]'
    )


def test_importing_every_module_changes_no_threads_filters_or_flags():
    code = """
import importlib, logging, os, pkgutil, warnings
import absl.flags, absl.logging, cv2, jax, grain, orbax.checkpoint, scipy.sparse, tensorflow_datasets
import pvlad_jax
def seen():
    variables = {k: v for k, v in os.environ.items() if k.startswith(('TF_', 'XLA', 'JAX'))}
    return (cv2.getNumThreads(), [len(logging.getLogger(n).filters) for n in ('absl', 'asyncio', 'jax')],
            absl.logging.get_verbosity(), sorted(absl.flags.FLAGS), len(warnings.filters), variables,
            jax.config.jax_compilation_cache_dir)
before = seen()
for module in pkgutil.walk_packages(pvlad_jax.__path__, 'pvlad_jax.'):
    if not module.name.endswith('__main__'):
        importlib.import_module(module.name)
print(before == seen(), before, seen())
"""
    said = run(code)
    assert said.startswith('True'), said
