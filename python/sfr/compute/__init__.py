"""Who works: units of work, what of this machine is ours, its processes, a Dask cluster."""
