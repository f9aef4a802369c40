"""What a candidate costs on a device: counted, measured under a lease, or known from a profile."""
