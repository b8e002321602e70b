"""What an LSTM's engine is asked, for tests of algorithms and of engines."""

import torch

from metabench.learning.engine import lstm


def random_inputs(seed, units, dtype=torch.float64, stack=2, sequences=3, shots=4, points=6):
    """Random numbers for what an LSTM reads, for what it leaves out, and for one more cell."""
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    reading = numbers(stack, sequences, shots, 4 * units), numbers(stack, units, 4 * units) / 2
    known = torch.rand(stack, sequences, shots, generator=generator) < 0.7
    groups = stack * sequences
    last = numbers(groups, points, 4 * units), numbers(groups, 4 * units), numbers(groups, units)
    return reading, known, last


def everything_of(reading, known, last):
    """Everything that the engine computes of them, and the gradients."""
    state, tape = lstm.read(*reading, known)
    hidden, tape_of_last = lstm.last(*(part.clone() for part in last))
    along = lstm.State(state.cell.sin(), state.hidden.cos())
    back = lstm.read_back(tape, along), lstm.last_back(tape_of_last, hidden.sin())
    return *state, hidden, *(part for parts in back for part in parts)
