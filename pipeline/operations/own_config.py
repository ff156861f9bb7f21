"""Configs of one's own: the template of a new one, and all values of one with where each comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.datasets import NO_SHARE
from data.readers import folder
from data.wording import counted
from extractors.text.sentences import tokens
from pipeline import config as configs
from pipeline.config import Config, ConfigError
from pipeline.experiments import shipped
from pipeline.experiments.layers import Layers
from pipeline.sections.dataset.datasets import GENERATED

Tables = dict[str, dict[str, Any]]
"""The values of a config: name of a table in TOML -> key -> value."""

COLUMN = 44
CELL = 32  # pixels, of which the size of frames is a multiple
LARGEST_SIZE = 256  # pixels, of what is fitted to a data set; training at 512 takes four times as long
VIDEOS_A_SHARD = 50
ROOTS = {
    "a2d": "the folder that holds Release/ and the annotation files",
    "folder": "the folder that holds sentences.csv, videos/ and masks/",
    "jhmdb": "the folder that holds jhmdb_annotation.txt, puppet_mask/ and the videos",
    "rvos": "the folder of Ref-YouTube-VOS, Ref-DAVIS17 or MeViS",
    "reference": "a folder in the layout of the authors' code: train.txt, test.txt and the HDF5 files",
}
VECTORS = 'word vectors: a word2vec .bin, a GloVe .txt, a folder with a transformers model, or "hash"'
WEIGHTS = {
    "visual.weights": 'weights of the trunk: a file, "pretrain", "checkpoint" or "seeded"',
    "visual.flow_weights": 'weights of the trunk for flow: a file, "checkpoint" or "seeded"',
}


def resolved(config: Config, found: Layers) -> tuple[Tables, dict[str, str]]:
    """Return all values of a config by table, and where each "table.key" comes from: a file, or "--set KEY=VALUE".

    The values are a config by themselves, which extends nothing.
    """
    named = configs.named_datasets(found.values["dataset"])
    tables: Tables = {}
    for name, section in config.datasets.items():
        tables[f"dataset.{name}" if named else "dataset"] = section.model_dump()
    tables |= config.model_dump(exclude={"datasets"}, exclude_none=True)
    origins = {}
    for table, values in tables.items():
        for key in values:
            of_key = (*table.split(".", 1), key)
            origin = found.origin(of_key) or found.origin((of_key[0], key))
            assert origin is not None, "no value of a config has a default"
            origins[f"{table}.{key}"] = origin
    return tables, origins


def toml(tables: Tables, origins: Mapping[str, str]) -> str:
    """Return the tables as TOML, each value with a comment that says where it comes from."""
    lines = []
    for table, values in tables.items():
        lines.append(f"[{'.'.join(_key(part) for part in table.split('.', 1))}]")
        for key, value in values.items():
            source = shipped.title(origins[f"{table}.{key}"])
            lines.append(f"{f'{key} = {_value(value)}':{COLUMN}}  # {_comment(source)}")
        lines.append("")
    return "\n".join(lines).rstrip("\n")


def template(name: str, file: Path, data: Path | None = None) -> str:
    """Return the text of a config that extends a shipped one: the keys to fill in, each with what to give.

    `data` is the folder of a data set of one's own, to which sizes and shards are fitted. Raises `ConfigError` if no
    experiment of that name is shipped, or `data` is given for another one than "folder"; `BadFolder` with all that is
    wrong in the folder.
    """
    config, found = configs.read(shipped.named(name), ())
    kinds = {section.kind for section in config.datasets.values()}
    if data is not None and kinds != {"folder"}:
        raise ConfigError(f"--data {data}: {name} has no data set of one's own; give --from folder")
    own = _comment(file.name)
    lines = [
        f"# What {name} says (`acga configs`), but for the keys below. `acga config {own}` prints all keys, and",
        f"# `acga plan {own}` says which file or folder is missing. Where the data is from: docs/data.md.",
        f'extends = "{name}"',
    ]
    tables: dict[str, list[str]] = {}
    named = configs.named_datasets(found.values["dataset"])
    for dataset, section in config.datasets.items():
        if section.root != GENERATED:
            table = f"dataset.{dataset}" if named else "dataset"
            root = section.root if data is None else str(data)
            tables[table] = [_line("root", root, ROOTS[section.kind])]
    for key, text in {"text.vectors": VECTORS, **WEIGHTS}.items():
        if key in config.files:
            table, _, entry = key.partition(".")
            tables.setdefault(table, []).append(_line(entry, config.files[key], text))
    for table, key, value, text in () if data is None else _fitted(data, config):
        tables.setdefault(table, []).append(_line(key, value, text))
    tables["model"] = [_line("checkpoint", config.model.checkpoint, 'a trained network, which is tested; "" to train')]
    tables["compute"] = [_line("device", config.compute.device, '"cuda" or "cpu"')]
    for table, entries in tables.items():
        lines += ["", f"[{table}]", *entries]
    return "\n".join(lines) + "\n"


def _fitted(data: Path, config: Config) -> Iterator[tuple[str, str, int, str]]:
    """Yield the table, key and value of what is fitted to a folder of data, and why the value is that."""
    if not data.is_dir():
        raise ConfigError(f"--data {data}: no such folder; give the one that holds sentences.csv, videos/ and masks/")
    found = folder.read(data, "all", {}, NO_SHARE)
    side = max(max(video.height, video.width) for video in found.videos)
    size = min(LARGEST_SIZE, -(-side // CELL) * CELL)
    longest = max(len(tokens(query.text)) for query in found.queries)
    yield "dataset", "shards", -(-len(found.videos) // VIDEOS_A_SHARD), counted(len(found.videos), "video")
    yield "frames", "size", size, f"px; the longest side of a video has {side}, the paper's size is 512"
    if longest > config.text.words:
        yield "text", "words", longest, "the longest sentence"


def _line(key: str, value: str | int, text: str) -> str:
    return f"{f'{key} = {_value(value)}':{COLUMN}}  # {text}"


def _value(value: Any) -> str:
    """Return a value in TOML; JSON's strings, numbers and booleans are TOML's, but for the character DEL."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_entries(value)) + " }" if value else "{}"
    if isinstance(value, list):
        return f"[{', '.join(_value(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _entries(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(name: str) -> str:
    """Return a key in TOML, quoted where it must be."""
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else _value(name)


def _comment(text: str) -> str:
    """Return a text without the characters that a comment in TOML must not have."""
    return "".join(character if character.isprintable() else "?" for character in text)
