"""3D convolution for XLA:CPU, whose own runs on one thread and naively; `pvlad_jax.ops` chooses it by platform.

| module | what it holds |
|---|---|
| `conv3d` | the convolution and its gradients: a sum over temporal taps, or Winograd's filtering |
| `frame_conv` | the 2D convolution of every frame, with frames side by side so that all threads are used |
| `kernel_gradient` | the gradient of a kernel as matrix products |
| `winograd_time`, `winograd_height` | minimal filtering: fewer products for the same sums |
| `depthwise` | depthwise 3x3 convolution as sums of shifted products |
| `threads` | how many threads layouts are chosen for |

Everything is the same function as XLA's up to rounding; method, exactness and measurements:
docs/notes/cpu_convolution.md.
"""
