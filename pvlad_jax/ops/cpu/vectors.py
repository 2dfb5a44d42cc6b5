"""How wide the vectors are that XLA:CPU computes with."""


def vector_options(platform: str) -> dict[str, int] | None:
    """Compiler options of jax.jit for programs that hold convolutions; None on other platforms.

    LLVM prefers vectors of 256 bits where a processor has 512, since some processors lower their clock for the latter.
    `direct_conv` takes half as long again with the former, and no other loop of a training step takes longer with the
    latter (an AMD EPYC of the fourth generation). A processor without them computes as before.
    """
    return {'xla_cpu_prefer_vector_width': 512} if platform == 'cpu' else None
