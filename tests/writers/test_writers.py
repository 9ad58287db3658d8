from contrastive.writers import TensorBoard, Writer


def test_tensorboard_gets_the_numbers(tmp_path):
    writer = TensorBoard().open(tmp_path, "run", 0)
    writer.write(1, {"loss": 2.5, "temperature": 0.02})
    writer.close()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"temperature" in events.read_bytes()


def test_writers_without_settings_may_be_given_by_name(tmp_path):
    from contrastive.config import Experiment

    named = Experiment(name="x", writers=("tensorboard", "wandb")).writers
    assert [type(writer).__name__ for writer in named] == ["TensorBoard", "WandB"]
    built_in = [kind for kind, writer in Writer.known().items() if writer.is_built_in()]
    assert built_in == ["tensorboard", "wandb"]
