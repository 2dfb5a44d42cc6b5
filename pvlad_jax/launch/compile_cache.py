"""Compiled programs kept on disk, so that a resumed run starts without compiling."""

import hashlib
import platform
from pathlib import Path
from typing import Any

import jax
from etils import epath

from pvlad_jax.core.paths import is_remote, user_path


def use(where: str, workdir: Any) -> None:
    """config.compile_cache: 'workdir' = WORKDIR/compile_cache, another folder, or '' = none."""
    if not where:
        return
    if where == 'workdir':
        folder = workdir / 'compile_cache'
    else:
        folder = epath.Path(where) if is_remote(where) else user_path(where)
    if jax.default_backend() == 'cpu':
        # Programs for a CPU use its instructions; a working directory may move to a machine that lacks some of them.
        folder = folder / f'cpu-{_processor()}'
    jax.config.update('jax_compilation_cache_dir', str(folder))
    # Everything: small programs too take longer to compile than to read.
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)


def _processor() -> str:
    about = Path('/proc/cpuinfo')
    flags = (
        next((line for line in about.read_text().splitlines() if line.startswith(('flags', 'Features'))), '')
        if about.exists()
        else ''
    )
    return hashlib.sha256(f'{platform.machine()} {flags}'.encode()).hexdigest()[:12]
