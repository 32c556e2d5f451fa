"""What calibrates: rows of a file, a folder or a data set of the Hub, as the model will see them.

The first rows are taken, in their order, and no more are read than are needed: the same data give the same samples on
every machine.  Texts are joined until a sample is full; a conversation is a sample of its own, in the model's chat
template where it has one.  Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, Protocol

from syncer.claims import from_json
from syncer.compressing.task import Refused
from syncer.redaction import quoted

SUFFIXES: Final = (".jsonl", ".json", ".parquet", ".txt")
COLUMNS: Final = "text, messages, or prompt and completion"

HUB_DATASETS: Final = {
    "c4": ("allenai/c4", "en", "train"),
    "allenai/c4": ("allenai/c4", "en", "train"),
    "wikitext": ("Salesforce/wikitext", "wikitext-2-raw-v1", "train"),
    "Salesforce/wikitext": ("Salesforce/wikitext", "wikitext-2-raw-v1", "train"),
    "ultrachat_200k": ("HuggingFaceH4/ultrachat_200k", None, "train_sft"),
    "HuggingFaceH4/ultrachat_200k": ("HuggingFaceH4/ultrachat_200k", None, "train_sft"),
}
"""Repository, configuration and split behind the names that people use; every other data set has `train`."""

_LARGEST_JSON: Final = 512 * 1024 * 1024


class Tokenizer(Protocol):
    """What we use of a tokenizer of transformers."""

    chat_template: Any
    eos_token_id: int | None

    def __call__(self, text: str, *, add_special_tokens: bool) -> Mapping[str, list[int]]:
        """The tokens, as `input_ids`."""
        ...

    def apply_chat_template(self, conversation: list[dict[str, str]], *, tokenize: bool) -> Any:
        """The conversation as one text."""
        ...


@dataclass(frozen=True)
class Row:
    """One row: a text, or the messages of a conversation."""

    text: str = ""
    messages: tuple[tuple[str, str], ...] = ()


def local_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, or of all such files in a folder, by name; `Refused` when that makes no sense."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise Refused("data", f"{path} holds no file with samples: {', '.join(SUFFIXES)} are understood")
    for file in files:
        read = _READERS.get(file.suffix.lower())
        if read is None:
            raise Refused("data", f"{file} is no file with samples: {', '.join(SUFFIXES)} are understood")
        try:
            for number, row in enumerate(read(file), start=1):
                yield understand(row, where=f"row {number} of {file}")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused("data", f"{file} cannot be read: {error}") from error


def understand(row: Any, *, where: str) -> Row:
    """The row in one of the forms that we know, by its columns."""
    if not isinstance(row, Mapping):
        raise Refused("data", f"{where} is no object with columns")
    match row:
        case {"messages": [*messages]} if messages:
            pairs = [(each.get("role"), each.get("content")) for each in messages if isinstance(each, Mapping)]
            if len(pairs) == len(messages) and all(isinstance(part, str) for part in chain(*pairs)):
                return Row(messages=tuple((str(role), str(content)) for role, content in pairs))
            raise Refused("data", f"{where} has messages without the texts role and content")
        case {"prompt": str(prompt), "completion": str(completion)}:
            return Row(messages=(("user", prompt), ("assistant", completion)))
        case {"text": str(text)}:
            return Row(text=text)
        case _:
            names = ", ".join(sorted(map(str, row))[:8])
            raise Refused("data", f"{where} has the columns {names}; what is needed is {COLUMNS}")


def tokenized(rows: Iterable[Row], tokenizer: Tokenizer, *, length: int, most: int) -> list[list[int]]:
    """At most `most` samples of at most `length` tokens; `Refused` when there is not a single one."""
    samples: list[list[int]] = []
    pending: list[int] = []
    ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    for row in rows:
        if len(samples) >= most:
            break
        if row.messages:
            tokens = list(
                tokenizer(*_as_text(row, tokenizer), add_special_tokens=not tokenizer.chat_template)["input_ids"]
            )
            if tokens:
                samples.append(tokens[:length])
            continue
        if row.text.strip():
            pending += [*tokenizer(row.text, add_special_tokens=True)["input_ids"], *ends]
        while len(pending) >= length and len(samples) < most:
            samples.append(pending[:length])
            del pending[:length]
    if pending and len(samples) < most:
        samples.append(pending)
    if not samples:
        raise Refused("data", "the data set has no text to calibrate with")
    return samples


def hub_rows(name: str, token: str) -> Iterator[Row]:
    """The rows of a data set of the Hub as they stream in; where the Hub is, the library knows from its environment."""
    from datasets import load_dataset  # only in the image that compresses

    repository, configuration, split = HUB_DATASETS.get(name, (name, None, "train"))
    with _translated(name):
        stream = load_dataset(repository, configuration, split=split, streaming=True, token=token or False)
        for number, row in enumerate(stream, start=1):
            yield understand(row, where=f"row {number} of {repository}")


class _translated:  # noqa: N801 - a context manager is used like a function
    """The one place that turns what the library raises into what is to be done, by type and status code."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None or isinstance(error, Refused | GeneratorExit) or not isinstance(error, Exception):
            return
        for each in _with_causes(error):
            status = getattr(getattr(each, "response", None), "status_code", None)
            if status in {401, 403}:
                raise Refused("refused", f"the Hub refuses the data set {self._name} ({status})") from error
            if status == 404 or type(each).__name__ in {"DatasetNotFoundError", "RepositoryNotFoundError"}:
                raise Refused("data", f"there is no data set {self._name} on the Hub, or no access to it") from error
        if isinstance(error, ValueError):
            raise Refused("data", f"the data set {self._name} cannot be used: {_first_line(error)}") from error
        raise Refused("unreachable", f"the data set {self._name} cannot be fetched: {_first_line(error)}") from error


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    while at is not None:
        yield at
        at = at.__cause__ or at.__context__


def _first_line(error: Exception) -> str:
    return quoted((str(error).splitlines() or [type(error).__name__])[0], 300)


def _as_text(row: Row, tokenizer: Tokenizer) -> tuple[str]:
    if not tokenizer.chat_template:
        return ("\n".join(content for _, content in row.messages),)
    messages = [{"role": role, "content": content} for role, content in row.messages]
    try:
        return (str(tokenizer.apply_chat_template(messages, tokenize=False)),)
    except Exception as error:  # a template is a program of the model's author: it raises whatever it likes
        raise Refused("data", f"the model's chat template refuses a conversation: {_first_line(error)}") from error


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                yield from_json(line)
            except ValueError as error:
                raise Refused("data", f"line {number} of {path} is no JSON") from error


def _document(path: Path) -> Sequence[Any]:
    if path.stat().st_size > _LARGEST_JSON:
        raise Refused("data", f"{path} is too large to be read as one document: make it .jsonl, one row per line")
    text = path.read_text(encoding="utf-8-sig")
    try:
        found = from_json(text)
    except ValueError:
        return list(_lines(path))  # many a .json is lines
    if isinstance(found, Mapping):
        rows = next((value for value in found.values() if isinstance(value, list)), None)
        return [found] if rows is None or "messages" in found else rows
    if not isinstance(found, list):
        raise Refused("data", f"{path} holds no list of rows")
    return found


def _paragraphs(path: Path) -> Iterator[Any]:
    paragraph: list[str] = []
    with path.open(encoding="utf-8-sig") as file:
        for line in chain(file, ("",)):
            if line.strip():
                paragraph.append(line)
            elif paragraph:
                yield {"text": "".join(paragraph)}
                paragraph = []


def _parquet(path: Path) -> Iterator[Any]:
    from pyarrow import ArrowInvalid, parquet  # comes with datasets

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()
    except ArrowInvalid as error:
        raise Refused("data", f"{path} is no Parquet file") from error


_READERS: Final[dict[str, Callable[[Path], Iterable[Any]]]] = {
    ".jsonl": _lines,
    ".json": _document,
    ".txt": _paragraphs,
    ".parquet": _parquet,
}
