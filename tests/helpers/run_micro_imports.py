"""Imported by the process that runs of the micro experiment are forked from: all that a run imports, without a JAX
backend.
"""

import os

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['TF_CPP_MIN_LOG_LEVEL'] = '2'

import grain  # noqa: F401
import orbax.checkpoint  # noqa: F401
import tensorboardX  # noqa: F401  imports PyTorch where it is installed: seconds

import main  # noqa: F401
from pvlad_jax.runs import evaluate, run, splits, train  # noqa: F401
from tests.helpers import micro, run_micro  # noqa: F401
