"""Compressing a model: llmcompressor in a process of its own, from one folder to another.

`folder.py` is the story, `child.py` starts and hears the process, `worker.py` and `library.py` are that process (torch
is imported there and nowhere else), `task.py` what the two tell each other.  `weights.py` and `room.py` look at a model
before anything is loaded, `samples.py` reads what calibrates, `recipe.py` says what was done.
"""
