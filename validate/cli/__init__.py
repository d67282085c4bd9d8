"""Commands of ``meshwright`` that run real kernels."""
