"""Studies: many jobs from one YAML file.

`file` says which jobs there are, `state` where they stand and who has claimed one, `processes`
starts and ends them at their places, `runner` goes through all of them, `report` is what is read.
`slurm` submits workers, as `parameters` say; `submitted` is what each of them does, `workers` knows
which there are, and ends them.
"""
