"""Images on which teacher and student disagree, fresh at every step of the student.

Micaelli and Storkey, "Zero-shot knowledge transfer via adversarial belief matching", NeurIPS 2019.
B batch, C channels, H × W pixels, K classes, Z latent numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ferd_eval.attacks import frozen
from ferd_train.config.checks import Count, Positive
from ferd_train.synthesis.base import Feed, Setting, Synthesis, SynthesisRecipe, Synthetic
from ferd_train.synthesis.components.descent import BETAS, BestBatch
from ferd_train.synthesis.components.generator import run_generator, usual_weights
from ferd_train.synthesis.components.generator_losses import minus_kl
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.seams import Remembering
from ferd_train.training.seeds import Randomness


@dataclass(frozen=True)
class ZSKTRecipe(SynthesisRecipe):
    """Zero-shot knowledge transfer; values of its re-implementation in FastDFKD's code.

    That is the version whose classes FERD's code (arXiv 2509.20793) inherits, but for the student,
    which is the student here; CMI's later one has a first layer twice as wide, and makes images for
    the student in evaluation mode. Deviations from the
    authors' own: a sigmoid in place of the last batch normalisation, for ε-balls live in [0, 1];
    new images for each student step, where they take `student_steps` steps on the same; the
    student in evaluation mode while the generator learns; Adam's betas of the re-implementation,
    where the authors have (0.9, 0.999); constant lr, gradients not clipped; no
    attention transfer, which asks for teacher and student of one family.

    Attributes:
        student_steps: of the student for each of the generator's; 10 with the authors.
        lr: Adam's; 2e-3 in FERD, perhaps for all methods.
        latent: 100 with the authors.
    """

    method: str = field(default="zskt", init=False)
    student_steps: Count = 5
    lr: Positive = 1e-3
    latent: Count = 256
    width: Count = 64

    def build(self, setting: Setting) -> ZSKT:
        return ZSKT(self, setting)


class ZSKT(Synthesis):
    """One generator for the whole run, that raises KL(p_T ‖ p_S) while the student lowers it.

    It learns between the student's steps, so in the warm-up it stays as it was drawn. No class is
    asked for: images bear the class that the teacher sees.

    Raises:
        UserError: the images have sides that no generator makes.
    """

    def __init__(self, recipe: ZSKTRecipe, setting: Setting) -> None:
        # Otherwise the divergence is always 0 and the generator learns nothing.
        assert setting.student is not setting.teacher, "teacher and student are the same network"
        super().__init__(setting)
        self._recipe = recipe
        self._generator = run_generator(setting, recipe.latent, recipe.width, usual_weights)
        self._adam = torch.optim.Adam(self._generator.parameters(), lr=recipe.lr, betas=BETAS)

    def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
        """A batch of the generator as it stands, to be looked at; no student step uses it."""
        setting, best = self.setting, BestBatch(labels_B.device)
        with frozen(setting.teacher), frozen(setting.student), torch.no_grad():
            x_BCHW = self._images(randomness.stream("latents"))
            teacher_BK, student_BK = self._logits(x_BCHW)
        loss = minus_kl(teacher_BK, student_BK)
        best.see(loss, x_BCHW, {"adv": loss}, 1)
        return best.synthetic(teacher_BK.argmax(dim=1), x_BCHW)

    def feed(self, bank: Bank, randomness: Randomness) -> Feed:
        """New images for each step, not augmented; the generator learns before every k-th one."""
        own = randomness.stream("latents of the generator")
        students = randomness.stream("latents of the student")

        def draw(step: int) -> tuple[Tensor, Tensor]:
            if step % self._recipe.student_steps == 0:
                self._learn(own)
            with frozen(self.setting.teacher), torch.no_grad():
                x_BCHW = self._images(students)
                return x_BCHW, self.setting.teacher(x_BCHW).argmax(dim=1)

        return Feed(draw, {"own": own, "students": students})

    def _learn(self, latents: torch.Generator) -> None:
        setting = self.setting
        with frozen(setting.teacher), frozen(setting.student):
            loss = minus_kl(*self._logits(self._images(latents)))
            self._adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            setting.share.workers.sum_gradients(self._generator.parameters())
            self._adam.step()

    def _images(self, latents: torch.Generator) -> Tensor:
        """The process's part of a new batch."""
        setting = self.setting
        drawn_BZ = self._generator.draw_latents(setting.batch_size, latents)
        x_BCHW: Tensor = self._generator(setting.share.own(drawn_BZ))
        return x_BCHW

    def _logits(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        setting = self.setting
        gather = setting.share.gather
        return gather(setting.teacher(x_BCHW)), gather(setting.student(x_BCHW))

    def parts(self) -> Mapping[str, Remembering]:
        return {"generator": self._generator, "adam": self._adam}
