"""The experiment: one TOML file, checked key by key before anything runs.

Each section is a frozen model that knows its bounds and refuses unknown keys. Sections say how results are made;
where things lie (`dataset.*.root`) and how they are run (workers, store) never enters a key.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Rate = Annotated[float, Field(gt=0)]

GENERATED = "generated"
"""A `dataset.root` that says: make the miniature of the section [miniature] inside the store."""


class ConfigError(ValueError):
    """A config that cannot be run: which key, what was found, what is allowed."""


class Section(BaseModel):
    """A part of the config: frozen, without unknown keys, without values that JSON cannot carry."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class DatasetSection(Section):
    """Where one data set lies and which of its records count."""

    kind: Literal["a2d", "jhmdb", "reference"] = Field(description="layout; reference: features, the authors' folder")
    root: str = Field(min_length=1, description="folder, relative to the working directory; or 'generated'")
    shards: Positive = Field(description="files that each sharded stage is cut into, per split")
    exclude: dict[str, str] = Field(description="video id -> the reason why it is left out")
    groups: str = Field(description="CSV under root (video_id,instance_id,group) that splits the scores; '' for none")
    labelled: str = Field(min_length=1, description="'even', or for J-HMDB a JSON list of its labelled frames")
    absent: Literal["drop", "empty"] = Field(description="a labelled frame without the instance: no sample, or no mask")
    expect: Literal["none", "published"] = Field(
        description="'published': `acga check` compares counts with the papers'"
    )
    max_failures: Annotated[int, Field(ge=0, description="videos of a split that may be left out as unreadable")]


class SetSection(Section):
    """The videos of one role: a data set by name and its split."""

    dataset: str
    split: Literal["train", "test", "all"]


class MiniatureSection(Section):
    """The generated data set (`data.miniature.Spec`)."""

    seed: Seed
    train_clips: Positive
    test_clips: Positive
    size: Annotated[int, Field(ge=48, multiple_of=2, description="height and width of a video")]
    frames: Annotated[int, Field(ge=24, le=332, description="frames of a video")]
    labels: Annotated[int, Field(ge=1, le=3, description="labelled frames of a video")]


class FramesSection(Section):
    """The clip around a labelled frame."""

    size: Annotated[int, Field(ge=32, multiple_of=16, description="letterboxed height and width")]
    length: Annotated[int, Field(ge=4, multiple_of=4, description="frames of a clip; the labelled one is length/2")]
    limit_seconds: Annotated[float, Field(gt=0, description="a video that takes longer to decode fails its task")]
    verify: Literal["all"] | Annotated[float, Field(ge=0, le=1)] = Field(
        description="share of the videos that a second decoder checks, or 'all'"
    )


class MasksSection(Section):
    """Target masks at three resolutions: size, size/4 and size/16."""

    threshold: Annotated[float, Field(gt=0, le=1, description="share of a cell that must be covered")]


class FlowSection(Section):
    """Optical flow; read where visual.modality is "flow" or "both"."""

    method: Literal["dis", "tvl1"] = Field(description="OpenCV's DIS, or TV-L1 where the installed OpenCV has it")
    bound: Annotated[float, Field(gt=0, description="pixels; displacements are clipped to it and divided by it")]


class TextSection(Section):
    """Word vectors."""

    vectors: str = Field(min_length=1, description="'hash', a word2vec .bin, a GloVe .txt, or a transformers folder")
    layer: Literal["input", "last"] = Field(description="of a transformers model: input embeddings, last hidden state")
    words: Positive = Field(description="word positions of a sentence")
    dim: Positive = Field(description="length of a word vector")
    oov: Literal["zero", "skip", "random"] = Field(description="a word without a vector: zeros, left out, or seeded")
    mirrored: bool = Field(description="also the sentences with left and right swapped, for training.flip")
    seed: Seed


class VisualSection(Section):
    """The frozen trunk."""

    backbone: Literal["i3d", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    modality: Literal["rgb", "flow", "both"] = Field(description="what I3D sees; 'both' trains two networks")
    weights: str = Field(min_length=1, description="'seeded', 'pretrain', 'checkpoint', or a file of weights")
    flow_weights: str = Field(min_length=1, description="of I3D for flow: 'seeded', 'checkpoint', or a file")
    batch_norm: Literal["reference", "tensorflow"] = Field(description="I3D's eps 1e-5 (the port) or 1e-3 (original)")
    width: Annotated[float, Field(gt=0, le=1, description="share of I3D's channels")]
    frames: Positive = Field(description="frames of a clip that a ResNet sees")
    batch: Positive = Field(description="clips a forward pass; the last one is padded, so results depend on it")
    compute: Literal["float32", "bfloat16"]
    seed: Seed


class PretrainSection(Section):
    """Pretraining of the trunk on the data set's own actor and action labels; read where weights = 'pretrain'."""

    epochs: Positive
    batch: Positive
    lr: Rate
    warmup: Annotated[int, Field(ge=0, description="steps of a linear warm-up, before a cosine to zero")]
    weight_decay: Annotated[float, Field(ge=0)]
    foreground_weight: Rate
    colour_weight: Annotated[float, Field(ge=0, description="weight of the colour loss; 0 leaves it out")]
    flip: bool = Field(description="mirror clips at random")
    seed: Seed
    videos: list[str] = Field(description="ids of the only videos to learn from; [] for all of the train split")


class ModelSection(Section):
    """The network after the trunk."""

    checkpoint: str = Field(description="a trained model, ours or the authors' (skips training); '' to train")
    mode: Literal["fast", "plain"] = Field(description="the paper's operations one by one, or the same values faster")
    attention: bool = Field(description="cross-guided attention; false is the FCN baseline")
    fusion: bool = Field(description="of the three responses; without it the finest is the prediction")
    initialisation: Literal["authors", "scaled"]
    channels: Annotated[list[Positive], Field(min_length=2, max_length=2, description="upsampled: medium, large")]
    widths: Annotated[list[Positive], Field(min_length=3, max_length=3, description="mask heads: small, medium, large")]
    seed: Seed


class TrainingSection(Section):
    """Training of the head and the network."""

    epochs: Positive
    batch: Positive
    accumulate: Positive = Field(description="parts that a batch is computed in; batch norm sees each by itself")
    lr: Rate
    lr_drop_every: Positive = Field(description="epochs after which lr is multiplied by lr_drop, again and again")
    lr_drop: Annotated[float, Field(gt=0, le=1)]
    foreground_weight: Rate
    gradient_norm: Annotated[float, Field(ge=0, description="gradients are clipped to it; 0: not")]
    precision: Literal["float32", "bfloat16"]
    flip: bool = Field(description="mirror clips at random, left and right in their sentences, too")
    sampling: Literal["epoch", "reference", "clips"]
    validation: Annotated[float, Field(ge=0, lt=1, description="share of the videos held out; 0 for none")]
    patience: Annotated[int, Field(ge=0, description="epochs without improvement before it stops; 0: never")]
    checkpoint_every: Annotated[int, Field(ge=0, description="steps between checkpoints; 0: after epochs alone")]
    processes: Positive = Field(description="that share each batch, one GPU each")
    seed: Seed


class PredictionSection(Section):
    """Prediction on the test set."""

    batch: Positive
    precision: Literal["float32", "bfloat16"]
    fusion: list[Rate] = Field(description="weights of the RGB and the flow network's responses, for modality 'both'")


class MetricsSection(Section):
    """Confidence intervals of scores, by the bootstrap over videos."""

    resamples: Annotated[int, Field(ge=10, description="draws of as many videos as there are")]
    seed: Seed


class ComputeSection(Section):
    """What floating point results depend on besides the numbers."""

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d+)?)$")]
    threads: Positive


class ReportSection(Section):
    """The page."""

    samples: Annotated[int, Field(ge=0, le=100, description="test samples shown with their masks")]
    seed: Seed
    seeds: Positive


class Config(Section):
    """A whole experiment."""

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
        """The roles of this experiment: test, and train unless a checkpoint is given."""
        roles = {"train": self.train, "test": self.test}
        return {role: section for role, section in roles.items() if section is not None}

    @property
    def files(self) -> dict[str, str]:
        """Raw files that sections name: config key -> path."""
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
        """What networks are trained on: "rgb", "flow", or one on each."""
        return ("rgb", "flow") if self.visual.modality == "both" else (self.visual.modality,)

    def subset(self, names: Iterable[str]) -> str:
        """Some sections as compact JSON, the form in which tasks carry them."""
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
            raise ValueError(f"prediction.fusion has {found} weights, but {expected} networks predict: {self.streams}")
        if self.training.flip and not self.text.mirrored:
            raise ValueError("training.flip needs text.mirrored = true: sentences whose left and right are swapped")


def load(path: Path, overrides: Iterable[str]) -> Config:
    """The config of a TOML file with `section.key=value` overrides, values written as in TOML (strings also bare).

    A file that begins with `extends = "other.toml"` says only what differs from another one in the same folder.
    Raises `ConfigError` that names the key, what was found and what is allowed.
    """
    table = _table(path, ())
    for override in overrides:
        _apply(table, override)
    try:
        table["datasets"] = _datasets(table)
        return Config.model_validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise ConfigError(f"config {path}: {_first(error)}") from error


def parse_sections(compact: str, model: type[Config] = Config) -> dict[str, dict[str, Any]]:
    """Sections from the form that `Config.subset` writes, checked again as they would be in a config."""
    sections = {}
    for name, values in json.loads(compact).items():
        section: type[Section] = model.model_fields[name].annotation  # type: ignore[assignment]
        sections[name] = section.model_validate_json(json.dumps(values)).model_dump()
    return sections


def _table(path: Path, extending: tuple[str, ...]) -> dict[str, Any]:
    """A file with what it extends below it; `extending` are the files that extend it, by name."""
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
    """A section of a config over that of the one it extends, key by key."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}
    return below if above is None else above


def _datasets(table: dict[str, Any]) -> dict[str, Any]:
    """Data sets by name. [dataset] describes the only one, or is what every [dataset.NAME] starts from."""
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
    """The first failure in words: key, what was found, what is allowed."""
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
