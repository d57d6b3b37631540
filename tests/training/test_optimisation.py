import pytest
import torch
from torch.nn import functional

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture
from starsearch.families.network import build_model
from starsearch.recipe import Recipe
from starsearch.training.optimisation import Optimisation, make_loss, make_mixup, make_scheduler

TINY = Architecture.of(embed_dim=4, depths=(1, 1), mlp_ratio=2)


def learning_rates(recipe, *, steps_per_epoch):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.lr)
    scheduler = make_scheduler(optimizer, recipe, steps_per_epoch=steps_per_epoch)
    rates = [optimizer.param_groups[0]["lr"]]
    for step in range(1, steps_per_epoch * (recipe.epochs + recipe.cooldown_epochs)):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_the_warm_up_may_be_a_fraction_of_an_epoch():
    rates = learning_rates(Recipe(epochs=2, warmup_epochs=0.5, lr=1.0, warmup_lr=0.0), steps_per_epoch=10)
    assert rates[:6] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, rates[5]])
    assert max(rates) == rates[5]


def test_the_warm_up_takes_half_of_a_training_at_most():
    rates = learning_rates(Recipe(epochs=2, warmup_epochs=5, lr=1.0), steps_per_epoch=10)
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_linear_step_and_no_schedules_are_what_they_say():
    common = {"epochs": 3, "warmup_epochs": 0, "lr": 1.0, "min_lr": 0.0}
    linear = learning_rates(Recipe(schedule="linear", **common), steps_per_epoch=10)
    assert linear == pytest.approx([1 - step / 30 for step in range(30)])
    stepped = learning_rates(Recipe(schedule="step", **common), steps_per_epoch=10)
    assert stepped[::10] == pytest.approx([1.0, 0.1, 0.01])
    assert set(learning_rates(Recipe(schedule="none", **common), steps_per_epoch=10)) == {1.0}


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


def test_mixed_batches_have_soft_targets_that_sum_to_one():
    mixup = make_mixup(Recipe(mixup=0.8, cutmix=1.0), 5)
    _, targets = mixup(torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]))
    assert targets.shape == (4, 5)
    assert torch.allclose(targets.sum(1), torch.ones(4))
    assert make_mixup(Recipe(), 5) is None
    logits = torch.randn(4, 5)
    assert make_loss(Recipe(mixup=0.8))(logits, targets).item() == pytest.approx(
        functional.cross_entropy(logits, targets).item(), rel=1e-5
    )


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
