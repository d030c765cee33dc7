"""Training: the same bits every time, also when interrupted; what cannot be learnt is said; recipes that learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from workers import progress
from workers.compressions.distill import Distill
from workers.compressions.qat import Qat
from workers.compressions.work import Work
from workers.data_sets.labelled import Labelled
from workers.errors import AttemptError, Cause, UnsupportedError
from workers.examples import Examples
from workers.recipes import parse_step
from workers.training import checkpoints as kept
from workers.training.batches import accuracy_of, batch_of, shuffled
from workers.training.budget import Budget
from workers.training.checkpoints import Checkpoints
from workers.training.distillation import Relation
from workers.training.losses import CrossEntropy
from workers.training.rounding import rounding_simulated
from workers.training.trainer import Trainer

NOWHERE = Checkpoints(None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So that tests beside each other do not wait for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def labelled(count: int = 60, classes: int = 3) -> Labelled:
    """Images of 1 x 4 x 4 whose brightest row, of the first so many, is their class."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, classes, count)
    images = generator.uniform(0, 0.5, (count, 1, 4, 4)).astype(np.float32)
    images[np.arange(count), 0, labels] += 1
    return Labelled({"image": images}, labels, tuple("abcdefgh"[:classes]))


def network(seed: int = 0, classes: int = 3, features: int = 12) -> torch.nn.Module:
    torch.manual_seed(seed)
    nn = torch.nn
    middle = (nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1))
    return nn.Sequential(*middle, nn.Linear(64, features), nn.ReLU(), nn.Linear(features, classes))


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == again and torch.equal(value, said) for (name, value), (again, said) in pairs)


def work_of(
    step: str, module: torch.nn.Module, teacher: torch.nn.Module | None = None, *, with_data: bool = True
) -> Work:
    data = labelled()
    examples = Examples({"image": data.inputs["image"][:2, np.newaxis]})
    return Work(
        module=module,
        step=parse_step(step),
        name="tiny",
        seed=0,
        examples=examples,
        calibration=examples,
        train=data if with_data else None,
        test=data.taken(np.arange(20)) if with_data else None,
        teacher=lambda: teacher,
        folder=Path(),
    )


class StopError(Exception):
    """A training is interrupted."""


def test_the_same_training_gives_the_same_bits_and_learns() -> None:
    data = labelled()
    one, other = network(), network()
    fitted = [Trainer(data, budget=Budget(epochs=8), test=data, rate=0.01).fit(module) for module in (one, other)]
    assert same(one, other)
    assert not one.training
    assert fitted[0].steps == fitted[1].steps == 8 * 7
    assert fitted[0].loss < fitted[0].loss_first
    assert fitted[0].accuracy == accuracy_of(one, data) > 0.9
    assert not same(network(), one)


def test_an_interrupted_training_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_PERIOD_S", 0.0)
    monkeypatch.setattr(kept, "_SHARE", np.inf)
    monkeypatch.setattr(progress, "_PERIOD_S", 0.0)
    straight = network()
    budget = Budget(epochs=3)
    Trainer(labelled(), budget=budget, checkpoints=NOWHERE).fit(straight)
    lines: list[str] = []

    def stop(line: str) -> None:
        lines.append(line)
        if len(lines) == 10:
            raise StopError

    with pytest.raises(StopError):
        Trainer(labelled(), budget=budget, progress=stop, checkpoints=Checkpoints(tmp_path)).fit(network())
    resumed = network()
    trainer = Trainer(labelled(), budget=budget, progress=lines.append, checkpoints=Checkpoints(tmp_path))
    fitted = trainer.fit(resumed)
    assert same(resumed, straight)
    assert fitted.steps == 21
    assert lines[10].startswith("epoch 2/3, step 3/7")  # the tenth step was not kept: it was told of first
    again = network()
    assert trainer.fit(again) == fitted  # read back, not run again
    assert same(again, straight)
    assert len(lines) == 10 + 12 + 2  # each ends with what it came to
    assert list(tmp_path.iterdir())
    trainer.forget()
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_that_cannot_be_read_is_no_checkpoint(tmp_path: Path) -> None:
    module = network()
    Trainer(labelled(), budget=Budget(epochs=1), checkpoints=Checkpoints(tmp_path)).fit(module)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    other = network()
    Trainer(labelled(), budget=Budget(epochs=1), checkpoints=Checkpoints(tmp_path)).fit(other)
    assert same(module, other)


def test_other_data_weights_or_budgets_are_other_trainings() -> None:
    keys = {
        kept.key_of(network(seed), labelled(count), Budget(epochs=epochs))
        for seed in (0, 1)
        for count in (40, 60)
        for epochs in (1, 2)
    }
    assert len(keys) == 8


def test_a_budget_in_seconds_ends_and_takes_one_step_at_least() -> None:
    fitted = Trainer(labelled(), budget=Budget(seconds=1e-9), checkpoints=NOWHERE).fit(network())
    assert fitted.steps == 1


@pytest.mark.parametrize(("step", "cause"), [("qat(epochs=2,lr=10)", Cause.USER), ("qat(epochs=2)", Cause.MODEL)])
def test_a_training_that_diverges_says_where(step: str, cause: Cause) -> None:
    module = network()
    if cause is Cause.MODEL:
        torch.nn.init.constant_(module[-1].bias, np.inf)
    with pytest.raises(AttemptError, match=r"diverged in epoch 1, step \d+ of 7: .* learning rate of") as caught:
        Qat().apply(work_of(step, module))
    assert (caught.value.cause, caught.value.code) == (cause, "diverged")


def test_what_was_pruned_stays_pruned() -> None:
    module = network()
    gone = torch.rand(module[5].weight.shape) < 0.5
    with torch.no_grad():
        module[5].weight[gone] = 0
        module[5].bias.zero_()  # a bias that is zero was not pruned
    Qat().apply(work_of("qat(epochs=1)", module))
    assert torch.equal(module[5].weight == 0, gone)
    assert (module[5].bias != 0).any()


def test_qat_hands_on_the_module_it_was_given() -> None:
    module, before = network(), network()
    Qat().apply(work := work_of("qat(epochs=1)", module))
    assert [type(layer) for layer in module.modules()] == [type(layer) for layer in before.modules()]
    assert module.state_dict().keys() == before.state_dict().keys()
    assert not module._forward_pre_hooks
    assert not same(module, before)
    assert work.facts["qat"]["layers"] == 3


def test_rounding_leaves_256_levels() -> None:
    module = network()
    values = torch.rand(5, 1, 4, 4)
    with rounding_simulated(module):
        module.train()(values)
        weight = module[0].weight
        scale = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        assert torch.allclose(weight / scale, (weight / scale).round(), atol=1e-3)
        seen: list[torch.Tensor] = []
        hook = module[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        module.eval()(torch.linspace(-1, 2, 16 * 99).reshape(99, 1, 4, 4))  # beyond the range that was seen
        hook.remove()
    assert len(seen[0].unique()) <= 256
    assert seen[0].min() >= -0.01
    assert seen[0].max() <= values.max() + 0.01


def test_nothing_to_round_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="tiny has no convolution or linear layer"):
        Qat().apply(work_of("qat", torch.nn.Flatten()))


def test_a_recipe_that_learns_needs_labelled_data() -> None:
    with pytest.raises(AttemptError, match="it needs labelled data: --data") as caught:
        Qat().apply(work_of("qat", network(), with_data=False))
    assert caught.value.cause is Cause.USER


@pytest.mark.parametrize(
    ("module", "error"),
    [
        (network(classes=2), "the data set has 3 classes, and the model answers with 2"),
        (torch.nn.Linear(7, 3), r"does not take the data set's examples \(image float32 \(1, 4, 4\)\)"),
        (torch.nn.Conv2d(1, 3, 1), "training knows classification"),
    ],
)
def test_data_that_does_not_fit_a_model(module: torch.nn.Module, error: str) -> None:
    with pytest.raises(AttemptError, match=error):
        Trainer(labelled(), budget=Budget(epochs=1), checkpoints=NOWHERE).fit(module)


@pytest.mark.parametrize("kind", ["response", "feature", "relation"])
def test_a_student_comes_nearer_to_its_teacher(kind: str) -> None:
    data = labelled()
    teacher = network(1, features=20)
    Trainer(data, budget=Budget(epochs=3), rate=0.01, checkpoints=NOWHERE).fit(teacher)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = network()
    work = work_of(f"distill(teacher,kind={kind},epochs=3,lr=0.01,alpha=0.9)", student, teacher)
    Distill().apply(work)
    facts = work.facts["distill"]
    assert facts["loss"] < facts["loss_first"]
    assert facts["teacher"] == "teacher"
    assert work.test is not None
    assert facts["teacher_accuracy"] == round(accuracy_of(teacher, work.test), 4)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert not any(layer._forward_pre_hooks for module in (student, teacher) for layer in module.modules())


@pytest.mark.parametrize(
    ("teacher", "code", "error"),
    [
        (network(classes=5), "other_classes", "teacher big has 5 classes, tiny has 3"),
        (torch.nn.Linear(7, 3), "other_inputs", r"teacher big does not take the inputs of tiny, float32 \(1, 4, 4\)"),
    ],
)
def test_a_teacher_of_something_else_teaches_nothing(teacher: torch.nn.Module, code: str, error: str) -> None:
    with pytest.raises(AttemptError, match=error) as caught:
        Distill().apply(work_of("distill(big)", network(), teacher))
    assert (caught.value.cause, caught.value.code) == (Cause.USER, code)


def test_a_student_that_is_its_teacher_has_no_relation_to_learn() -> None:
    module, data = network(), labelled()
    batch = batch_of(data, shuffled(data, 8, 0, 0)[0])
    loss = Relation(network(), len(data), alpha=1.0)
    with loss.watching(module.eval(), batch):
        assert loss(module(*batch.inputs), batch).item() == pytest.approx(0, abs=1e-6)
    assert loss.identity != CrossEntropy().identity
