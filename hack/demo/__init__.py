"""`make demo`: the main job on a real model, on this machine alone.

Starts the servers that a story needs, publishes a real model there, and runs `entrypoint.py` with exactly the arguments
and the environment that a Job of `job-templates/` would get.  The result is verified by the program and, not trusting
it, byte by byte by these scripts.  A second run must copy nothing.  Everything that is left to look at lies in `demo/`.

One story for each kind of source: `from_s3`, `from_cos`, `from_hub`, `from_workstation`; and `from_pipeline`, whose
steps are Tekton's.
"""
