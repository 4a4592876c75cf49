"""Write `tests/files/<version>/<backend>/`: models that were trained and saved.

Run it once per backend, with the version that the files are to hold, and with
the lowest Keras that is allowed: an older Keras does not load a newer one's.

    KERAS_BACKEND=jax PYTHONPATH=tests python tests/files/make.py [FOLDER]

Another folder than this one serves to compare versions of Keras: the tests read
it where `LOSSKIT_FILES` names it.
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import keras
from support import saved_models

import keras_losskit as losskit

FILES = Path(__file__).parent


def packed(path, members):
    """Write an archive of compressed members: h5 is mostly gaps."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            # Without the time, so that the same content is the same file.
            archive.writestr(zipfile.ZipInfo(name), content, 8)


def unpacked(path):
    """The members of an archive, `{name: content}`."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def make(name, folder):
    """Train a model and save it.

    Returns its weights, as the content of a `.weights.h5` file, and its logs as
    it goes on.
    """
    keras.utils.set_random_seed(0)
    model, x, y = saved_models.MODELS[name]()
    saved_models.train(model, x, y, epochs=2)
    path = folder / f"{name}.keras"
    model.save(path)
    packed(path, unpacked(path))
    with tempfile.TemporaryDirectory() as aside:
        weights = Path(aside) / "of.weights.h5"
        model.save_weights(weights)
        content = weights.read_bytes()
    return content, saved_models.logs_of(model, x, y)


def main(files=FILES):
    folder = Path(files) / losskit.__version__ / keras.config.backend()
    folder.mkdir(parents=True)
    weights, logs = {}, {}
    for name in saved_models.MODELS:
        weights[f"{name}.weights.h5"], logs[name] = make(name, folder)
    packed(folder / "weights.zip", weights)
    (folder / "logs.json").write_text(json.dumps(logs, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
