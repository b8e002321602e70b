"""Compare tables with reference tables of the same study, at three levels.

    identical    every table has the same columns, types and values, to the last digit
    rounding     every run has the reference's losses, up to how another processor rounds
    consistent   losses differ no more than those of a second training with new random numbers

Each level includes the ones above it. Losses are compared by the logarithm of their ratio on
matched (seed, task) pairs, because a change in a method acts as a factor on all tasks alike. The
source of the tolerance, and what each level can detect: docs/statistics.md, "Verification".
"""
