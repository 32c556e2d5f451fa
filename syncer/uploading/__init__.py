"""The story of `syncer upload`: files of a workstation, into the bucket that a cluster serves its models from.

Which paths belong together (`paths`), where they go (`target`, which asks the cluster when the environment does not
say), one run of `job.sync` for each model, and what came of it (`showing`, `finishing`).  The runs are those of every
other source: the same engine, proof, manifest and seal, so that an interrupted upload resumes when it is started again.
"""

from syncer.uploading.story import Scene, Uploaded, Wish, upload

__all__ = ["Scene", "Uploaded", "Wish", "upload"]
