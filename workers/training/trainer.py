"""The training loop that all recipes that learn share. Imports torch: for children only."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from workers.errors import AttemptError, Cause
from workers.examples import Array
from workers.progress import Seldom, tell
from workers.training.batches import accuracy_of, answer, batch_of, batch_size, check_fits, shuffled
from workers.training.budget import Budget
from workers.training.checkpoints import Checkpoints, key_of
from workers.training.losses import CrossEntropy, Loss

if TYPE_CHECKING:
    from workers.compressions.work import Work
    from workers.data_sets.labelled import Labelled

#: Test examples that are looked at after each epoch.
_TESTED = 1000
#: A training whose last losses come to so many times what guessing costs learns nothing any more.
_RECENT = 20
_DIVERGED = 10.0


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What a training came to."""

    epochs: float
    steps: int
    #: Those of earlier attempts, whose checkpoint it went on from, included.
    seconds: float
    rate: float
    #: Of the first batch, and the mean of the last ones.
    loss_first: float
    loss: float
    #: Share of the test examples that are answered right, and how many were asked; None without test data.
    accuracy: float | None
    tested: int

    def facts(self) -> dict[str, Any]:
        """As facts of an artifact."""
        return {name: _rounded(value) for name, value in asdict(self).items()}


class Trainer:
    """Trains modules on labelled data: AdamW, a rate that falls to nothing along a cosine, seeded shuffling.

    The same weights, data, budget in epochs, rate and seed give the same bits, on as many threads.
    """

    def __init__(
        self,
        train: Labelled,
        *,
        budget: Budget,
        test: Labelled | None = None,
        rate: float = 1e-3,
        seed: int = 0,
        batch: int | None = None,
        keep_zeros: bool = False,
        progress: Callable[[str], None] = tell,
        title: str = "",
        checkpoints: Checkpoints | None = None,
    ) -> None:
        """Nothing is trained before `fit`.

        Args:
            train: what is learnt from.
            budget: of each `fit`.
            test: what the accuracy is taken on, after each epoch; nothing is chosen by it.
            rate: learning rate at the beginning.
            seed: of the order of examples and of dropout.
            batch: examples of one step; None: as many as are no burden.
            keep_zeros: weights that are zero stay zero, so that a pruned module stays pruned.
            progress: told how far it is, in one line, once a second; by default whoever looks at this attempt.
            title: what the line begins with.
            checkpoints: where interrupted trainings are kept; None: on this host, as its agent says.
        """
        self._train, self._test = train, test
        self.budget = budget
        self._rate, self._seed = rate, seed
        self._size = batch_size(train) if batch is None else min(batch, len(train.labels))
        self._keep_zeros = keep_zeros
        self._progress, self.title = progress, title
        self._checkpoints = Checkpoints.of_host() if checkpoints is None else checkpoints
        #: Whose fault it is when the training diverges.
        self._cause = Cause.MODEL

    @classmethod
    def of(cls, work: Work, *, epochs: float = 1.0, rate: float = 3e-4) -> Trainer:
        """As a step of a recipe says; so many epochs at such a rate where it does not.

        Raises:
            AttemptError: there is nothing to learn from.
        """
        if work.train is None:
            message = (
                f"{work.step.name} learns, and {work.name} has no data to learn from: it needs labelled data: --data"
            )
            raise AttemptError(Cause.USER, "no_data", message)
        given = work.step.get("lr")
        trainer = cls(
            work.train,
            budget=Budget.of(work.step, epochs),
            test=work.test,
            rate=rate if given is None else float(given),
            seed=work.seed,
            keep_zeros=True,
            progress=work.progress,
        )
        trainer._cause = Cause.MODEL if given is None else Cause.USER
        return trainer

    def fit(self, module: torch.nn.Module, loss: Loss | None = None) -> Fitted:
        """Train a module in place, and leave it as it is used: not in training.

        A training that an earlier attempt on this host began is gone on with; one that it finished is not run again.

        Args:
            module: takes a batch's inputs in order, answers with scores (examples, classes).
            loss: what is made small; None: the cross-entropy of the labels.

        Raises:
            AttemptError: the data does not fit the module, or the training diverged.
            UnsupportedError: the module is no classifier.
        """
        loss = loss or CrossEntropy()
        classes = check_fits(module, self._train)
        key = key_of(
            module, self._train, self.budget, self._rate, self._size, self._seed, self._keep_zeros, loss.identity
        )
        indices = shuffled(self._train, self._size, self._seed, 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            with loss.watching(module, batch_of(self._train, indices[0][:2])) as own:
                run = _Run(module, own, self._rate, self._keep_zeros)
                if (state := self._checkpoints.load(key)) is not None:
                    run.restore(state)
                self._go_on(run, loss, key, classes, len(indices))
        module.eval()
        self._progress(self._line(run, len(indices)))
        return Fitted(
            epochs=run.step / len(indices),
            steps=run.step,
            seconds=run.seconds,
            rate=self._rate,
            loss_first=run.first,
            loss=run.loss,
            accuracy=run.accuracy,
            tested=self._tested,
        )

    def forget(self) -> None:
        """Drop the checkpoints of all fits: what was made of them stands."""
        self._checkpoints.forget()

    def _go_on(self, run: _Run, loss: Loss, key: str, classes: int, per_epoch: int) -> None:
        began, before_s = time.monotonic(), run.seconds
        say = Seldom(self._progress)
        guessing = math.log(classes)
        batches: list[Array] = []
        while (done := self.budget.done(run.step, per_epoch, run.seconds)) < 1:
            epoch, at = divmod(run.step, per_epoch)
            if not batches or at == 0:
                batches = shuffled(self._train, self._size, self._seed, epoch)
            run.module.train()
            run.learn(loss, batch_of(self._train, batches[at]), self._rate * 0.5 * (1 + math.cos(math.pi * done)))
            run.seconds = before_s + time.monotonic() - began
            over = self.budget.done(run.step, per_epoch, run.seconds) >= 1
            if not math.isfinite(run.last):
                raise self._diverged(run, per_epoch, f"the loss is {run.last}")
            if at == per_epoch - 1 or over:
                if not run.is_finite():
                    raise self._diverged(run, per_epoch, "weights are no longer finite")
                if run.loss > _DIVERGED * max(guessing, run.first):
                    raise self._diverged(run, per_epoch, f"the loss rose from {run.first:.3g} to {run.loss:.3g}")
                if self._test is not None:
                    run.accuracy = accuracy_of(run.module, self._test, _TESTED)
            say(self._line(run, per_epoch))
            if over or self._checkpoints.is_due():
                self._checkpoints.save(key, run.state(over=over))

    @property
    def _tested(self) -> int:
        return 0 if self._test is None else min(_TESTED, len(self._test.labels))

    def _diverged(self, run: _Run, per_epoch: int, what: str) -> AttemptError:
        epoch, at = divmod(run.step - 1, per_epoch)
        message = (
            f"the training diverged in epoch {epoch + 1}, step {at + 1} of {per_epoch}: {what} at a learning rate of "
            f"{self._rate:g}; a smaller one (lr=) may mend it"
        )
        self._checkpoints.forget()
        return AttemptError(self._cause, "diverged", message)

    def _line(self, run: _Run, per_epoch: int) -> str:
        epoch, at = divmod(run.step - 1, per_epoch)
        of = f"/{math.ceil(self.budget.epochs)}" if self.budget.epochs is not None else ""
        done = self.budget.done(run.step, per_epoch, run.seconds)
        parts = [f"epoch {epoch + 1}{of}, step {at + 1}/{per_epoch}, loss {run.loss:.3g}"]
        if run.accuracy is not None:
            parts.append(f"{run.accuracy:.1%} of {self._tested} test examples right")
        if 0 < done < 1:
            parts.append(f"about {run.seconds * (1 - done) / done:.0f} s left")
        return (f"{self.title}: " if self.title else "") + ", ".join(parts)


class _Run:
    """The state of one training."""

    def __init__(self, module: torch.nn.Module, own: torch.nn.Module, rate: float, keep_zeros: bool) -> None:
        self.module, self._own = module, own
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._optimiser = torch.optim.AdamW([*learning, *own.parameters()], lr=rate)
        self._kept = [(weight, weight != 0) for weight in learning if keep_zeros and _is_pruned(weight)]
        self.step = 0
        self.seconds = 0.0
        self.first = self.last = math.nan
        self._recent: deque[float] = deque(maxlen=_RECENT)
        self.accuracy: float | None = None

    @property
    def loss(self) -> float:
        """Mean of the last ones."""
        return sum(self._recent) / max(1, len(self._recent))

    def learn(self, loss: Loss, batch: Any, rate: float) -> None:
        """One step."""
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        value = loss(answer(self.module, batch), batch)
        self.last = float(value.detach())
        self.step += 1
        self._recent.append(self.last)
        if self.step == 1:
            self.first = self.last
        if not math.isfinite(self.last):
            return
        value.backward()
        self._optimiser.step()
        with torch.no_grad():
            for weight, kept in self._kept:
                weight.mul_(kept)

    def is_finite(self) -> bool:
        """Whether all weights and statistics are numbers."""
        values = self.module.state_dict().values()
        return all(bool(torch.isfinite(value).all()) for value in values if value.is_floating_point())

    def state(self, *, over: bool) -> dict[str, Any]:
        """All that going on needs, or that is left of it when it is over: tensors and plain values."""
        return {
            "module": self.module.state_dict(),
            "own": self._own.state_dict(),
            "optimiser": None if over else self._optimiser.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "seconds": self.seconds,
            "first": self.first,
            "recent": list(self._recent),
            "accuracy": self.accuracy,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.module.load_state_dict(state["module"])
        self._own.load_state_dict(state["own"])
        if state["optimiser"] is not None:
            self._optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"])
        self.step, self.seconds, self.first = state["step"], state["seconds"], state["first"]
        self._recent.extend(state["recent"])
        self.last = self._recent[-1]
        self.accuracy = state["accuracy"]


def _is_pruned(weight: torch.Tensor) -> bool:
    """Whether a weight of a layer was pruned: biases and scales are not, whatever their values."""
    return weight.ndim > 1 and bool((weight == 0).any())


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value
