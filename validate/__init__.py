"""Whether it is true: real kernels, calibration, published runs."""
