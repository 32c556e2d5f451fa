"""Images: a ModelCar in a registry or in an archive, as a place that models go to and come from.

| what | where |
|---|---|
| both ends | `source.py`; `destination.py` (a registry), `archive_destination.py` (a file) |
| what both read | `depot.py`: where manifests and blobs lie, which is a `registry.py` or an `archive.py` |
| our image | `layers.py` (a file), `images.py` (what tells of them), `bases.py` (what it is put upon), `names.py` |
| on the way | `uploads.py` into a registry; `archive_upload.py` and `growing.py` into a file |
| a killed run | `control.py` (the `.syncer` folder, a view), `leftovers.py` (finished files, under a tag beside) |
| registries | `session.py` (requests, redirects), `login.py` (tokens), `refusals.py` (what an answer means) |
| others' images | `documents.py`, `layout.py` (who made it), `members.py` (tar), `streams.py` (gzip), `unpacking.py` |
"""
