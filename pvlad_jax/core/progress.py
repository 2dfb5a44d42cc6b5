"""How far a long job is: a line with counts and the time left, on standard error, where that is a terminal."""

import contextlib
from collections.abc import Callable, Iterator

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pvlad_jax.core.terminal import console, printable


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shows a line while the block runs. Gives a function to be called with the number finished since its last call.

    Args:
      what: what is counted, such as 'tracklets added'.
      total: how many there will be, None where it is unknown.
    """
    screen = console('stderr')
    if not screen.is_terminal:
        yield lambda done: None
        return
    columns = (
        TextColumn('{task.description}', markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn('left:'),
        TimeRemainingColumn(),
    )
    # Not redirected: the console writes to whatever sys.stderr is, and would write to itself.
    with Progress(*columns, console=screen, transient=True, redirect_stdout=False, redirect_stderr=False) as bar:
        task = bar.add_task(printable(what), total=total)
        yield lambda done: bar.advance(task, done)
