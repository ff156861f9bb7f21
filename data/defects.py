"""The catalogue of the data sets' known defects: what each rule detects and what the readers then do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One defect that does not stop a run: it is dealt with as `done` says, and counted."""

    id: str
    detects: str
    done: str


_CATALOGUE = (
    Rule("header_line", "videoset.csv begins with a line of column names", "the line is skipped"),
    Rule("missed_video", "the video is in a2d_missed_videos.txt", "it is left out"),
    Rule("missed_video_unknown", "a2d_missed_videos.txt names a video that videoset.csv does not hold", "nothing"),
    Rule("excluded", "the configuration excludes the video, with a reason", "it is left out"),
    Rule("no_sentence", "no sentence speaks of the video", "it is left out"),
    Rule("sentence_without_video", "a sentence on a video that the data set does not hold", "the sentence is dropped"),
    Rule("copied_row", "an instance id such as `1 (copy)`", "the sentence is dropped"),
    Rule("empty_query", "a sentence without a word", "it is dropped"),
    Rule("query_cleaned", "capitals, or blanks at the ends or in a row", "lower case, single blanks"),
    Rule("labelled_count", "fewer or more annotation files than videoset.csv declares", "the files count"),
    Rule("labelled_beyond", "a labelled frame beyond the declared number of frames", "the decoder decides"),
    Rule("duplicate_instance", "one instance id on several masks of a frame", "the first mask wins"),
    Rule("surplus_mask", "a frame with more masks than instance ids", "the surplus masks are dropped"),
)

RULES = {rule.id: rule for rule in _CATALOGUE}


class Hits:
    """Collects which records met which rule."""

    def __init__(self) -> None:
        self._records: dict[str, list[str]] = {}

    def add(self, rule: str, record: str) -> None:
        """Notes that `record` met `rule`. Raises KeyError where the catalogue has no such rule."""
        self._records.setdefault(RULES[rule].id, []).append(record)

    def collected(self) -> dict[str, tuple[str, ...]]:
        """Rule -> records, both in a fixed order; rules without a hit are left out."""
        return {rule: tuple(self._records[rule]) for rule in RULES if rule in self._records}
