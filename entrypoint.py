"""What the image runs: `python entrypoint.py`, the same as the console script `syncer`."""

from syncer.entrypoint import main

if __name__ == "__main__":
    main()
