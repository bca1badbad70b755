"""The reference kernels: plain NumPy, one file per operation, forward above backward. Read these first."""
