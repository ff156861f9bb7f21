"""The config of an experiment: one TOML file, which is validated key by key before anything runs.

Each section is a frozen pydantic model (`pipeline.sections`) that checks its bounds and rejects unknown keys. Sections
determine the results; the location of data (`dataset.*.root`), the workers and the store are not part of a task's key.
`pipeline.experiments` finds and reads the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self, get_args

from pydantic import ValidationError, model_validator

from data.wording import counted
from pipeline.experiments import layers, shipped
from pipeline.experiments.errors import ConfigError
from pipeline.experiments.layers import Layers
from pipeline.experiments.suggestions import keys_meant, sections_meant
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

__all__ = ["Config", "ConfigError", "load", "parse_sections", "read"]


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
        """Return the sections of the roles whose data is read: test, and train unless there is nothing to train."""
        trains = not self.model.checkpoint or (self.visual.weights == "pretrain" and "rgb" in self.streams)
        return {role: section for role, section in self._roles.items() if role != "train" or trains}

    @property
    def _roles(self) -> dict[str, SetSection]:
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
        for role, section in self._roles.items():
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

    `path` is that of a file or the name of a shipped experiment. A file with `extends = "other.toml"` contains only the
    differences from another file in the same folder, one with `extends = "a2d"` those from a shipped experiment.
    Raises `ConfigError`, which names the key, the value found and the values allowed.
    """
    return read(path, overrides)[0]


def read(path: Path, overrides: Iterable[str]) -> tuple[Config, Layers]:
    """Read the config like `load`, and also return where each of its values comes from. Raises `ConfigError`."""
    found = layers.read(shipped.find(path), overrides)
    table = dict(found.values)
    if "datasets" in table:
        raise ConfigError(f"config {path}: unknown key datasets; did you mean dataset?")
    try:
        _set_processes(table)
        table["datasets"] = _datasets(table)
        return Config.model_validate_json(json.dumps(table, default=str)), found
    except ValidationError as error:
        raise ConfigError(_first(error, found, path)) from error


def _set_processes(table: dict[str, Any]) -> None:
    """Replace training.processes = "auto" by the number of this host's slots; the last bits of results depend on it."""
    training, compute = table.get("training"), table.get("compute")
    if isinstance(training, dict) and training.get("processes") == "auto" and isinstance(compute, dict):
        count = 1
        try:
            section = ComputeSection.model_validate(compute)
            count = len(slots.find("auto", section.device, section.threads))
        except slots.ImpossibleDevices as error:
            raise ConfigError(str(error)) from error
        except ValidationError:
            pass  # which the validation of the whole config says of [compute]
        table["training"] = training | {"processes": count}


def parse_sections(compact: str, model: type[Config] = Config) -> dict[str, dict[str, Any]]:
    """Return the validated sections from the compact JSON that `Config.subset` writes."""
    sections = {}
    for name, values in json.loads(compact).items():
        section: type[Section] = model.model_fields[name].annotation  # type: ignore[assignment]
        sections[name] = section.model_validate_json(json.dumps(values)).model_dump()
    return sections


def _datasets(table: dict[str, Any]) -> dict[str, Any]:
    """Return the data sets by name. [dataset] describes the only data set or holds defaults for each [dataset.NAME].

    Raises `ConfigError` if [dataset] is missing or one of its defaults has no effect.
    """
    shared = table.pop("dataset", None)
    if not isinstance(shared, dict):
        raise ConfigError("the section [dataset] is missing: kind, root, shards, exclude, groups")
    named = named_datasets(shared)
    common = {key: value for key, value in shared.items() if key not in named}
    if named:
        hidden = [key for key in common if all(key in own for own in named.values())]
        if hidden:
            key, names = hidden[0], ", ".join(named)
            raise ConfigError(f"dataset.{key} has no effect here: set dataset.NAME.{key}, NAME being one of {names}")
        return {name: {**common, **own} for name, own in named.items()}
    return dict.fromkeys(sorted(_used(table)), common)


def _used(table: Mapping[str, Any]) -> set[str]:
    """Return the names of the data sets that [train] and [test] name."""
    names = [role.get("dataset") for role in (table.get("train"), table.get("test")) if isinstance(role, dict)]
    return {name for name in names if isinstance(name, str)}


def named_datasets(shared: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tables [dataset.NAME] of the table [dataset] by name; none if it describes the only data set."""
    return {key: value for key, value in shared.items() if isinstance(value, dict) and key != "exclude"}


def _first(error: ValidationError, found: Layers, path: Path) -> str:
    """Return a message for the first failure: the layer, the key, the value found and the values allowed."""
    failure: Mapping[str, Any] = error.errors()[0]
    key = _as_written(tuple(str(part) for part in failure["loc"]), found)
    origin = found.origin(key) if key and failure["type"] not in ("missing", "value_error") else None
    where = f"config {path}" if origin is None else origin if origin.startswith("--set ") else f"config {origin}"
    name = ".".join(key)
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if failure["type"] == "extra_forbidden":
        meant = sections_meant(key[0], _known()) if len(key) == 1 else keys_meant(key[0], key[-1], _known())
        hint = f"did you mean {' or '.join(meant)}?" if meant else "remove it or correct its name"
        return f"{where}: unknown key {name}; {hint}{more}"
    if failure["type"] == "missing":
        used = _used(found.values)
        own = key[1] if len(key) == 3 and key[1] not in used else None
        hint = f", and neither [train] nor [test] names {own}; they name {', '.join(sorted(used))}" if own else ""
        return f"{where}: key {name} is missing{hint}{more}"
    if failure["type"] == "value_error":
        return f"{where}: {failure['ctx']['error']}{more}"
    return f"{where}: {name} = {failure['input']!r}: {failure['msg']}{more}"


def _as_written(key: layers.Key, found: Layers) -> layers.Key:
    """Return a key of `Config.datasets` as it stands in the file: dataset.NAME.key or dataset.key."""
    if key[:1] != ("datasets",):
        return key
    own, shared = ("dataset", *key[1:]), ("dataset", *key[2:])
    named = key[1] in named_datasets(found.values["dataset"])
    return own if named and (found.origin(own) or not found.origin(shared)) else shared


def _known() -> dict[str, list[str]]:
    """Return the keys of each section by its name in a file."""
    known = {}
    for name, field in Config.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Section):
                known["dataset" if name == "datasets" else name] = list(part.model_fields)
    return known
