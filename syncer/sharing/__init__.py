"""Several pods share the work of one run: an Indexed Job, whose pods have nothing in common but the destination.

`board.py` is what they tell each other, `carrying.py` how one share is carried, `leading.py` what index 0 does beside
that, and `following.py` what the others do.
"""
