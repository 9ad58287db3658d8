"""A checkpoint with one wrong bit is restored exactly, given up for an earlier one, or refused."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from faults import files, flip_a_bit, seeds

from contrastive.errors import FolderError
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.progress import Progress
from contrastive.training.step import TrainState


def state(step):
    values = np.random.default_rng(step).normal(size=(8, 8)).astype(np.float32)
    params = {"encoder": {"x": jnp.asarray(values)}, "temperature": {}}
    return TrainState(jnp.int32(step), jnp.int32(0), params, {"m": jnp.asarray(values)}, {})


LIKE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Checkpoints of steps 3 and 6, each of which is the best when it is written."""
    folder = tmp_path_factory.mktemp("written")
    progress = Progress.start(1)
    with Checkpoints(folder, 2) as checkpoints:
        for step in (3, 6):
            progress, _ = progress.after([float(step)], step, None)
            checkpoints.save_best(step, state(step).params)
            checkpoints.save(step, state(step), {"next": step}, progress)
        checkpoints.save_raised(1)
        checkpoints.wait()
    return folder


def same(a, b):
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def resumed(folder):
    """The step that training resumes from; everything that is restored must be of that step."""
    with Checkpoints(folder, 2) as checkpoints:
        step, restored, position, progress = checkpoints.resume(LIKE)
        assert same(restored, state(step))
        assert position == {"next": step}
        assert progress.best == (float(step),)
        assert same(checkpoints.restore_best(LIKE.params, progress), state(step).params)
        assert checkpoints.raised() == 1
        return step


def test_intact_checkpoints_are_resumed(written, capfd):
    assert resumed(written) == 6
    assert "damaged" not in capfd.readouterr().err


@pytest.mark.parametrize("seed", seeds(12))
def test_a_flipped_bit_is_never_silent(written, tmp_path, capfd, seed):
    folder = shutil.copytree(written, tmp_path / "flipped")
    where = flip_a_bit(folder, seed)
    refused = ""
    try:
        step = resumed(folder)
    except FolderError as error:
        refused = str(error)
    notice = capfd.readouterr().err
    if refused:
        assert str(folder) in refused, where
    else:
        assert step == 6 or "training resumes from step 3, 3 steps earlier" in notice, where


@pytest.mark.parametrize("name", ["latest", "best"])
def test_a_damaged_array_loses_the_steps_after_the_checkpoint_before(
    written, tmp_path, capfd, name
):
    folder = shutil.copytree(written, tmp_path / "flipped")
    largest = max(files(folder / name / "6"), key=lambda path: path.stat().st_size)
    flip_a_bit(largest.parent, seed=0)
    assert resumed(folder) == 3
    notice = capfd.readouterr().err
    assert "the checkpoint of step 6 is damaged" in notice
    assert resumed(folder) == 3
    assert "damaged" not in capfd.readouterr().err


def test_no_checkpoint_is_touched_if_all_are_damaged(written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "flipped")
    for step in ("3", "6"):
        flip_a_bit(folder / "latest" / step / "state" / "d", seed=0)
    with pytest.raises(FolderError, match=r"every checkpoint in .*latest is damaged"):
        resumed(folder)
    assert {path.name for path in (folder / "latest").iterdir()} >= {"3", "6"}


def test_checkpoints_of_earlier_versions_have_no_digests(written, tmp_path):
    folder = shutil.copytree(written, tmp_path / "older")
    for manifest in folder.rglob("digests.json"):
        manifest.unlink()
    assert resumed(folder) == 6
