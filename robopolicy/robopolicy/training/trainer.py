"""The training loop: windows of demonstrations in; checkpoints, metrics and a summary out."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from robopolicy.checkpoint import MODEL, find_checkpoint, load_policy, save_policy
from robopolicy.policies.chunk_policy import ChunkPolicy
from robopolicy.training.augmentation import Augmentation
from robopolicy.training.batches import Mirror, mirror_some, to_tensors
from robopolicy.training.configs import TrainerConfig
from robopolicy.training.data import TrainingData
from robopolicy.training.distributed import Ranks, join
from robopolicy.training.ema import AveragedWeights
from robopolicy.training.metrics import MetricsLog, read_metrics
from robopolicy.training.optimizer import learning_rate, make_optimizer
from robopolicy.training.state import Progress, load_state, save_state
from robopolicy.training.validation import Validation
from robopolicy_datasets.errors import ConfigError, StoreError
from robopolicy_datasets.registry import policies
from robopolicy_datasets.store.demo_store import DemoStore
from robopolicy_datasets.windows import WindowBatch, prefetch

logger = logging.getLogger(__name__)

Callback = Callable[[int, ChunkPolicy, float], Mapping[str, float]]
"""Called with (step, policy with averaged weights, seconds trained) at each checkpoint; returns metrics."""


def train(
    policy_name: str,
    policy_config: Any,
    trainer_config: TrainerConfig,
    data: DemoStore | Sequence[DemoStore],
    folder: str | Path,
    *,
    weights: Sequence[float] | None = None,
    resume: bool = False,
    mirror: Mirror | None = None,
    callbacks: Sequence[Callback] = (),
    on_start: Callable[[], None] | None = None,
) -> dict[str, float]:
    """Trains a policy on one or several demo stores.

    Everything random follows from the seed, the step and the rank, so that a resumed run continues the
    same curve, bit for bit on a CPU.

    Args:
        policy_name: under which the policy is registered.
        policy_config: its settings.
        trainer_config: the trainer's settings.
        data: the demonstrations.
        folder: of the run; gets ``metrics.jsonl``, ``tensorboard/`` and ``checkpoints/last``.
        weights: how much each of several stores counts (see ``WindowMixture``); by default all windows alike.
        resume: continue from ``checkpoints/last``.
        mirror: the task's mirror symmetry, used where ``trainer_config.mirror`` says so.
        callbacks: called at each checkpoint, on the first process.
        on_start: called on the first process once everything is loaded and fits, before ``folder`` changes.

    Returns:
        the summary: ``steps``, ``train_loss``, ``validation_loss``, ``action_error``, ``train_seconds``,
        ``parameters``, ``interrupted`` (0 or 1).

    Raises:
        ConfigError: impossible settings. StoreError: too little or unusable data.
        SpecError: the stores differ in what the policy uses.
        CheckpointError: nothing fitting to resume from.
    """
    stores = [data] if isinstance(data, DemoStore) else data
    trainer = Trainer(
        policy_name,
        policy_config,
        trainer_config,
        stores,
        Path(folder),
        callbacks,
        weights=weights,
        mirror=mirror,
    )
    return trainer.run(resume=resume, on_start=on_start)


class Trainer:
    """One training run; see ``train``."""

    def __init__(
        self,
        policy_name: str,
        policy_config: Any,
        config: TrainerConfig,
        stores: Sequence[DemoStore],
        folder: Path,
        callbacks: Sequence[Callback] = (),
        *,
        weights: Sequence[float] | None = None,
        mirror: Mirror | None = None,
    ) -> None:
        _check(config)
        data = TrainingData(stores, weights, validation_fraction=config.validation_fraction, seed=config.seed)
        self.name, self.config, self.folder, self.callbacks = policy_name, config, folder, callbacks
        self.mirror = mirror if config.mirror else None
        self.device = _device(config.device)
        self.bf16 = config.bf16 and computes_bf16(self.device)
        if config.threads:
            torch.set_num_threads(config.threads)
        self.ranks: Ranks = join(self.device)
        if self.device == "cuda":
            self.device = f"cuda:{self.ranks.local_rank}"
        torch.manual_seed(config.seed)  # weights: the same on every process
        spec = data.spec(policy_config)
        self.policy: ChunkPolicy = policies.build(policy_name, policy_config, spec, data.dt)
        images = [feature.key for feature in self.policy.spec.observation if feature.kind == "rgb"]
        self.augmentation = Augmentation(config.augmentation, images)
        self.fingerprint = data.fingerprint()
        self.windows = data.training_windows(self.policy)
        wanted = config.batch_size * self.ranks.world_size
        if len(self.windows) < wanted:
            raise StoreError(
                f"{data.names} has {len(self.windows)} training windows in "
                f"{sum(map(len, data.training))} episodes; one step takes {wanted}. Collect more, or lower "
                "trainer.batch_size."
            )
        self._fit_normalizer(data)
        self.policy.to(self.device)
        if teacher := getattr(policy_config, "teacher", ""):
            self.policy.learn_from(load_policy(teacher, device=self.device))
        held_out = data.held_out_windows(self.policy)
        self.validation = Validation(self.policy, held_out, self.device, config.seed)
        self.model = self.ranks.wrap(self.policy)
        self.optimizer = make_optimizer(self.policy, config)
        self.average = AveragedWeights(self.policy, config.ema_decay)
        self.generator = torch.Generator(self.device)
        self._log: MetricsLog | None = None
        self._largest_norm = torch.zeros((), device=self.device)  # of the gradient, so far
        self._losses: list[Tensor] = []  # since the last line of metrics
        self._seconds = 0.0

    def run(self, *, resume: bool, on_start: Callable[[], None] | None = None) -> dict[str, float]:
        """Runs (or continues) to the last step and returns the summary; see ``train``."""
        summary: dict[str, float] = {}
        try:
            with _interrupt_flag() as interrupted:  # before anything of this run can be seen from outside
                first = self._resume() if resume else self._start()
                if self.ranks.is_main:
                    if on_start is not None:
                        on_start()
                    self._log = MetricsLog(self.folder, first)
                    for row in read_metrics(self.folder):
                        summary |= row
                with self._progress(first) as bar:
                    step = self._loop(first, interrupted, bar, summary)
            self.ranks.any(False)  # no process returns before the first one has written its checkpoint
        finally:
            if self._log is not None:
                self._log.close()
            self.ranks.close()
        summary |= {"steps": float(step), "interrupted": float(step < self.config.steps)}
        summary["train_seconds"] = summary.pop("seconds", self._seconds)
        summary["parameters"] = float(sum(parameter.numel() for parameter in self.policy.parameters()))
        return {name: value for name, value in summary.items() if name not in ("step", "learning_rate")}

    def _loop(
        self,
        first: int,
        interrupted: Callable[[], bool],
        bar: tqdm[Any],
        summary: dict[str, float],
    ) -> int:
        """Takes the steps after ``first``, keeps ``summary`` up to date and returns the last step taken."""
        step = first
        steps = range(first + 1, self.config.steps + 1)
        gathered = self._batches(first)
        # a thread costs more than it saves where all lies in memory
        with closing(prefetch(gathered) if self.windows.on_disk else gathered) as batches:
            for step, batch in zip(steps, batches, strict=False):
                started = time.perf_counter()
                loss = self._step(step, batch)
                self._seconds += time.perf_counter() - started
                bar.update()
                stop = self._agreed(interrupted(), step)
                if self._log is not None:
                    self._losses.append(loss)
                    metrics = self._measure(step, stop=stop)
                    if metrics:
                        bar.set_postfix(loss=f"{metrics['train_loss']:.4f}", refresh=False)
                        summary |= metrics
                if stop:
                    if self.ranks.is_main:
                        logger.warning(
                            "Interrupted at step %d; '%s' holds a usable checkpoint.", step, self._last
                        )
                    break
        return step

    def _measure(self, step: int, *, stop: bool) -> dict[str, float]:
        """Does what is due at a step (log, save, validate, call back); returns the metrics that it wrote.

        When the training is interrupted it only logs and saves.
        """
        config = self.config
        log, validate, checkpoint = (
            step == config.steps or step % every == 0
            for every in (config.log_every, config.validate_every, config.checkpoint_every)
        )
        if not (log or validate or checkpoint or stop):
            return {}
        metrics = {
            "train_loss": float(torch.stack(self._losses).mean()),
            "learning_rate": learning_rate(config, step),
            "seconds": self._seconds,
        }
        for name, value in (("loss", metrics["train_loss"]), ("gradient", float(self._largest_norm))):
            if not math.isfinite(value):
                raise ConfigError(
                    f"The training diverged: the {name} is {value} at step {step}. Lower "
                    "trainer.learning_rate; the last checkpoint is kept."
                )
        if log or validate or checkpoint:  # an interrupted run resumes with the losses since its last line
            self._losses.clear()
        try:
            if checkpoint or stop:
                self._save(step)
            with self.average.applied(self.policy):
                if validate and not stop:
                    metrics |= self.validation.measure()
                for callback in self.callbacks if checkpoint and not stop else ():
                    metrics |= callback(step, self.policy, self._seconds)
        finally:  # a callback that fails takes no line of the curve with it
            if self._log is not None:
                self._log.write(step, metrics)
        return metrics

    def _agreed(self, flag: bool, step: int) -> bool:
        """Whether any process was interrupted; asked every few steps, since asking costs a round trip."""
        if self.ranks.world_size == 1:
            return flag
        return step % 10 == 0 and self.ranks.any(flag)

    @property
    def _last(self) -> Path:
        return self.folder / "checkpoints" / "last"

    def _fit_normalizer(self, data: TrainingData) -> None:
        values = data.training_values(self.policy)
        windows = data.training_windows(self.policy, large=False)
        batch = windows.gather(np.arange(len(windows)))
        if self.mirror is not None:
            values = {key: np.concatenate([part, self.mirror(key, part)]) for key, part in values.items()}
            batch = mirror_some(batch, self.mirror, self.config.seed)
        self.policy.fit_normalizer(values, batch)

    def _batches(self, first: int) -> Generator[WindowBatch, None, None]:
        """Yields the batches of steps ``first + 1, first + 2, ...`` without end."""
        size, ranks, seed = self.config.batch_size, self.ranks, self.config.seed
        epoch, start = divmod(first, self.windows.batches_per_epoch(size, world_size=ranks.world_size))
        while True:
            yield from self.windows.batches(
                size, seed=seed, epoch=epoch, rank=ranks.rank, world_size=ranks.world_size, start=start
            )
            epoch, start = epoch + 1, 0

    def _step(self, step: int, batch: WindowBatch) -> Tensor:
        config = self.config
        rate = learning_rate(config, step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        seeds = np.random.SeedSequence([config.seed, step, self.ranks.rank]).generate_state(3, np.uint64)
        self.generator.manual_seed(int(seeds[0]) % 2**63)
        if self.mirror is not None:
            batch = mirror_some(batch, self.mirror, int(seeds[1]))
        tensors = to_tensors(batch, self.device)
        tensors = self.augmentation(tensors, torch.Generator().manual_seed(int(seeds[2]) % 2**63))
        self.policy.train()
        with torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.bf16):
            loss = self.model(tensors, self.generator)
        self.optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.gradient_clip, foreach=True)
        self._largest_norm = torch.maximum(self._largest_norm, norm)  # of a NaN and a number, the NaN
        self.optimizer.step()
        self.average.update(self.policy, step)
        return loss.detach()

    def _save(self, step: int) -> None:
        progress = Progress(step, self._seconds, [float(loss) for loss in self._losses], self.fingerprint)
        save_policy(
            self.policy,
            self._last,
            name=self.name,
            weights=self.average.named(),
            details={"data_fingerprint": self.fingerprint, "seed": self.config.seed, "steps": step},
            extra=lambda folder: save_state(folder, self.policy, self.optimizer, progress),
        )

    def _start(self) -> int:
        if self._last.exists() or read_metrics(self.folder):
            raise ConfigError(
                f"'{self.folder}' holds a training already. Resume it, or choose another folder."
            )
        return 0

    def _resume(self) -> int:
        """Restores the training and returns the last step taken."""
        last = find_checkpoint(self._last)
        progress = load_state(last, self.policy, self.optimizer)
        if progress.data_fingerprint != self.fingerprint:
            raise StoreError(
                f"'{self.folder}' was trained on other data than this store; resume with the same data, or "
                "start a new run."
            )
        self.average.restore(last / MODEL)
        self._losses = [torch.tensor(loss, device=self.device) for loss in progress.losses]
        self._seconds = progress.seconds
        return progress.step

    def _progress(self, first: int) -> tqdm[Any]:
        return tqdm(
            total=self.config.steps,
            initial=first,
            desc="train",
            unit="step",
            disable=not self.ranks.is_main,
            mininterval=0.5 if sys.stderr.isatty() else 15.0,  # in a log file: a line now and then
        )


@contextmanager
def _interrupt_flag() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGINT into a flag; a second one interrupts at once."""
    seen: list[int] = []

    def note(signum: int, frame: Any) -> None:
        seen.append(signum)
        signal.signal(signal.SIGINT, previous)

    try:
        previous = signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread: interrupts go elsewhere
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, previous)


def _device(name: str) -> str:
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"trainer.device is '{name}'. Allowed: auto, cpu, cuda.")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("trainer.device is 'cuda', but torch finds no GPU. Use trainer.device=auto.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def computes_bf16(device: str) -> bool:
    """Whether a device has instructions for bfloat16; imitating them takes many times as long as float32."""
    if device != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if any(on for name, on in features.items() if name.endswith("bf16")):
        return True
    logger.info("This processor has no bfloat16 arithmetic: training in float32.")
    return False


def _check(config: TrainerConfig) -> None:
    for name in ("steps", "batch_size", "validate_every", "log_every", "checkpoint_every"):
        if getattr(config, name) < 1:
            raise ConfigError(f"trainer.{name} is {getattr(config, name)}; it must be at least 1.")
    for name in ("warmup_steps", "weight_decay", "threads", "seed"):
        if getattr(config, name) < 0:
            raise ConfigError(f"trainer.{name} is {getattr(config, name)}; it must not be negative.")
    for name in ("learning_rate", "gradient_clip"):
        if not getattr(config, name) > 0:
            raise ConfigError(f"trainer.{name} is {getattr(config, name)}; it must be positive.")
    if len(config.betas) != 2 or not all(0 <= beta < 1 for beta in config.betas):
        raise ConfigError(f"trainer.betas is {list(config.betas)}; it must be two numbers in [0, 1).")
    for name in ("validation_fraction", "ema_decay"):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(f"trainer.{name} is {getattr(config, name)}; it must lie in [0, 1).")
