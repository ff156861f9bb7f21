"""The config of an experiment: one TOML file, which is validated key by key before anything runs.

Each section is a frozen pydantic model (`pipeline.sections`) that checks its bounds and rejects unknown keys. Sections
determine the results; the location of data (`dataset.*.root`), the workers and the store are not part of a task's key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from data.wording import counted
from pipeline.sections.compute import ComputeSection
from pipeline.sections.dataset.datasets import GENERATED, DatasetSection, MiniatureSection, SetSection
from pipeline.sections.dataset.frames import FramesSection
from pipeline.sections.dataset.masks import MasksSection
from pipeline.sections.features.flow import FlowSection
from pipeline.sections.features.text import TextSection
from pipeline.sections.features.visual import VisualSection
from pipeline.sections.results.metrics import MetricsSection
from pipeline.sections.results.prediction import PredictionSection
from pipeline.sections.results.report import ReportSection
from pipeline.sections.section import Section
from pipeline.sections.training.model import ModelSection
from pipeline.sections.training.pretrain import PretrainSection
from pipeline.sections.training.training import TrainingSection
from pipeline.store import slots


class ConfigError(ValueError):
    """Error raised if a config cannot be run; the message names the key, the value found and the values allowed."""


class Config(Section):
    """The validated config of a whole experiment, with one field per section."""

    datasets: dict[str, DatasetSection]
    train: SetSection | None = None
    test: SetSection
    miniature: MiniatureSection | None = None
    frames: FramesSection
    flow: FlowSection
    masks: MasksSection
    text: TextSection
    visual: VisualSection
    pretrain: PretrainSection
    model: ModelSection
    training: TrainingSection
    prediction: PredictionSection
    metrics: MetricsSection
    compute: ComputeSection
    report: ReportSection

    @property
    def sets(self) -> dict[str, SetSection]:
        """Return the sections of the roles that this config has: test, and train if there is such a section."""
        roles = {"train": self.train, "test": self.test}
        return {role: section for role, section in roles.items() if section is not None}

    @property
    def files(self) -> dict[str, str]:
        """Return the raw files that the config names, as a dict from config key to path."""
        named = {
            "text.vectors": self.text.vectors,
            "visual.weights": self.visual.weights if "rgb" in self.streams else "",
            "visual.flow_weights": self.visual.flow_weights if "flow" in self.streams else "",
            "model.checkpoint": self.model.checkpoint,
        }
        no_file = ("", "hash", "seeded", "pretrain", "checkpoint")
        return {key: path for key, path in named.items() if path not in no_file}

    @property
    def streams(self) -> tuple[str, ...]:
        """Return the streams, "rgb" or "flow" or both, each of which has its own network."""
        return ("rgb", "flow") if self.visual.modality == "both" else (self.visual.modality,)

    def subset(self, names: Iterable[str]) -> str:
        """Return the named sections as compact JSON, the form in which tasks store them."""
        return json.dumps({name: getattr(self, name).model_dump() for name in sorted(names)}, separators=(",", ":"))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for role, section in self.sets.items():
            if section.dataset not in self.datasets:
                raise ValueError(
                    f"{role}.dataset = {section.dataset!r}, but the data sets here are {sorted(self.datasets)}"
                )
        if any(d.root == GENERATED for d in self.datasets.values()) and self.miniature is None:
            raise ValueError(f"dataset.root = {GENERATED!r} needs a section [miniature]")
        if not self.model.checkpoint and self.train is None:
            raise ValueError("[train] is missing: name a data set to train on, or set model.checkpoint")
        self._check_streams()
        kinds = {self.datasets[section.dataset].kind for section in self.sets.values()}
        if "reference" in kinds and (len(self.streams) > 1 or self.visual.weights == "pretrain"):
            raise ValueError("dataset.kind = 'reference' has features of one stream and no clips to pretrain on")
        return self

    def _check_streams(self) -> None:
        visual = self.visual
        if visual.weights == "pretrain" and self.train is None:
            raise ValueError("visual.weights = 'pretrain' learns from [train], which is missing")
        if visual.weights == "pretrain" and (visual.backbone != "i3d" or "rgb" not in self.streams):
            raise ValueError("visual.weights = 'pretrain' is for I3D on RGB; give 'seeded' or a file of weights")
        if visual.flow_weights == "pretrain":
            raise ValueError("visual.flow_weights = 'pretrain': only RGB is pretrained; give 'seeded' or a file")
        for stream, weights in (("rgb", visual.weights), ("flow", visual.flow_weights)):
            if stream in self.streams and weights == "checkpoint" and not self.model.checkpoint:
                raise ValueError("visual.weights = 'checkpoint' takes the trunk from model.checkpoint, which is empty")
        if visual.backbone != "i3d" and (visual.modality, visual.width) != ("rgb", 1.0):
            raise ValueError(
                f"visual.backbone = {visual.backbone!r} needs visual.modality = 'rgb' and visual.width = 1.0"
            )
        if visual.backbone != "i3d" and visual.frames > self.frames.length:
            raise ValueError(f"visual.frames = {visual.frames}, but a clip has frames.length = {self.frames.length}")
        if self.model.checkpoint and len(self.streams) > 1:
            raise ValueError("model.checkpoint is one network; visual.modality = 'both' would need two")
        if len(self.streams) != len(self.prediction.fusion):
            found, expected = len(self.prediction.fusion), len(self.streams)
            raise ValueError(
                f"prediction.fusion has {counted(found, 'weight')}, but"
                f" {counted(expected, 'network predicts', 'networks predict')}: {self.streams}"
            )
        if self.training.flip and not self.text.mirrored:
            raise ValueError("training.flip needs text.mirrored = true: sentences whose left and right are swapped")


def load(path: Path, overrides: Iterable[str]) -> Config:
    """Read the config from a TOML file, with `section.key=value` overrides (TOML values; strings may be unquoted).

    A file with `extends = "other.toml"` contains only the differences from another file in the same folder.
    Raises `ConfigError`, which names the key, the value found and the values allowed.
    """
    table = _table(path, ())
    for override in overrides:
        _apply(table, override)
    try:
        _set_processes(table)
        table["datasets"] = _datasets(table)
        return Config.model_validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise ConfigError(f"config {path}: {_first(error)}") from error


def _set_processes(table: dict[str, Any]) -> None:
    """Replace training.processes = "auto" by the number of this host's slots; the last bits of results depend on it."""
    training, compute = table.get("training"), table.get("compute")
    if isinstance(training, dict) and training.get("processes") == "auto" and isinstance(compute, dict):
        section = ComputeSection.model_validate(compute)
        try:
            training["processes"] = len(slots.find("auto", section.device, section.threads))
        except slots.ImpossibleDevices as error:
            raise ConfigError(str(error)) from error


def parse_sections(compact: str, model: type[Config] = Config) -> dict[str, dict[str, Any]]:
    """Return the validated sections from the compact JSON that `Config.subset` writes."""
    sections = {}
    for name, values in json.loads(compact).items():
        section: type[Section] = model.model_fields[name].annotation  # type: ignore[assignment]
        sections[name] = section.model_validate_json(json.dumps(values)).model_dump()
    return sections


def _table(path: Path, extending: tuple[str, ...]) -> dict[str, Any]:
    """Read a TOML file, merged over the file that it extends; `extending` are the names of the files that extend it.

    Raises `ConfigError` if a file cannot be read, is not valid TOML or extends itself.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config {path}: cannot be read ({error.strerror}); give the path of a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config {path}: not valid TOML: {error}") from error
    base = table.pop("extends", None)
    if base is None:
        return table
    names = (*extending, path.name)
    if not isinstance(base, str) or not base or Path(base).name != base or base in names:
        raise ConfigError(f"config {path}: extends = {base!r}; give the name of another file in {path.parent}")
    below = _table(path.with_name(base), names)
    return {name: _merged(below.get(name), table.get(name)) for name in [*below, *(set(table) - set(below))]}


def _merged(below: Any, above: Any) -> Any:
    """Return the values `above` merged over the values `below`, key by key; None stands for a missing value."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return below if above is None else above


def _datasets(table: dict[str, Any]) -> dict[str, Any]:
    """Return the data sets by name. [dataset] describes the only data set or holds defaults for each [dataset.NAME].

    Raises `ConfigError` if [dataset] is missing or one of its defaults has no effect.
    """
    shared = table.pop("dataset", None)
    if not isinstance(shared, dict):
        raise ConfigError("the section [dataset] is missing: kind, root, shards, exclude, groups")
    named = {key: value for key, value in shared.items() if isinstance(value, dict) and key != "exclude"}
    common = {key: value for key, value in shared.items() if key not in named}
    if named:
        hidden = [key for key in common if all(key in own for own in named.values())]
        if hidden:
            key, names = hidden[0], ", ".join(named)
            raise ConfigError(f"dataset.{key} has no effect here: set dataset.NAME.{key}, NAME being one of {names}")
        return {name: {**common, **own} for name, own in named.items()}
    roles = {role["dataset"] for role in (table.get("train"), table.get("test")) if role and "dataset" in role}
    return dict.fromkeys(sorted(roles), common)


def _apply(table: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` override in the table. Raises `ConfigError`."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or len(parts) < 2 or not all(parts):
        raise ConfigError(f"--set {override}: expected section.key=value, for example training.lr=0.001")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {part} is a value, not a section")
    table[parts[-1]] = value


def _first(error: ValidationError) -> str:
    """Return a message for the first failure: the key, the value found and the values allowed."""
    failure: Mapping[str, Any] = error.errors()[0]
    key = ".".join(str(part) for part in failure["loc"]).removeprefix("datasets.")
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if failure["type"] == "extra_forbidden":
        return f"unknown key {key}; remove it or correct its name{more}"
    if failure["type"] == "missing":
        return f"key {key} is missing{more}"
    if failure["type"] == "value_error":
        return f"{failure['ctx']['error']}{more}"
    return f"{key} = {failure['input']!r}: {failure['msg']}{more}"
