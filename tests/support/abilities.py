"""What a bench of the contract suite can do; most can do everything."""


class Able:
    """`parts_in_any_order`: parts of one file go side by side.  `resumes_within_files`: a later process goes on with a
    file that was not finished.  `holds_any_path`: others may put paths with a `.syncer` component anywhere.
    `keeps_control_files`: what is written below `.syncer/` lies there for others to see.
    `rewinds`: a part that was finished may come once more.  `outlives_a_cut`: an upload goes on after a part that was
    given up half-way.
    """

    parts_in_any_order = True
    resumes_within_files = True
    holds_any_path = True
    keeps_control_files = True
    rewinds = True
    outlives_a_cut = True
