"""The student's training against a straightforward loop: same networks, same threads, in one run.

    python benchmarks/trainer.py [--teacher demo] [--arch resnet8-w8] [--recipe ferd-lab]
        [--variant release] [--batch 128] [--steps 10 20] [--epochs 5] [--clock cpu] [--memory 30]

The other side is `Straightforward` below: this benchmark's own words for the same epoch, with the
same numbers of steps, in plain torch idioms. Where the method leaves open how much is computed, it
does the less: networks are frozen while images are made, attacks ask for gradients of images alone,
only the tail runs in the bottleneck, and the whole batch is cropped alike. It knows ResNets alone.

Both sides take turns, epoch by epoch; the first epoch of each is not counted. Prints the medians of
seconds for each generator step, each student step, the class weights and the whole epoch, and of
the ratios ours/theirs. The networks' share is that of a third run of nothing but the same passes
(forward and backward through generator, teacher and student). ``--memory N`` then trains for N
short epochs in a fresh process for each side and prints what it holds. Large freed blocks are kept
from going back to the system on both sides, as the command line does. On a busy machine take
``--clock cpu`` and one thread: seconds of this process, not of the wall.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ferd_eval.models import build_architecture, save_network
from ferd_eval.models.demo import demo_checkpoints
from ferd_eval.runtime.malloc import keep_freed_memory
from ferd_train.distillation.teacher import FrozenTeacher, load_teacher
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.losses.two_terms import DIVERGENCES
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.components.generator import Generator
from ferd_train.synthesis.components.generator_losses import ADVERSARIAL_TERMS
from ferd_train.training.lr_schedule import cosine

_CPU = torch.device("cpu")
_PARTS = {
    "generator step": "making",
    "student step": "learning",
    "class weights": "weighing",
    "epoch": "epoch",
}


class Stopwatch:
    """Seconds of named parts."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add what the block takes."""
        began = self._clock()
        yield
        self.seconds[name] += self._clock() - began


class Ours(StudentTraining):
    """The project's training, with a stopwatch at its parts."""

    def __init__(self, recipe: StudentRecipe, teacher: FrozenTeacher, folder: Path) -> None:
        # A copy, as the training lays out the teacher's weights as suits it.
        own = replace(teacher, classifier=copy.deepcopy(teacher.classifier))
        super().__init__(recipe, own, _CPU)
        self.begin(folder / "bank")

        self._make = self._synthesis.make
        self._synthesis.make = self._timed_make  # type: ignore[method-assign]

    def timed_epoch(self, watch: Stopwatch) -> None:
        """One epoch."""
        self._watch = watch
        with watch.part("epoch"):
            self.epoch()

    def _timed_make(self, *arguments, **named):  # type: ignore[no-untyped-def]
        with self._watch.part("making"):
            return self._make(*arguments, **named)

    def _weigh(self, *arguments, **named):  # type: ignore[no-untyped-def]
        with self._watch.part("weighing"):
            return super()._weigh(*arguments, **named)

    def _learn(self, *arguments, **named):  # type: ignore[no-untyped-def]
        with self._watch.part("learning"):
            return super()._learn(*arguments, **named)


class PlainGenerator(nn.Sequential):
    """The same layers as `Generator`, each for itself."""

    def __init__(self, shape: tuple[int, int, int], latent: int, width: int) -> None:
        channels, height, across = shape
        first = (2 * width, height // 4, across // 4)

        def doubling(maps: int) -> list[nn.Module]:
            return [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(2 * width, maps, 3, padding=1, bias=False),
                nn.BatchNorm2d(maps),
                nn.LeakyReLU(0.2),
            ]

        super().__init__(
            nn.Linear(latent, 2 * width * first[1] * first[2]),
            nn.Unflatten(1, first),
            nn.BatchNorm2d(2 * width),
            *doubling(2 * width),
            *doubling(width),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        )
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)
        for layer in self:
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.weight, 1.0, 0.02)


class Straightforward:
    """One epoch after another as one would first write them down, from the method's description."""

    def __init__(self, recipe: StudentRecipe, teacher: FrozenTeacher, folder: Path) -> None:
        self.recipe, self.shape, self.classes = recipe, teacher.image_shape, teacher.num_classes
        self.teacher = teacher.classifier.eval().requires_grad_(False)
        network = build_architecture(
            recipe.arch, num_classes=self.classes, in_channels=self.shape[0]
        )
        self.student = network.build()
        learning = recipe.distillation
        self.optimizer = torch.optim.SGD(
            self.student.parameters(), learning.lr, learning.momentum, 0, learning.weight_decay
        )
        self.reweighting = recipe.reweighting.build()
        self.weights_K = torch.full((self.classes,), 1 / self.classes)
        self.file = folder / "bank.pt"
        self.bank: list[tuple[Tensor, Tensor]] = []
        self.done = 0

    def timed_epoch(self, watch: Stopwatch) -> None:
        """One epoch."""
        recipe = self.recipe
        with watch.part("epoch"):
            labels_B = torch.multinomial(self.weights_K, recipe.batch_size, replacement=True)
            with watch.part("making"):
                kept_BCHW, last_BCHW = self.make(labels_B)
            self.bank.append((kept_BCHW, labels_B))
            torch.save(self.bank, self.file)
            if self.reweighting.sees:
                with watch.part("weighing"):
                    measured_on = recipe.reweighting.measured_on
                    self.weigh(kept_BCHW if measured_on == "kept" else last_BCHW, labels_B)
            if self.done >= recipe.warmup:
                with watch.part("learning"):
                    self.learn()
            self.done += 1

    def make(self, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """The best batch, and the last one as it was seen."""
        made = self.recipe.synthesis
        generator = PlainGenerator(self.shape, made.latent, made.width)
        latents_BZ = torch.randn(len(labels_B), made.latent, requires_grad=True)
        adam = torch.optim.Adam(
            [
                {"params": generator.parameters(), "lr": made.lr},
                {"params": [latents_BZ], "lr": made.latent_lr},
            ],
            betas=(0.5, 0.999),
        )
        self.student.eval().requires_grad_(False)
        distances: list[Tensor] = []
        maps: list[Tensor] = []

        def match(layer: nn.Module, arguments: tuple[Tensor]) -> None:
            mean_C = arguments[0].mean(dim=(0, 2, 3))
            variance_C = arguments[0].var(dim=(0, 2, 3), unbiased=False)
            distances.append((mean_C - layer.running_mean).norm())
            distances.append((variance_C - layer.running_var).norm())

        watched = [self.teacher, *([self.student] if made.match_student else [])]
        resnet = self.teacher.network
        handles = [
            layer.register_forward_pre_hook(match)
            for network in watched
            for layer in network.modules()
            if isinstance(layer, nn.BatchNorm2d)
        ]
        last = resnet.get_submodule(resnet.stages[-1])
        handles.append(last.register_forward_hook(lambda *run: maps.append(run[2])))
        lowest, best_BCHW = float("inf"), None
        for _ in range(made.steps):
            x_BCHW = generator(latents_BZ)
            seen_BCHW = self.augment(x_BCHW)
            distances.clear()
            maps.clear()
            teacher_BK, student_BK = self.teacher(seen_BCHW), self.student(seen_BCHW)
            loss = (
                made.lambda_adv * ADVERSARIAL_TERMS[made.adversarial](teacher_BK, student_BK)
                + made.lambda_bn * sum(distances)
                + made.lambda_oh * F.cross_entropy(teacher_BK, labels_B)
            )
            if made.lambda_uni:
                logits_BK = self.tail(self.non_robust(maps[0], labels_B))
                uniform = torch.full_like(logits_BK, 1 / self.classes)
                divergence = F.kl_div(logits_BK.log_softmax(1), uniform, reduction="batchmean")
                loss = loss + made.lambda_uni * divergence
            if loss.item() < lowest:
                lowest, best_BCHW = loss.item(), x_BCHW.detach().clone()
            adam.zero_grad()
            loss.backward()
            adam.step()
        for handle in handles:
            handle.remove()
        self.student.requires_grad_(True)
        assert best_BCHW is not None
        return best_BCHW, seen_BCHW.detach()

    def tail(self, z_BCHW: Tensor) -> Tensor:
        """The teacher behind its last stage."""
        logits_BK: Tensor = self.teacher.network.linear(F.adaptive_avg_pool2d(z_BCHW, 1).flatten(1))
        return logits_BK

    def non_robust(self, z_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        """The masked features: equations 4 to 6 of the paper, in the variant's reading."""
        choices = self.recipe.synthesis.bottleneck
        z, variance_BC = z_BCHW.detach(), z_BCHW.detach().var(dim=(2, 3), unbiased=False)
        variance_BC = variance_BC + choices.guard
        raw_BC = torch.zeros_like(variance_BC, requires_grad=True)
        adam = torch.optim.Adam([raw_BC], lr=choices.lr)
        for _ in range(choices.steps):
            scale_BC = F.softplus(raw_BC)
            noise = torch.randn_like(z if choices.noise == "elementwise" else z[:, :, :1, :1])
            logits_BK = self.tail(z + scale_BC[:, :, None, None] * noise)
            ratio_BC = variance_BC / scale_BC**2
            terms_BC = ratio_BC - ratio_BC.log() - 1
            joined = terms_BC.sum(1) if choices.regulariser == "sum" else terms_BC.mean(1) / 2
            loss = F.cross_entropy(logits_BK, labels_B, reduction="sum")
            loss = loss + choices.beta * joined.sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        learnt_BC = raw_BC.detach()
        if choices.mask_scale == "softplus":
            learnt_BC = F.softplus(learnt_BC)
        limit = variance_BC.max()
        if choices.mask_maximum == "sample":
            limit = variance_BC.max(dim=1, keepdim=True).values
        return z_BCHW * (learnt_BC**2 < limit)[:, :, None, None]

    def augment(self, x_BCHW: Tensor) -> Tensor:
        """One crop, and perhaps a flip, for all."""
        padding, (_, height, across) = self.recipe.augmentation.crop_padding, self.shape
        if padding:
            top, left = torch.randint(2 * padding + 1, (2,)).tolist()
            x_BCHW = F.pad(x_BCHW, (padding,) * 4)[..., top : top + height, left : left + across]
        flips = self.recipe.augmentation.flip and torch.rand(()) < 0.5
        return x_BCHW.flip(-1) if flips else x_BCHW

    def weigh(self, x_BCHW: Tensor, labels_B: Tensor) -> None:
        """PGD on the teacher, and the class weights from its logits."""
        asked, eps = self.recipe.reweighting, float(self.recipe.eps)
        adv_BCHW = (x_BCHW + torch.empty_like(x_BCHW).uniform_(-eps, eps)).clamp(0, 1)
        for _ in range(asked.attack_steps):
            adv_BCHW = adv_BCHW.detach().requires_grad_()
            loss = F.cross_entropy(self.teacher(adv_BCHW), labels_B)
            adv_BCHW = self.moved(adv_BCHW, x_BCHW, loss, float(asked.step_size))
        with torch.no_grad():
            value_B = self.reweighting.vulnerability(self.teacher(adv_BCHW), labels_B)
        value_K = torch.zeros(self.classes, dtype=torch.float64)
        for label in labels_B.unique():
            value_K[label] = value_B[labels_B == label].mean()
        self.weights_K = self.reweighting.weights(value_K)

    def moved(self, adv_BCHW: Tensor, x_BCHW: Tensor, loss: Tensor, step: float) -> Tensor:
        """One signed step up the loss, back into the ball and the pixel range."""
        eps = float(self.recipe.eps)
        (gradient_BCHW,) = torch.autograd.grad(loss, adv_BCHW)
        adv_BCHW = adv_BCHW.detach() + step * gradient_BCHW.sign()
        return torch.min(torch.max(adv_BCHW, x_BCHW - eps), x_BCHW + eps).clamp(0, 1)

    def learn(self) -> None:
        """Read the bank back and train the student on it."""
        learning, asked = self.recipe.distillation, self.recipe.loss
        saved = torch.load(self.file)
        images_NCHW, labels_N = (torch.cat(each) for each in zip(*saved, strict=True))
        for group in self.optimizer.param_groups:
            group["lr"] = learning.lr * cosine(self.done / self.recipe.epochs)
        attacked = self.teacher if asked.network == "teacher" else self.student
        for _ in range(learning.steps):
            place_B = torch.randint(len(images_NCHW), (self.recipe.batch_size,))
            x_BCHW, labels_B = self.augment(images_NCHW[place_B]), labels_N[place_B]
            with torch.no_grad():
                teacher_BK = self.teacher(x_BCHW)
            target_BK = teacher_BK.softmax(dim=1)
            self.student.eval()
            adv_BCHW = (x_BCHW + 0.001 * torch.randn_like(x_BCHW)).clamp(0, 1)
            for _ in range(asked.attack_steps):
                adv_BCHW = adv_BCHW.detach().requires_grad_()
                log_BK = attacked(adv_BCHW).log_softmax(dim=1)
                loss = F.kl_div(log_BK, target_BK, reduction="sum")
                if asked.gamma:
                    uniform_BK = torch.full_like(log_BK, 1 / self.classes)
                    loss = loss - asked.gamma * F.kl_div(log_BK, uniform_BK, reduction="sum")
                adv_BCHW = self.moved(adv_BCHW, x_BCHW, loss, float(asked.step_size))
            self.student.train()
            divergence = DIVERGENCES[asked.divergence]
            clean_B = divergence(teacher_BK, self.student(x_BCHW), labels_B)
            adversarial_B = divergence(teacher_BK, self.student(adv_BCHW), labels_B)
            loss = (
                asked.clean_weight * clean_B.mean()
                + asked.adversarial_weight * adversarial_B.mean()
            )
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class BarePasses:
    """The passes of an epoch through whole networks and nothing else: the floor."""

    def __init__(self, recipe: StudentRecipe, teacher: FrozenTeacher) -> None:
        self.recipe, self.teacher = recipe, teacher.classifier
        self.student = build_architecture(
            recipe.arch, num_classes=teacher.num_classes, in_channels=teacher.image_shape[0]
        ).build()
        self.generator = Generator(
            teacher.image_shape,
            torch.Generator(),
            latent=recipe.synthesis.latent,
            width=recipe.synthesis.width,
        )
        self.latents_BZ = torch.randn(
            recipe.batch_size, recipe.synthesis.latent, requires_grad=True
        )
        self.x_BCHW = torch.rand(recipe.batch_size, *teacher.image_shape)

    def timed_epoch(self, watch: Stopwatch) -> None:
        """One epoch's."""
        recipe = self.recipe
        attacked = self.teacher if recipe.loss.network == "teacher" else self.student
        with watch.part("epoch"):
            self.student.eval().requires_grad_(False)
            with watch.part("making"):
                for _ in range(recipe.synthesis.steps):
                    x_BCHW = self.generator(self.latents_BZ)
                    (self.teacher(x_BCHW).sum() + self.student(x_BCHW).sum()).backward()
            with watch.part("weighing"):
                if recipe.reweighting.build().sees:
                    self.attack(self.teacher, recipe.reweighting.attack_steps)
                    self.forward(2)
            with watch.part("learning"):
                for _ in range(recipe.distillation.steps):
                    self.forward(1)
                    self.student.eval().requires_grad_(False)
                    self.attack(attacked, recipe.loss.attack_steps)
                    self.student.train().requires_grad_(True)
                    (self.student(self.x_BCHW) + self.student(self.x_BCHW)).sum().backward()

    @torch.no_grad()
    def forward(self, times: int) -> None:
        """The teacher alone."""
        for _ in range(times):
            self.teacher(self.x_BCHW)

    def attack(self, network: nn.Module, steps: int) -> None:
        """Gradients of the images."""
        for _ in range(steps):
            leaf_BCHW = self.x_BCHW.detach().requires_grad_()
            torch.autograd.grad(network(leaf_BCHW).sum(), leaf_BCHW)


SIDES: Mapping[str, type[Ours] | type[Straightforward]] = {
    "ours": Ours,
    "straightforward": Straightforward,
}


def main() -> None:
    """Measure and print."""
    options = arguments()
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    recipe = recipe_of(options)
    print(
        f"teacher {options.teacher}, student {recipe.arch}, variant {recipe.variant}, batch "
        f"{recipe.batch_size}, {recipe.image_size}×{recipe.image_size}, generator steps "
        f"{recipe.synthesis.steps} (width {recipe.synthesis.width}), student steps "
        f"{recipe.distillation.steps} (attack of {recipe.loss.attack_steps} on the "
        f"{recipe.loss.network}), {options.threads} threads, {options.clock} seconds"
    )
    with tempfile.TemporaryDirectory() as folder:
        measure_time(recipe, options, Path(folder))
    if options.memory:
        measure_memory(options)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="ferd-lab")
    parser.add_argument("--variant", default="release", choices=("paper", "release"))
    parser.add_argument(
        "--teacher", default="demo", help="demo, a file, or an architecture with fresh weights"
    )
    parser.add_argument("--arch", help="the student's")
    parser.add_argument("--side", type=int, help="of the images")
    parser.add_argument("--batch", type=int)
    parser.add_argument(
        "--steps", type=int, nargs=2, default=(10, 20), metavar=("GENERATOR", "STUDENT")
    )
    parser.add_argument("--epochs", type=int, default=5, help="counted ones")
    parser.add_argument("--memory", type=int, default=0, metavar="EPOCHS")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def recipe_of(options: argparse.Namespace) -> StudentRecipe:
    """The recipe with the options' changes."""
    recipe = find_student_recipe(options.recipe)
    recipe = recipe.with_changes({"variant": options.variant})
    changes = {"arch": options.arch, "image_size": options.side, "batch_size": options.batch}
    return recipe.with_changes(
        {
            **{name: value for name, value in changes.items() if value is not None},
            "synthesis.steps": options.steps[0],
            "distillation.steps": options.steps[1],
            "warmup": 0,
            "epochs": max(options.epochs, options.memory) + 1,
        }
    )


def teacher_of(name: str, side: int, folder: Path) -> FrozenTeacher:
    """The packaged network, a file's, or a fresh one in three channels and ten classes."""
    if name == "demo":
        with demo_checkpoints() as files:
            return load_teacher(files[0], side)
    if Path(name).exists():
        return load_teacher(Path(name), side)
    architecture = build_architecture(name, num_classes=10)
    file = folder / "teacher.safetensors"
    save_network(file, architecture.build(), architecture, normalization=None, metadata={})
    return load_teacher(file, side)


def measure_time(recipe: StudentRecipe, options: argparse.Namespace, folder: Path) -> None:
    """All three in turn, an epoch each."""
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    torch.manual_seed(0)
    teacher = teacher_of(options.teacher, recipe.image_size, folder)
    runs = {name: side(recipe, teacher, folder) for name, side in SIDES.items()}
    runs["bare passes"] = BarePasses(recipe, teacher)
    taken: dict[str, list[Mapping[str, float]]] = defaultdict(list)
    for _ in range(options.epochs + 1):
        for name, run in runs.items():
            watch = Stopwatch(clock)
            run.timed_epoch(watch)
            taken[name].append(watch.seconds)
    divisors = {"making": recipe.synthesis.steps, "learning": recipe.distillation.steps}
    print(f"{'seconds':16}{''.join(f'{name:>17}' for name in runs)}  ours/theirs  outside networks")
    for title, part in _PARTS.items():
        column = {name: [epoch[part] for epoch in epochs[1:]] for name, epochs in taken.items()}
        median = {name: statistics.median(each) for name, each in column.items()}
        if not median["ours"]:
            continue
        pairs = zip(column["ours"], column["straightforward"], strict=True)
        ratios = sorted(ours / theirs for ours, theirs in pairs)
        print(
            f"{title:16}"
            + "".join(f"{each / divisors.get(part, 1):17.4f}" for each in median.values())
            + f"  {statistics.median(ratios):11.3f}"
            f"  {max(0.0, 1 - median['bare passes'] / median['ours']):16.1%}"
            f"   (ratios {ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


def measure_memory(options: argparse.Namespace) -> None:
    """A fresh process for each side, epochs of two steps."""
    options.steps = (2, 2)
    for name in SIDES:
        process = multiprocessing.get_context("spawn").Process(
            target=hold_and_print, args=(name, options)
        )
        process.start()
        process.join()


def hold_and_print(name: str, options: argparse.Namespace) -> None:
    """Train, and print what the process holds after a third, two thirds and all of the epochs."""
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    recipe = recipe_of(options).with_changes({"reweighting.attack_steps": 1})
    held = []
    with tempfile.TemporaryDirectory() as folder:
        teacher = teacher_of(options.teacher, recipe.image_size, Path(folder))
        run = SIDES[name](recipe, teacher, Path(folder))
        for _ in range(options.memory):
            run.timed_epoch(Stopwatch(time.perf_counter))
            held.append(resident_megabytes())
    marks = [max(1, options.memory * part // 3) for part in (1, 2, 3)]
    image = teacher.image_shape[0] * recipe.image_size**2
    print(
        f"{name:16} resident "
        + ", ".join(f"{held[mark - 1]:.1f} MB after {mark} epochs" for mark in marks)
        + f"; the bank has {image * recipe.batch_size * options.memory / 1e6:.1f} million pixels"
    )


def resident_megabytes() -> float:
    """What this process has in memory (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1e3


if __name__ == "__main__":
    main()
