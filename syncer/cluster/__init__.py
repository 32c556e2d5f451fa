"""The Kubernetes API, as far as an upload from a workstation needs it: the only package that knows its client.

`kubeconfig` finds out which cluster and as whom, `login` fetches the token, `api` asks, and `doors` finds the way from
outside to a service inside.
`docs/decisions/kubernetes-client.md` says why the client is lightkube.
"""

from syncer.cluster.api import Cluster
from syncer.cluster.doors import Door, door_to
from syncer.cluster.held import HeldFile
from syncer.cluster.kubeconfig import Access, find_access

__all__ = ["Access", "Cluster", "Door", "HeldFile", "door_to", "find_access"]
