"""XLA options that compile in a third of the time; compilation is most of a test's time. Not for measuring anything."""

import importlib.metadata

OPTIONS: dict[str, int | bool] = {
    'xla_backend_optimization_level': 0,
    # Not cut into 32 parts that are compiled side by side: a fifth of the processor time, and the other core has the
    # other tests.
    'xla_cpu_parallel_codegen_split_count': 1,
}
if tuple(map(int, importlib.metadata.version('jaxlib').split('.')[:2])) < (0, 11):
    OPTIONS['xla_cpu_use_fusion_emitters'] = False  # gone since; XLA ends the process at a flag that it does not know


def xla_flags(devices: int) -> str:
    """The options as XLA_FLAGS, with `devices` virtual devices."""
    return ' '.join(
        [f'--xla_force_host_platform_device_count={devices}', *(f'--{k}={str(v).lower()}' for k, v in OPTIONS.items())]
    )
