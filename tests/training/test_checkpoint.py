"""Which parameters are the best, whenever the run ends."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.errors import FolderError
from contrastive.training.checkpoints import Checkpoints
from contrastive.training.progress import Progress
from contrastive.training.step import TrainState


def state(step):
    """Its parameters say which step they are of."""
    params = {"encoder": {"x": jnp.full((3,), float(step))}, "temperature": {}}
    return TrainState(jnp.int32(step), jnp.int32(0), params, {"m": jnp.zeros(3)}, {})


LIKE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state(0))

NOTHING = Progress.start(1)


def train(checkpoints, best, saved, progress=NOTHING, first=1):
    """Evaluates at each step, ever better up to the best; saves at some. Ends without a word."""
    for step in range(first, max(*best, *saved) + 1):
        value = float(step) if step in best else 0.0
        progress, (improved,) = progress.after([value], step, patience=None)
        if improved:
            checkpoints.save_best(step, state(step).params)
        if step in saved:
            checkpoints.save(step, state(step), {"next": step}, progress)
    checkpoints.wait()
    return progress


def best_of(checkpoints, progress):
    found = checkpoints.restore_best(LIKE.params, progress)["encoder"]["x"]
    np.testing.assert_array_equal(found, np.full(3, found[0]))
    return int(found[0])


@pytest.mark.parametrize("later", [[4], [4, 5], [4, 5, 6, 7]])
def test_the_best_that_the_latest_checkpoint_knows_of_is_kept(tmp_path, later):
    with Checkpoints(tmp_path, 2) as checkpoints:
        train(checkpoints, best=[1, 2, *later], saved=[1, 3])
    with Checkpoints(tmp_path, 2) as checkpoints:
        step, _, position, progress = checkpoints.resume(LIKE)
        assert (step, position, progress.best_step) == (3, {"next": 3}, (2,))
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


def test_each_run_of_a_sweep_has_a_best_and_a_patience_of_its_own():
    progress = Progress.start(3)
    values = [(1.0, 3.0, None), (2.0, 2.0, None), (1.5, 1.0, None), (9.0, 9.0, None)]
    improved = []
    for step, each in enumerate(values, start=1):
        progress, better = progress.after(each, step, patience=2)
        improved.append(better)
    # The second run's patience was over after two evaluations that were worse: 9 comes too late.
    assert improved == [
        [True, True, False],
        [True, False, False],
        [False] * 3,
        [True] + [False] * 2,
    ]
    assert progress.best == (9.0, 3.0, None)
    assert progress.best_step == (4, 1, 0)
    assert progress.saved_step == 4
    assert not progress.is_over(2)
    assert not progress.is_over(None)
    progress, _ = progress.after((0.0, 0.0, None), 5, patience=2)
    progress, _ = progress.after((0.0, 0.0, None), 6, patience=2)
    assert progress.is_over(2)


def test_a_score_that_is_not_a_number_is_never_the_best():
    progress, improved = NOTHING.after([float("nan")], 1, patience=None)
    assert (progress.best, improved) == ((None,), [False])
    progress, improved = progress.after([0.1], 2, patience=None)
    assert (progress.best, progress.best_step, improved) == ((0.1,), (2,), [True])
    progress, improved = progress.after([float("inf")], 3, patience=None)
    assert (progress.best, improved) == ((0.1,), [False])
