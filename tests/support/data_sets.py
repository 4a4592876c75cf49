"""Data sets that tests read."""

import keras


class Fours(keras.utils.PyDataset):
    """Twelve samples of arrays in batches of four."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, index):
        part = slice(4 * index, 4 * index + 4)
        return tuple(array[part] for array in self.arrays)
