"""The runtime: runs programs on live actors. Knows nothing of the compiler but `cgc.runtime.program`."""
