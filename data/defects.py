"""Catalogue of the known defects of the datasets: what each rule detects and how the defect is handled.

Any other defect raises an error that names the record.
"""

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["dropped", "repaired", "noted", "refused"]


@dataclass(frozen=True)
class Rule:
    """One known defect, which is handled as `done` describes and counted.

    `outcome` is the category of the handling: data is "dropped" or "repaired"; "noted" data is used unchanged;
    "refused" data raises an error unless the video is in [dataset].exclude."""

    id: str
    detects: str
    done: str
    outcome: Outcome


_CATALOGUE = (
    # defects of the text files and folders, found when a dataset is listed
    Rule("header_line", "videoset.csv begins with a line of column names", "the line is skipped", "repaired"),
    Rule("missed_video", "the video is in a2d_missed_videos.txt", "it is left out", "dropped"),
    Rule(
        "missed_video_unknown",
        "a2d_missed_videos.txt names a video that videoset.csv does not hold",
        "nothing",
        "noted",
    ),
    Rule("excluded", "the configuration excludes the video, with a reason", "it is left out", "dropped"),
    Rule("no_sentence", "no sentence speaks of the video", "it is left out", "dropped"),
    Rule(
        "sentence_without_video",
        "a sentence on a video that the data set does not hold",
        "the sentence is dropped",
        "dropped",
    ),
    Rule(
        "unlisted_frame",
        "a picture or mask of a frame that meta_expressions.json does not list",
        "it is no labelled frame",
        "noted",
    ),
    Rule("copied_row", "an instance id such as `1 (copy)`", "the sentence is dropped", "dropped"),
    Rule("empty_query", "a sentence without a word", "it is dropped", "dropped"),
    Rule("query_cleaned", "capitals, or blanks at the ends or in a row", "lower case, single blanks", "repaired"),
    Rule("labelled_count", "fewer or more annotation files than videoset.csv declares", "the files count", "noted"),
    Rule("labelled_beyond", "a labelled frame beyond the declared number of frames", "the decoder decides", "noted"),
    Rule(
        "beyond_last_mask",
        "a J-HMDB video with more frames than masks",
        "the frames beyond the last mask are not used",
        "dropped",
    ),
    # defects of the annotation files, found when their masks are read
    Rule("duplicate_instance", "one instance id on two masks of a frame", "the first mask wins", "dropped"),
    Rule("surplus_mask", "a frame with more masks than instance ids", "the surplus masks are dropped", "dropped"),
    Rule("overlapping_masks", "instances of a frame that share pixels", "the masks are used as they are", "noted"),
    Rule("empty_mask", "an instance whose mask has no pixel", "the empty mask is used as it is", "noted"),
    Rule(
        "mask_size",
        "masks of another size than the video",
        "an error (MaskSizeMismatch) until the video is excluded",
        "refused",
    ),
    # defects of samples and decoded videos
    Rule(
        "absent_instance",
        "a labelled frame that does not show the instance of a sentence",
        "the pair is left out, or has an empty mask where dataset.absent is `empty`",
        "dropped",
    ),
    Rule("frame_count", "more or fewer decoded frames than videoset.csv declares", "the decoded ones count", "noted"),
    Rule("label_past_end", "a labelled frame past the end of the decoded video", "the video is quarantined", "dropped"),
    Rule("quarantined", "a video that no decoder reads, every time", "it is left out, with the reason", "dropped"),
)

RULES = {rule.id: rule for rule in _CATALOGUE}


class Hits:
    """Collector of the records that match each rule."""

    def __init__(self) -> None:
        self._records: dict[str, list[str]] = {}

    def add(self, rule: str, record: str) -> None:
        """Record that `record` matches `rule`. Raises KeyError if the catalogue has no such rule."""
        self._records.setdefault(RULES[rule].id, []).append(record)

    def collected(self) -> dict[str, tuple[str, ...]]:
        """Return the records of each rule, in catalogue order; rules without a record are left out."""
        return {rule: tuple(self._records[rule]) for rule in RULES if rule in self._records}
