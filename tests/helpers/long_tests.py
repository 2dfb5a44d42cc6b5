"""Tests that take half a minute each and add little to the others."""

import os

import pytest

LONG = pytest.mark.skipif('LONG_TESTS' not in os.environ, reason='half a minute; set LONG_TESTS=1 to run it')
