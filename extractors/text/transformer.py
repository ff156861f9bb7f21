"""Word vectors of a transformers model in a local folder. torch and transformers are imported only when needed."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from data.wording import counted
from extractors.text.word2vec import check_dimension

Layer = Literal["input", "last"]

Vector = Float32[np.ndarray, "dim"]


def encoder_vectors(
    sentences: Sequence[Sequence[str]], folder: Path, dim: int, layer: Layer
) -> Iterator[list[Vector | None]]:
    """Yield the vectors of the words of each sentence: the mean over a word's sub-words of the model's input embeddings
    ("input") or of its last hidden state ("last").

    Sub-words that the tokenizer does not know are left out of the mean; a word without known sub-words gets None. Each
    sentence is computed alone, in float32, so no row depends on other sentences. Only the folder is read: no network,
    no pickle files, and none of the folder's code is run. Raises UnknownEncoder, WrongDimension, LongSentence."""
    encoder = _Encoder(folder, dim, layer)
    return (encoder.rows(words) for words in sentences)


def check_folder(folder: Path, dim: int, layer: Layer) -> None:
    """Check the dimension that the config.json of a transformers model states; the model is not read.

    Raises UnknownEncoder, WrongDimension."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        stated = (
            config.get("hidden_size") if layer == "last" else config.get("embedding_size", config.get("hidden_size"))
        )
    except (OSError, ValueError, AttributeError) as error:
        raise UnknownEncoder(f"{folder}: no config.json of a transformers model: {error}. Fetch it again.") from error
    if isinstance(stated, int):
        check_dimension(folder, stated, dim)


class _Encoder:
    def __init__(self, folder: Path, dim: int, layer: Layer) -> None:
        self._folder, self._layer = folder, layer
        self._tokenizer, self._model = _tokenizer(folder), _model(folder)
        config = self._model.config
        if config.is_encoder_decoder or config.get_text_config() is not config:
            raise UnknownEncoder(f"{folder}: {config.model_type} has several parts; expected a text model of one.")
        rows, embedded = self._model.get_input_embeddings().weight.shape
        if len(self._tokenizer) > rows:
            raise UnknownEncoder(
                f"{folder}: a tokenizer of {len(self._tokenizer)} sub-words, but the model has {rows}. They are of "
                "different models: fetch both again."
            )
        check_dimension(folder, embedded if layer == "input" else config.hidden_size, dim)
        self._longest = min(self._tokenizer.model_max_length, getattr(config, "max_position_embeddings", math.inf))

    def rows(self, words: Sequence[str]) -> list[Vector | None]:
        if not words:
            return []
        encoding = self._tokenizer(list(words), is_split_into_words=True, return_tensors="pt")
        ids = encoding["input_ids"][0].tolist()
        if len(ids) > self._longest:
            raise LongSentence(
                f"{self._folder}: {counted(len(ids), 'sub-word')} in {' '.join(words)[:80]!r}, but the model takes "
                f"{self._longest}. Lower text.words."
            )
        places: list[list[int]] = [[] for _ in words]
        for place, word in enumerate(encoding.word_ids(0)):
            if word is not None and ids[place] != self._tokenizer.unk_token_id:
                places[word].append(place)
        states = self._states(encoding)
        return [states[own].mean(axis=0) if own else None for own in places]

    def _states(self, encoding: Any) -> Float32[np.ndarray, "subwords dim"]:
        import torch

        with torch.inference_mode():
            if self._layer == "input":
                states = self._model.get_input_embeddings()(encoding["input_ids"])
            else:
                states = self._model(**encoding).last_hidden_state
            vectors: np.ndarray = states[0].numpy()
        return vectors


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        # byte-level tokenizers need the prefix space to tokenize single words; others ignore the option
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, add_prefix_space=True
        )
    except (OSError, ValueError) as error:
        raise UnknownEncoder(f"{folder}: no tokenizer that transformers reads: {error}. Fetch it again.") from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # transformers makes an empty one if the files are missing
        names = sorted(path.name for path in folder.iterdir())
        raise UnknownEncoder(
            f"{folder}: a tokenizer without words, found {names}; expected `tokenizer.json`, or the vocabulary in the "
            "model's own form. Fetch it again."
        )
    if not tokenizer.is_fast:
        raise UnknownEncoder(
            f"{folder}: {type(tokenizer).__name__} cannot say which sub-words are of which word; expected a fast "
            "tokenizer. Save one with `tokenizer.json`."
        )
    return tokenizer


def _model(folder: Path) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel
    from transformers.utils.logging import disable_progress_bar

    if not any(folder.glob("*.safetensors")):
        names = sorted(path.name for path in folder.iterdir())
        raise UnknownEncoder(
            f"{folder}: no weights as safetensors, found {names}; expected `model.safetensors`. Pickles (`.bin`) can "
            "run code and are not loaded: save the model with `save_pretrained`."
        )
    disable_progress_bar()
    try:
        model, report = AutoModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="eager",  # fixed summation order; that of fused kernels depends on length and machine
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UnknownEncoder(f"{folder}: no model that transformers reads: {error}. Fetch it again.") from error
    absent = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))  # the pooler is not used
    if absent:
        raise UnknownEncoder(f"{folder}: no weights for {absent[:3]} ({len(absent)} in all). Fetch it again.")
    return model.eval()


class UnknownEncoder(ValueError):
    """Raised if a folder is not a transformers model that can be loaded without pickle files and code."""


class LongSentence(ValueError):
    """Raised if a sentence has more sub-words than the model accepts."""
