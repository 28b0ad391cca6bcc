"""Workers: processes that lease due work, run it and settle it.

coordinator fills the slots, runner executes one lease, settler writes results in groups, supervisor keeps
the processes of one host alive, main is one process.
"""
