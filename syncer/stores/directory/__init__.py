"""Folders of mounted volumes (a PVC, a workstation's disk) as source and destination.

`place` opens safely, `survey` lists, `names` judges names, `body` reads, `parts` and `upload` write, `placing` gives
the names, `control` keeps the small files, `faults` translates errors; `source` and `destination` are what the
contract asks for.
"""

from syncer.stores.directory.destination import DirectoryDestination
from syncer.stores.directory.source import DirectorySource

__all__ = ["DirectoryDestination", "DirectorySource"]
