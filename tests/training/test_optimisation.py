import pytest
import torch
from torch.nn import functional

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture
from starsearch.families.network import build_model
from starsearch.recipe import Recipe
from starsearch.training.optimisation import Optimisation, make_scheduler

TINY = Architecture.of(embed_dim=4, depths=(1, 1), mlp_ratio=2)


def learning_rates(recipe, *, steps_per_epoch):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = make_scheduler(optimizer, recipe, steps_per_epoch=steps_per_epoch)
    rates = [optimizer.param_groups[0]["lr"]]
    for step in range(1, steps_per_epoch * (recipe.epochs + recipe.cooldown_epochs)):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_schedules_and_the_warm_up_are_what_they_say():
    common = {"epochs": 3, "warmup_epochs": 0, "lr": 1.0, "min_lr": 0.0}
    linear = learning_rates(Recipe(schedule="linear", **common), steps_per_epoch=10)
    assert linear == pytest.approx([1 - step / 30 for step in range(30)])
    stepped = learning_rates(Recipe(schedule="step", **common), steps_per_epoch=10)
    assert stepped[::10] == pytest.approx([1.0, 0.1, 0.01])
    assert set(learning_rates(Recipe(schedule="none", **common), steps_per_epoch=10)) == {1.0}
    rates = learning_rates(Recipe(epochs=2, warmup_epochs=0.5, lr=1.0, warmup_lr=0.0), steps_per_epoch=10)
    assert rates[:6] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, max(rates)])
    rates = learning_rates(Recipe(epochs=2, warmup_epochs=5, lr=1.0), steps_per_epoch=10)
    assert (rates[:10], rates[9:]) == (sorted(rates[:10]), sorted(rates[9:], reverse=True)), "half of the training"


def test_a_step_is_the_one_written_out_with_torch():
    torch.manual_seed(0)
    model, reference = build_model(TINY, num_classes=3), build_model(TINY, num_classes=3)
    reference.load_state_dict(model.state_dict())
    recipe = Recipe(
        lr=0.1, optimizer="momentum", momentum=0, weight_decay=0, schedule="none", warmup_epochs=0, clip_grad=0.5
    )
    images, targets = torch.randn(8, 3, 32, 32), torch.randint(0, 3, (8,))
    loss = Optimisation(model, recipe, steps_per_epoch=1).step(images, targets)
    expected = functional.cross_entropy(reference(images), targets, label_smoothing=0.1)
    expected.backward()
    torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for parameter, other in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(parameter, other - 0.1 * other.grad, atol=1e-5)


def test_the_moving_average_is_what_is_judged():
    model = build_model(TINY, num_classes=3)
    optimisation = Optimisation(model, Recipe(ema_decay=0.9), steps_per_epoch=10)
    for _ in range(3):
        optimisation.step(torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))
    assert optimisation.judged_model is not model
    assert not torch.equal(optimisation.judged_model.head.weight, model.head.weight)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe(optimizer="adamww"), r"no optimizer 'adamww'\. Did you mean 'adamw'"),
        (Recipe(optimizer="sgd", momentum=0), "'sgd' does not take this recipe: Nesterov"),
        (Recipe(mixup=0.8, batch_size=33), "batch_size is even; got 33"),
    ],
)
def test_a_recipe_that_cannot_be_carried_out_is_the_candidates_fault(recipe, words):
    with pytest.raises(EvaluationError, match=words):
        Optimisation(build_model(TINY), recipe, steps_per_epoch=1)
