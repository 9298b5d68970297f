"""What happened on this machine: boots, checks and events, in an SQLite database that only root may read.

`reading` is for whatever looks; `writing` is for the verbs alone. `docs/ledger.md` has the promises.
"""
