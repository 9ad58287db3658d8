"""Which parameters are the best, whenever the run ends."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.errors import FolderError
from contrastive.training.checkpoint import Checkpoints, Progress
from contrastive.training.step import TrainState


def state(step):
    """Its parameters say which step they are of."""
    params = {"encoder": {"x": jnp.full((3,), float(step))}, "temperature": {}}
    return TrainState(jnp.int32(step), jnp.int32(0), params, {"m": jnp.zeros(3)}, {})


LIKE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))

NOTHING = Progress()


def train(checkpoints, best, saved, progress=NOTHING, first=1):
    """Evaluates at each step, ever better up to the best; saves at some. Ends without a word."""
    for step in range(first, max(*best, *saved) + 1):
        progress = progress.after(float(step) if step in best else 0.0, step)
        if progress.best_step == step:
            checkpoints.save_best(state(step))
        if step in saved:
            checkpoints.save(state(step), {"next": step}, progress)
    checkpoints.wait()
    return progress


def best_of(checkpoints, progress):
    found = checkpoints.restore_best(state(99), progress).params["encoder"]["x"]
    np.testing.assert_array_equal(found, np.full(3, found[0]))
    return int(found[0])


@pytest.mark.parametrize("later", [[4], [4, 5], [4, 5, 6, 7]])
def test_the_best_that_the_latest_checkpoint_knows_of_is_kept(tmp_path, later):
    with Checkpoints(tmp_path, 2) as checkpoints:
        train(checkpoints, best=[1, 2, *later], saved=[1, 3])
    with Checkpoints(tmp_path, 2) as checkpoints:
        _, position, progress = checkpoints.resume(LIKE)
        assert (position, progress.best_step) == ({"next": 3}, 2)
        assert best_of(checkpoints, progress) == 2
        progress = train(checkpoints, best=[5, 6], saved=[6], progress=progress, first=4)
        assert best_of(checkpoints, progress) == 6


def test_no_more_than_two_are_kept(tmp_path):
    with Checkpoints(tmp_path, 2) as checkpoints:
        train(checkpoints, best=[1, 2, 3, 4, 5, 6], saved=[2, 4])
        assert sorted(path.name for path in (tmp_path / "best").iterdir()) == ["4", "6"]


def test_the_best_that_is_gone_is_not_replaced_by_another(tmp_path):
    with Checkpoints(tmp_path, 2) as checkpoints:
        progress = train(checkpoints, best=[1, 2, 3], saved=[1, 3])
    shutil.rmtree(tmp_path / "best" / "3")
    with Checkpoints(tmp_path, 2) as checkpoints:
        for wanted in (lambda: checkpoints.resume(LIKE), lambda: best_of(checkpoints, progress)):
            with pytest.raises(FolderError, match=r"that of step 3, whose parameters are not in"):
                wanted()


def test_without_an_evaluation_the_state_is_as_it_is(tmp_path):
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(state(5), {}, NOTHING)
        assert best_of(checkpoints, NOTHING) == 99
