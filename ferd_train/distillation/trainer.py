"""Distillation without data, epoch by epoch; bit-exact when continued after a kill.

The loop is algorithm 1 of FERD (arXiv 2509.20793), for any method of making images and any loss.

All randomness is keyed by (seed, epoch, purpose), so the state is the student, its optimiser, the
vulnerability of each class, the figures so far, the state of `Seams` within an epoch, and the bank,
which has its own folder. B batch, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ferd_eval.attacks import PGD, Batch, Threat, frozen
from ferd_eval.errors import UserError
from ferd_eval.evaluation.model_checks import probe
from ferd_eval.models import build_architecture, save_network
from ferd_train.distillation.selection import Selection
from ferd_train.distillation.teacher import FrozenTeacher
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.monitoring.held_out import HELD_OUT_BATCH, agreement, held_out_phase
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.base import IMAGE_STEP, RealImages, Setting, Synthetic
from ferd_train.synthesis.class_sampling import (
    attacked_logits,
    capped,
    class_vulnerability,
    draw_labels,
)
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.folding import FoldedNetwork
from ferd_train.training.lr_schedule import cosine
from ferd_train.training.pace import Phase
from ferd_train.training.precision import memory_format
from ferd_train.training.process_group import ALONE, Workers
from ferd_train.training.seams import Part, Seams
from ferd_train.training.seeds import Randomness
from ferd_train.training.sync_batchnorm import share_batch_norm
from ferd_train.training.trainer import Trainer
from ferd_train.training.validation import VALIDATION_BATCH, Validation, ValidationFigures
from ferd_train.training.weight_perturbation import perturbed_weights

#: The phase of the student's steps.
STUDENT_STEP = "student step"

#: Folder beside the bank with images that are never trained on.
HELD_OUT = "held-out"


class StudentTraining(Trainer[StudentLog]):
    """Teacher, student, optimiser and bank of one run; the bank comes with `begin` or `resume`.

    Raises:
        UserError: the architecture is unknown or does not take the images, or the teacher lacks
            something that the recipe needs.
    """

    recipe: StudentRecipe
    subject, lr_field = "the student", "distillation.lr"

    def __init__(
        self,
        recipe: StudentRecipe,
        teacher: FrozenTeacher,
        device: torch.device,
        *,
        real: RealImages | None = None,
        validation: Validation | None = None,
        workers: Workers = ALONE,
    ) -> None:
        """A new student; `begin` or `resume` give it a bank.

        Args:
            teacher: on the device; its weights are laid out in memory anew.
            real: images to learn from, for a method that makes none.
            validation: real images to look at after each epoch.
            workers: who share each batch. All hold the same student and call the same methods,
                except those that write.
        """
        super().__init__(device, workers)
        self.recipe, self.peak_lr = recipe, recipe.distillation.lr
        # Of the current epoch, as far as it is done.
        self._figures: dict[str, Any] = {}
        self._share = workers.share(recipe.batch_size)
        self._teacher, self._validation = teacher.classifier, validation
        self._image_shape, self._num_classes = teacher.image_shape, teacher.num_classes
        with torch.random.fork_rng():
            torch.manual_seed(Randomness(recipe.seed, 0).seed("student"))
            self._architecture = build_architecture(
                recipe.arch, num_classes=self._num_classes, in_channels=self._image_shape[0]
            )
            self.student = self._architecture.build().to(device)
            probe(
                self.student,
                self._image_shape,
                f"image_size {recipe.image_size}",
                by_gradient=False,
                advice=f"Take another student than {recipe.arch}, or set image_size.",
            )
        share_batch_norm(self.student, self._share)
        self._memory_format = memory_format("float32", device)
        for network in (self._teacher, self.student):
            network.to(memory_format=self._memory_format)
        # What attacks and targets ask, where no layer is looked at.
        self._still_teacher = FoldedNetwork(self._teacher, self._image_shape)
        self._still_student = FoldedNetwork(self.student, self._image_shape)
        self._selection = None
        if recipe.held_out.selects:
            self._selection = Selection(self.student, recipe.held_out.patience)
        self._is_over = False
        self.network = self.student
        self.phases = self._phases()
        self._reweighting = recipe.reweighting.build()
        self._vulnerability_K = torch.zeros(self._num_classes, dtype=torch.float64)
        self._synthesis = recipe.synthesis.build(
            Setting(
                self._teacher,
                self.student,
                self._image_shape,
                self._num_classes,
                recipe.batch_size,
                recipe.eps,
                recipe.augmentation,
                recipe.seed,
                device,
                self._share,
                real,
                self.seams,
            )
        )
        self._objective = recipe.loss.build(self._num_classes)
        self._optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=recipe.distillation.lr,
            momentum=recipe.distillation.momentum,
            weight_decay=recipe.distillation.weight_decay,
        )

    def _phases(self) -> dict[str, Phase]:
        recipe, phases = self.recipe, {}
        if recipe.synthesis.image_steps:
            phases[IMAGE_STEP] = Phase(recipe.synthesis.image_steps, 3)
        phases[STUDENT_STEP] = Phase(
            recipe.distillation.steps, recipe.loss.pgd_steps + 3, begins=recipe.warmup + 1
        )
        if recipe.held_out_rows:
            phases[HELD_OUT_BATCH] = held_out_phase(
                recipe.batch_size, 1 + recipe.held_out.selects, recipe.warmup + 1
            )
        if self._validation is not None:
            phases[VALIDATION_BATCH] = self._validation.phase(recipe.batch_size)
        return phases

    def class_weights(self) -> Tensor:
        """Probabilities to draw the next epoch's classes with, K; even before the first."""
        if not self.logs:
            return torch.full((self._num_classes,), 1 / self._num_classes, dtype=torch.float64)
        weights_K = self._reweighting.weights(self._vulnerability_K)
        return capped(weights_K, self.recipe.reweighting.cap)

    def begin(self, bank: Path) -> None:
        """Start with an empty bank in that folder."""
        with self._workers.in_turn():
            if self._workers.is_first:
                self.bank = Bank.create(bank, self._image_shape, self.recipe.labels)
                if self.recipe.held_out_rows:
                    self.held_out = Bank.create(bank.with_name(HELD_OUT), self._image_shape)
            else:
                self.bank = Bank.open(bank, 0, self.recipe.labels)

    @property
    def is_done(self) -> bool:
        return self._is_over or super().is_done

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose student is exported; None where that is the last one's, by rule."""
        if self._selection is None or self.recipe.held_out.keep != "best":
            return None
        return self._selection.epoch

    def epoch(self) -> StudentLog:
        """Make a batch of images, weigh the classes, and train the student on the bank."""
        number = self.epochs_done + 1
        randomness = Randomness(self.recipe.seed, number)
        self.seams.epoch = number
        if not self.seams.goes_on:
            self._stopwatch.lap()
        figures = self._figures
        if "seconds_making" not in figures:
            figures |= self._make_images(randomness)
            figures["seconds_making"] = self._stopwatch.lap()
        if "seconds_learning" not in figures:
            learns = number > self.recipe.warmup
            loss, agrees = self._learn(randomness) if learns else (None, None)
            figures |= {"student_loss": loss, "student_agrees": agrees}
            figures["seconds_learning"] = self._stopwatch.lap()
        if "held_out" not in figures:
            figures["held_out"] = self._look_at_held_out() if number > self.recipe.warmup else None
        validation = self._validate()
        log = StudentLog(
            **figures,
            epoch=number,
            lr=self._lr,
            vulnerability=self._vulnerability_K.tolist(),
            loss_per_class={
                name: each_K.tolist() for name, each_K in self._objective.class_state().items()
            },
            validation=None if validation is None else vars(validation),
            bank=len(self.bank),
        )
        self._figures = {}
        self.logs.append(log)
        if self._selection is not None:
            # Only the first process has looked.
            ends = self._workers.is_first and self._selection.ends_at(number)
            (self._is_over,) = self._workers.any(ends)
        return log

    def _make_images(self, randomness: Randomness) -> dict[str, Any]:
        """Make images if the method does, and weigh the classes; return figures of both."""
        weights_K = self.class_weights()
        drawn_B = draw_labels(weights_K, self.recipe.batch_size, randomness.stream("labels"))
        made = self._synthesis.make(drawn_B.to(self._device), randomness)
        agrees, classes = None, self._num_classes
        labels_B = seen_B = torch.zeros(0, dtype=torch.int64)
        loss_B = torch.zeros(0)
        if made is not None:
            logits_BK = self._teachers_logits(made.x_BCHW)
            labels_B, seen_B = made.labels_B, logits_BK.argmax(1)
            loss_B = cross_entropy(logits_BK, labels_B, reduction="none")
            agrees = float((seen_B == labels_B).double().mean())
            self._put_away(made, seen_B)
            self._weigh(made, logits_BK, randomness)
        return {
            "generator_loss": None if made is None else made.loss,
            "generator_terms": {} if made is None else dict(made.terms),
            "kept_step": None if made is None else made.step,
            "teacher_agrees": agrees,
            "class_weights": weights_K.tolist(),
            "class_counts": torch.bincount(labels_B, minlength=classes).tolist(),
            "seen_counts": torch.bincount(seen_B, minlength=classes).tolist(),
            "teacher_loss": [
                float(loss_B[labels_B == label].mean()) if bool((labels_B == label).any()) else None
                for label in range(classes)
            ],
        }

    @property
    def _lr(self) -> float:
        """Learning rate of the next epoch; the warm-up is part of the cosine."""
        return self.recipe.distillation.lr * cosine(self.epochs_done / self.recipe.epochs)

    def _put_away(self, made: Synthetic, seen_B: Tensor) -> None:
        """The first process writes the bank; the others then read it again.

        The batch's last rows are held out, and the first process alone looks at them.
        """
        all_BCHW = self._share.gather(made.x_BCHW)
        taught = len(made.labels_B) - self.recipe.held_out_rows
        with self._workers.in_turn():
            if not self._workers.is_first:
                self.bank = self.bank.grown(taught)
                return
            classes = made.labels_B, seen_B
            self.bank.append(all_BCHW[:taught], *(each_B[:taught] for each_B in classes))
            if self.recipe.held_out_rows:
                self.held_out.append(all_BCHW[taught:], *(each_B[taught:] for each_B in classes))

    def _weigh(self, made: Synthetic, clean_BK: Tensor, randomness: Randomness) -> None:
        """Equations 1 and 2, from the teacher's logits on the images made, `clean_BK` or attacked.

        Classes are those asked for: their shares are what weights decide.
        """
        asked, labels_B = self.recipe.reweighting, made.labels_B
        x_BCHW = made.x_BCHW if asked.measured_on == "kept" else made.last_BCHW
        if not self._reweighting.sees:
            return
        if self._reweighting.sees == "attacked":
            logits_BK = attacked_logits(
                self._still_teacher,
                x_BCHW,
                self._share.own(labels_B),
                threat=Threat(self.recipe.eps),
                seed=randomness.seed("margins"),
                attack=PGD(steps=asked.attack_steps, step_size=asked.step_size),
                share=self._share,
            )
            logits_BK = self._share.gather(logits_BK)
        else:
            logits_BK = clean_BK if asked.measured_on == "kept" else self._teachers_logits(x_BCHW)
        if not bool(logits_BK.isfinite().all()):
            raise UserError(
                f"the teacher's logits on the images of epoch {self.epochs_done + 1} are not "
                "finite, so no class can be weighed; lower synthesis.lr or synthesis.latent_lr."
            )
        value_B = self._reweighting.vulnerability(logits_BK, labels_B)
        # The first epoch has no previous one to smooth with.
        smoothing = asked.smoothing if self.logs else 0.0
        self._vulnerability_K = class_vulnerability(
            value_B, labels_B, self._vulnerability_K, smoothing
        )

    @torch.no_grad()
    def _teachers_logits(self, x_BCHW: Tensor) -> Tensor:
        """On the process's own images, B×K of the whole batch."""
        with frozen(self._still_teacher):
            return self._share.gather(self._still_teacher(x_BCHW))

    def _learn(self, randomness: Randomness) -> tuple[float, float]:
        """N_S steps of SGD on the student's loss; their mean loss, and the share of agreement."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr
        self._objective.begin_epoch(randomness.epoch, self.recipe.epochs)
        draw = self._synthesis.feed(self.bank, randomness)
        losses: list[Tensor] = []
        parts: dict[str, Part] = {"losses": losses, **draw.streams, **self._objective.tallies()}
        with frozen(self._still_teacher):
            for step in self.seams.steps(STUDENT_STEP, self.recipe.distillation.steps, parts):
                x_BCHW, labels_B = draw(step)
                x_BCHW = x_BCHW.contiguous(memory_format=self._memory_format)
                with torch.no_grad():
                    teacher_BK = self._still_teacher(x_BCHW)
                batch = Batch(x_BCHW, labels_B, self._share.places(x_BCHW), teacher_BK)
                losses.append(self._step(batch, randomness.seed("utae", step)))
        self._objective.end_epoch()
        mean_loss = float(torch.stack(losses).mean())
        with frozen(self.student), torch.no_grad():
            student_BK = self._share.gather(self.student(x_BCHW))
        self._require_finite(mean_loss, logits=bool(student_BK.isfinite().all()))
        same_B = student_BK.argmax(1) == self._share.gather(teacher_BK).argmax(1)
        return mean_loss, float(same_B.double().mean())

    def _step(self, batch: Batch, seed: int) -> Tensor:
        """One step of SGD; returns the loss. The batch's logits are the teacher's."""
        self._still_student.refresh()
        adv_BCHW = self._objective.examples(
            self._still_teacher, self._still_student, batch, Threat(self.recipe.eps), seed
        )
        self.student.train()
        loss = self._gradients(batch, adv_BCHW)
        asked = self.recipe.distillation
        if asked.awp and self.epochs_done + 1 > asked.awp_from * self.recipe.epochs:
            tallies = self._objective.tallies().values()
            with perturbed_weights(self.student, asked.awp, tallies):
                self._gradients(batch, adv_BCHW)
        self._optimizer.step()
        return loss

    def _gradients(self, batch: Batch, adv_BCHW: Tensor) -> Tensor:
        """Leave the gradients of the whole batch's loss with the student; returns the loss."""
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._objective.backward(self.student, batch, adv_BCHW, self._share)
        self._workers.sum_gradients(self.student.parameters())
        return loss

    def _look_at_held_out(self) -> dict[str, float | None] | None:
        """Compare the student with the teacher, and the best so far; the first process does."""
        if not self.recipe.held_out_rows or not self._workers.is_first:
            return None
        selection = self._selection
        figures = agreement(
            [self.student] if selection is None else selection.compared(self.student),
            self._still_teacher,
            self.held_out,
            eps=self.recipe.eps,
            device=self._device,
            seed=self.recipe.seed,
            seams=self._seams_of_the_first,
        )
        if selection is None:
            return vars(figures[0])
        selection.choose(figures, self.student, self.epochs_done + 1)
        return {**vars(figures[0]), "best_epoch": selection.epoch}

    def _validate(self) -> ValidationFigures | None:
        """On the first process alone."""
        if self._validation is None or not self._workers.is_first:
            return None
        return self._validation.figures(self.student, self._seams_of_the_first)

    @property
    def _seams_of_the_first(self) -> Seams:
        """Several processes do not reach these seams together, so then they are not used."""
        return self.seams if self._workers.count == 1 else Seams()

    def _state(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "vulnerability": self._vulnerability_K,
            "synthesis": self._synthesis.state(),
            "loss": self._objective.class_state(),
            "bank": len(self.bank),
            "held_out": len(self.held_out) if self.recipe.held_out_rows else 0,
            "selection": None if self._selection is None else self._selection.state(),
            "is_over": self._is_over,
            "figures": self._figures,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self.student.load_state_dict(state["student"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._vulnerability_K = state["vulnerability"]
        self._synthesis.load_state(state["synthesis"])
        self._objective.load_class_state(state["loss"])
        self.logs = [StudentLog(**log) for log in state["logs"]]
        self._bank_count, self._held_out_count = int(state["bank"]), int(state["held_out"])
        if self._selection is not None:
            self._selection.load_state(state["selection"])
        self._is_over = bool(state["is_over"])
        self._figures = state.get("figures", {})  # none in older states

    def resume(self, file: Path, bank: Path) -> None:
        """Continue from a saved state and its bank; a `UserError` if either is damaged."""
        self._resume(file)
        with self._workers.in_turn():  # the first may cut off an unfinished batch
            self.bank = Bank.open(bank, self._bank_count, self.recipe.labels)
            if self.recipe.held_out_rows and self._workers.is_first:
                self.held_out = Bank.open(bank.with_name(HELD_OUT), self._held_out_count)

    def export(self, file: Path, metadata: Mapping[str, str]) -> None:
        """Save the student, of `best_epoch`, so that `ferd_eval` reads it without options."""
        student = self.student
        if self._selection is not None and self.best_epoch is not None:
            student = self._selection.network
        save_network(
            file,
            student,
            self._architecture,
            normalization=None,
            metadata={"ferd.recipe": json.dumps(self.recipe.to_json()), **metadata},
        )
