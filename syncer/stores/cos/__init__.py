"""IBM Cloud Object Storage as a source: an S3 bucket whose requests carry a token of IBM's IAM instead of a signature.

`source.py` is the store, `login.py` keeps a valid token at hand, `iam.py` asks IBM for tokens, `cache.py` keeps the
refresh token for a container that is started again.
"""

from syncer.stores.cos.source import CosSource

__all__ = ["CosSource"]
