"""A run that must be refused, for tests of what is then said."""

import main


def fails(capfd, config, workdir, mode='train') -> str:
    """The message of a run that must end with exit code 2 and no traceback."""
    assert main.run(config, workdir, mode) == 2
    said = capfd.readouterr()
    assert said.err.startswith('Error: ') and 'Traceback' not in said.err + said.out
    return said.err
