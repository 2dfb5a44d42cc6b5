"""python -m pvlad_jax COMMAND ...: the commands for users of a trained network."""

import sys

from pvlad_jax.commands.dispatcher import main

if __name__ == '__main__':
    sys.exit(main())
