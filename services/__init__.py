"""The four services of the suite; each has the same files, so knowing one is knowing all."""
