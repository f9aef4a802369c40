"""Who does the work: in this process, in worker processes, on a cluster, from a table."""
