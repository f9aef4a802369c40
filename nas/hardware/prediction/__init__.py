"""What a device that cannot be asked would take: kernels, a fitted law, intervals that hold."""
