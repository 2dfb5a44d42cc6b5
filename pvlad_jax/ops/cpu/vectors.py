"""How wide the vectors are that XLA:CPU computes with."""


def vector_options(platform: str) -> dict[str, int] | None:
    """Compiler options of jax.jit for programs that hold convolutions; None on other platforms.

    LLVM prefers vectors of 256 bits where a processor has 512, since some processors lower their clock for the latter.
    `direct_conv` takes nearly twice as long with the former; steps of R3D-18, I3D and r3d_tiny take as long with either
    (an AMD EPYC of the fourth generation; docs/notes/osnet_speed.md). A processor without them computes as before.
    """
    return {'xla_cpu_prefer_vector_width': 512} if platform == 'cpu' else None
