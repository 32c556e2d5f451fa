"""Brings a model to where a cluster serves it, proves every byte, and seals it.

The house on one screen. Data flows downwards, every arrow is a frozen value, and nothing below knows anything above::

    entrypoint  signal handlers first; the only module that exits   (entrypoint.py beside this package calls it)
    cli         the command line, thin                              commands   what each sub-command does
    uploading/  `syncer upload`: paths of a workstation to runs     gate       `syncer wait`
    job         the whole story on one page: read it first          attempts   several in one process, on one login
    several     many destinations, one after another                bringing   what happens at each of them
    ends        what a run has opened                               again      a finished destination as the next source
    partaking   one pod of several; by shares, in sharing/          bridge     a compression on the way; compressing/
    registering what a job does at the Model Registry               examining/ `syncer doctor`
    -----------------------------------------------------------------------------------------------------------
    plan        pure: what to copy, keep and remove, how to cut it  preflight  what is settled before the first byte
    copying     the chapter between plan and seal: carry and prove
    transfer    the engine: one pool, one budget, one stop switch   lane, schedule, flight, errands   its lanes' work
    window      digests of files whose parts arrive side by side    memory     the budget of every byte that we hold
    digests     what proves a file: SHA-256, CRC-64/NVME            bandwidth, tempo   how fast, and with how many lanes
    verify      comparing what should be there with what is         marker     the seal of a model's folder
    journal     what a killed run leaves for the next one           lease      one run at a time per destination
    report      termination message, Tekton results, exit code      progress, tables   what a person sees
    screen      where the progress of the moment is shown           metrics    what Prometheus sees of it
    -----------------------------------------------------------------------------------------------------------
    stores      where models come from and go to: protocols.py is the contract; s3/, cos/, huggingface/, directory/,
                oci/, uploaded and gathered keep it                 cluster/   the Kubernetes API, for uploads alone
                                                                    registration/   the Model Registry
    wire/       HTTP over pooled connections; knows no store        trust      which certificates are believed
    -----------------------------------------------------------------------------------------------------------
    settings/   environment -> Settings; secrets stay masked        manifest   the values that everybody speaks
    errors      classes by remedy, with exit codes                  retry      the one retry policy
    stop        what a signal or a deadline throws                  logs, redaction   one event per line, no secret

Importing this package, or any module of it, does nothing.
"""

__version__ = "0.1.0"
