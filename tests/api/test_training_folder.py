from starsearch.api.training_job import TrainingFolder
from starsearch.progress import Progress


def told(epoch, top1):
    values = {"top1_percent": top1, "top5_percent": 90.0, "train_loss": 1 / 3, "learning_rate": 1e-3 / 7}
    return Progress(fraction=0.5, stage="validation", epoch=epoch, values=values | {"images_per_second": 123.4})


def test_of_epochs_that_tie_the_first_is_the_best_after_a_resume_too(tmp_path):
    """Its weights are those that are kept: 2/3 of 100 rounded to six digits is more than itself, 1/3 is less."""
    for name, top1 in (("up", 200 / 3), ("down", 100 / 3)):
        folder = TrainingFolder(tmp_path / name)
        folder.last.touch()  # without a state the log is of no training
        folder.add_epoch(told(1, top1 - 1))
        folder.add_epoch(told(2, top1))
        resumed = TrainingFolder(tmp_path / name)
        resumed.add_epoch(told(3, top1))
        assert resumed.best_row()["epoch"] == 2
        again = TrainingFolder(tmp_path / name)
        assert again.rows == resumed.rows
        assert again.best_row() == resumed.best_row()
        assert again.log.read_text().splitlines()[1].startswith("1,")
        folder.curve.close()
        resumed.curve.close()
