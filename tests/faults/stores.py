"""Every store with a table of its own, in the order of docs/reliability.md; a new one is one line here."""

from tests.faults import directory, hub, iam, model_registry, registry, s3
from tests.faults.frame import Store

_MODULES = (s3, directory, registry, hub, iam, model_registry)

STORES: dict[str, Store] = {store.key: store for module in _MODULES for store in module.STORES}
