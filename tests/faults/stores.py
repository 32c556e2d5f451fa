"""Every store with a table of its own, in the order of docs/reliability.md; a new one is one line here."""

from tests.faults import directory, s3
from tests.faults.frame import Store

STORES: dict[str, Store] = {store.key: store for module in (s3, directory) for store in module.STORES}
