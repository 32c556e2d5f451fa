"""Brings a model to where a cluster serves it, proves every byte, and seals it.

The house on one screen. Data flows downwards, every arrow is a frozen value, and nothing below knows anything above::

    entrypoint  signal handlers first, then the command line; the only place that exits (entrypoint.py calls it)
    cli         the command line, thin                           commands what each sub-command does
    job         the whole story on one page: read it first
    plan        pure: what to copy, what to keep, how to cut it
    transfer    the engine: one pool, one memory budget (memory), in-order hashing (window), one stop switch
    verify      digests and sizes at the destination; a wrong file is copied once more, then named
    marker      what seals a model folder: .syncer/manifest.json and .syncer/complete.json
    journal     what a killed run leaves for the next one        lease   one run at a time per folder
    report      termination message, Tekton results, exit code   progress   what a person sees meanwhile
    stores      where models come from and go to: protocols.py is the contract, one module per kind of store
    wire        pooled http.client connections; knows no store   trust   which certificates are believed
    settings    environment -> Settings; secrets stay masked
    manifest    the values that everybody speaks                 errors  classes by remedy, with exit codes
    stop        SIGTERM switch and deadline                      retry   the one retry policy     logs   structured logs

Importing this package, or any module of it, does nothing.
"""

__version__ = "0.1.0"
