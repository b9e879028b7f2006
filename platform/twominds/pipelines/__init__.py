"""Ray Data, Train and Tune around the layers below: one file per job."""
