"""Where the files of datasets come from, and whether they are all there."""
