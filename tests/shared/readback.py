"""Texts read back from packed rows by a loop: the truth packing is held to."""

import numpy as np


def places_of(tokens):
    """Row and columns of each text, looked for in the text's own block only."""
    rows, size = tokens.ids.shape[0] // tokens.blocks, len(tokens.slots) // tokens.blocks
    found = []
    for number, slot in enumerate(tokens.slots.tolist()):
        row, place = divmod(slot, tokens.texts_per_row)
        assert 0 <= row < rows, f"text {number} lies outside its block"
        row += number // size * rows
        found.append((row, np.flatnonzero(tokens.segments[row] == place + 1)))
    return found


def texts_of(tokens):
    """Vocabulary ids of each text, in order."""
    return [tokens.ids[row, columns].tolist() for row, columns in places_of(tokens)]
