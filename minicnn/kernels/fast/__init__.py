"""The fast kernels: the names and signatures of ``reference``, in Numba, on several threads. Read ``reference`` first."""
