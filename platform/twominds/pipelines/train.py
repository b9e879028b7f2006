"""Training with Ray Train: features in, one encoder per view out; and the ensemble, where a recipe trains jointly.

One worker (or several that take the same steps together) trains the views one after another, as starting a worker
group costs more than training a small encoder, and then the joint model if the recipe has one. It checkpoints as it
goes, so a killed worker goes on where it was. To train several views side by side on a cluster, submit one job for each
with `--views`.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, get_device
from ray.util.queue import Queue
from rich.table import Table
from upath import UPath

from twominds import artifacts
from twominds.backbones import BackboneStore
from twominds.errors import ArtifactError, ConfigError, MissingInputError, TrainingError
from twominds.pipelines.cluster import cluster, cpus_of_a_worker, outside_main_thread
from twominds.pipelines.progress import printed_lines
from twominds.pipelines.train_config import JOINTLY, TrainConfig
from twominds.pipelines.train_jointly import check_jointly, train_jointly, trained_jointly
from twominds.pipelines.train_view import check_inputs, last_checkpoint, name_of, train_view, trained_alone
from twominds.recipes.catalog import find_recipe
from twominds.recipes.recipe import Recipe
from twominds.reports.coverage import add_coverage
from twominds.reports.summary import Summary
from twominds.results.about import read_about
from twominds.storage import require_writable, storage_of
from twominds.training.deepspeed import load_deepspeed
from twominds.training.fit_state import FitState
from twominds.training.workers import Workers
from twominds.workspace import job_command, require

__all__ = ["TrainConfig", "train_encoders", "train_several"]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to be trained for one command."""

    config: TrainConfig
    parts: tuple[str, ...]
    """In this order: views, and the joint model last."""
    weights_from: str = ""
    """Where a joint training may find its weights (`train_jointly`)."""

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe to train; of one that trains jointly with one of its seeds."""
        recipe, seed = find_recipe(self.config.recipe), self.config.seed
        if recipe.joint is not None:
            return recipe.with_seed(recipe.fusion.seeds[0] if seed is None else seed)
        if seed is not None:
            raise ConfigError(f"{recipe.name} trains no model jointly: its encoders have a seed of their own.")
        return recipe


def train_encoders(config: TrainConfig) -> Summary:
    """Runs the job; returns what it did.

    Raises:
        MissingInputError: there are no features, or no labelled clips of a split among them.
        BackboneError: the bundle lacks a backbone.
        ConfigError: DeepSpeed is asked for, but not installed; or the recipe trains jointly, and settings do not fit.
        TrainingError: an encoder came to nothing; the others are trained.
    """
    plan = _planned(config)
    if plan.parts and (untrained := _trained([plan])[0]):
        raise TrainingError(untrained)
    return _summary(plan.config, plan.recipe, trained=plan.parts)


def train_several(configs: Sequence[TrainConfig], weights_from: Sequence[str] = ()) -> list[str]:
    """Does what several commands say by one group of workers, whose start takes longer than to train a small encoder.

    Args:
        configs: Workers, GPUs and the cluster are those of the first.
        weights_from: Of each, where a joint training may find its weights (`train_jointly`); "": nowhere.

    Returns:
        Of each, why it came to nothing; "" where all is trained. The others are trained all the same.

    Raises:
        BackboneError: the bundle lacks a backbone.
        ConfigError: settings do not fit.
    """
    plans: list[_Plan] = []
    reasons: list[str] = []
    for config, place in zip(configs, weights_from or [""] * len(configs), strict=True):
        try:
            plans.append(replace(_planned(config), weights_from=place))
            reasons.append("")
        except MissingInputError as error:
            reasons.append(str(error))
    found = iter(_trained(plans) if any(plan.parts for plan in plans) else [""] * len(plans))
    return [reason or next(found) for reason in reasons]


def _planned(config: TrainConfig) -> _Plan:
    """Checks all that can be checked before anything is started."""
    if config.zero_stage:
        load_deepspeed()
    require(config.features, what="features", made_by="python jobs/preprocess.py")
    require(config.models, what="bundle of weights", made_by="python jobs/make_debug_models.py")
    require_writable(config.output)
    config = replace(config, recipe=config.recipe or read_about(config.features).recipe)
    recipe = _Plan(config=config, parts=()).recipe
    check_jointly(config, recipe)
    store = BackboneStore(uri=config.models)
    config = replace(config, views=config.views or recipe.views)
    for view in config.views:
        check_inputs(config.features, recipe, view, store, config.protocol)
    return _Plan(config=config, parts=_untrained(config, recipe))


def _untrained(config: TrainConfig, recipe: Recipe) -> tuple[str, ...]:
    alone = config.views if recipe.joint is None else recipe.alone
    wanted = [view for view in alone if config.retrain or not trained_alone(config, recipe, view)]
    if recipe.joint is None or (not config.retrain and not wanted and trained_jointly(config, recipe)):
        return tuple(wanted)
    return (*wanted, JOINTLY)


def _trained(plans: Sequence[_Plan]) -> list[str]:
    """Trains what is planned; returns why something of each came to nothing, or ""."""
    config = plans[0].config
    # Its own: a job for another view may train beside this one, and the same name would resume an older run.
    run = f"encoders-{uuid.uuid4().hex[:8]}"
    filesystem, path = storage_of(f"{config.output}/.train")
    with cluster(config.address), printed_lines() as lines:
        cpus = config.cpus or cpus_of_a_worker(config.workers)
        trainer = TorchTrainer(
            _train_worker,
            train_loop_config={"plans": plans, "cpus": cpus, "lines": lines},
            scaling_config=ScalingConfig(
                num_workers=config.workers,
                use_gpu=config.use_gpu,
                resources_per_worker={"CPU": cpus, **({"GPU": 1} if config.use_gpu else {})},
            ),
            run_config=RunConfig(
                name=run,
                storage_path=path,
                storage_filesystem=filesystem,
                failure_config=FailureConfig(max_failures=config.max_failures),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        try:
            return cast("list[str]", outside_main_thread(trainer.fit).return_value)
        finally:
            checkpoints = UPath(f"{config.output}/.train/{run}")
            if checkpoints.exists():
                checkpoints.fs.rm(checkpoints.path, recursive=True)


def _train_worker(arguments: dict[str, Any]) -> list[str]:
    """Runs on every worker: trains what is planned, reporting a resumable checkpoint now and then.

    Returns why something of each plan came to nothing, or "": an error would have Ray Train start the workers again, to
    the same end.
    """
    plans = cast("Sequence[_Plan]", arguments["plans"])
    config, lines = plans[0].config, cast("Queue", arguments["lines"])
    workers = Workers.joined(get_device() if config.use_gpu else "cpu")
    if not config.use_gpu:
        torch.set_num_threads(max(1, int(cast("float", arguments["cpus"]))))
    current = last_checkpoint()
    return [_train_parts(plan, workers, current, lines) for plan in plans]


def _train_parts(plan: _Plan, workers: Workers, current: tuple[str, FitState | None], lines: Queue) -> str:
    """Trains one command's parts, but for those that were finished before the workers were started again."""
    config, recipe = plan.config, plan.recipe
    untrained: list[str] = []
    for part in plan.parts:
        resume = current[1] if current[0] == name_of(config, part) else None
        try:
            joint = recipe.joint if part == JOINTLY else None
            there = trained_alone(config, recipe, part) if joint is None else trained_jointly(config, recipe)
            if workers.agreed(there is not None and not config.retrain):
                continue
            if joint is None:
                train_view(config, recipe, part, workers, resume, lines)
            elif not untrained:
                train_jointly(config, recipe, joint, workers, resume, lines, plan.weights_from)
        except (TrainingError, ArtifactError) as error:  # of a loss all workers see; or the first cannot save it
            what = "joint model" if part == JOINTLY else f"{part} encoder"
            untrained.append(f"The {what} could not be trained. {error}")
    return " ".join(untrained)


def _summary(config: TrainConfig, recipe: Recipe, trained: Sequence[str]) -> Summary:
    counted = "points" if recipe.task.per_frame else "clips"
    table = Table(
        "encoder", f"validation {recipe.task.score_name}", "best epoch", f"train/val {counted}", "weights", ""
    )
    for view in config.views:
        card = artifacts.read_card(f"{config.output}/{view}")
        table.add_row(
            view,
            _shown(card.metrics.get("validation_score")),
            str(card.metrics["best_epoch"] or "-"),
            "/".join(str(count) for count in card.data[counted].values()),
            card.weights,
            "trained now" if {view, JOINTLY} & {*trained} else "there from before",
        )
    summary = Summary(title=f"Unimodal encoders of {recipe.name}", where=config.output, tables=[table])
    if config.protocol != "validation":
        summary.add("selected_on", config.protocol)
    add_coverage(summary, config.features, config.views)
    summary.next_step = job_command("embed", features=config.features, encoders=config.output)
    if recipe.joint is not None:
        card = artifacts.read_card(config.ensemble)
        score = f"validation {recipe.task.score_name} {card.metrics['validation_score_mean']:.3f}"
        summary.add("trained jointly", f"{score}, best epoch {card.metrics['best_epoch']}")
        summary.add("ensemble", f"{config.ensemble}: {card.artifact_id} ({card.weights} weights)")
        summary.next_step += f", then {job_command('evaluate', ensemble=config.ensemble)}"
    return summary


def _shown(score: float | None) -> str:
    """A score; an encoder that was trained for its embedding alone has none."""
    return "-" if score is None else f"{score:.3f}"
