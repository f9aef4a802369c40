"""Depthwise convolutions with kernels of any size, forward and backward at the speed they can have.

`convolution.convolve_quickly` is the layer's function. `geometry` crops kernels to what a map can
meet; each exact method has a file: `direct`, `toeplitz`, `bands` (stripes, and the pooled sums of
shared peripheries), `fourier`, `tiled` (Triton); `choice` takes the fastest for shape, device and
pass, and `kept` remembers it for every process of this computer.
"""
