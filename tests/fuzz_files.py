"""Feed damaged files to every reader: `python tests/fuzz_files.py --count 100000 [--formats pt tf] [--seed 0]`.

Not a test that pytest collects. A small good model is written in each format, its bytes are damaged, and the whole
way of `convert` reads what is left (config, weights, the match with the table of parameters). Each damaged file ends
in a `CheckpointError` that names it, or is read and has the names and shapes of the good one; anything else (another
exception, a signal, over 2 s, over twice the file + 256 MB) is printed with what repeats it, and the end is 1.

Files are read in forked children, many each; a child that dies is followed by another, from the next file on. Of
HDF5 the reader starts a process itself: that one is forked, too (h5py is loaded once), but for every 100th file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import checkpoints

from roberta import CheckpointError, RobertaTokenizer, RobertaTokenizerFast
from roberta.common import tokenizer_files
from roberta.common.safetensors_file import numpy_dtype
from roberta.common.special_tokens import AddedToken
from roberta.conversion import convert
from roberta.conversion.formats import Options
from roberta.conversion.formats import read as read_model
from roberta.tf import h5_file, h5_layout

SECONDS = 2.0
SPARE = 256 * 2**20
BATCH = 500
REAL_PROCESS = 100  # every so many files of HDF5 go the whole way
SIZES = {
    "vocab_size": 13, "hidden_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 10,
    "max_position_embeddings": 8,
}  # fmt: skip
TEXT = "low lower <mask> new 1 é\n"


# -- damage --------------------------------------------------------------------------------------------------

NUMBERS = [0, 1, 2, 7, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**48, 2**63 - 1, 2**64 - 1]
CODES = ["<B", "<H", "<I", "<Q", ">B", ">H", ">I", ">Q"]
TOKENS = [
    b"-1", b"0", b"1", b"1.5", b"1e400", b"NaN", b"-Infinity", b"null", b"true", b"{}", b"[]", b'""', b'"x"', b"[1]",
    b"[[1,2]]", b'{"a":1}', b"[" * 3000, b'{"a":' * 3000, b"9" * 30, b"9" * 5000, b"4294967296", b"999999999",
    b"18446744073709551616", b'"../secret"', b'"/etc/passwd"', b'"a\\u0000b"', b'"\\ud800"', b'"\xff"', b",", b":", b"",
    b'"absolute"', b'"relative_key"', b'"gelu"', b'"F16"', b'"BF16"', b"2147483648", b"1000000", b'{"content":""}',
]  # fmt: skip
TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[\[\]{},:]')


def place(rng: random.Random, size: int) -> int:
    """A place in a file, more often near its ends, where what describes the rest lies."""
    near = min(size, rng.choice([32, 512, 4096]))
    return rng.choice([rng.randrange(near), size - 1 - rng.randrange(near), rng.randrange(size)])


def flip(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 1, 2, 8, 40])):
        data[place(rng, len(data))] ^= 1 << rng.randrange(8)


def set_byte(rng: random.Random, data: bytearray) -> None:
    for _ in range(rng.choice([1, 1, 2, 8])):
        data[place(rng, len(data))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def cut(rng: random.Random, data: bytearray) -> None:
    at = place(rng, len(data))
    del data[at : rng.choice([len(data), at + rng.randint(1, 64)])]


def splice(rng: random.Random, data: bytearray) -> None:
    """A piece of the file in another place, over what is there or between."""
    start, at, size = place(rng, len(data)), place(rng, len(data)), rng.choice([1, 4, 16, 64, 400])
    piece = data[start : start + size]
    data[at : at + rng.choice([0, len(piece)])] = piece


def repeat(rng: random.Random, data: bytearray) -> None:
    start, size = place(rng, len(data)), rng.choice([1, 4, 16, 64])
    data[start:start] = data[start : start + size] * rng.choice([1, 2, 10, 500])


def length(rng: random.Random, data: bytearray) -> None:
    """A number over some bytes, as a length field may be."""
    at, code = place(rng, len(data)), rng.choice(CODES)
    number = rng.choice([*NUMBERS, len(data), len(data) + 1, len(data) - at])
    size = struct.calcsize(code)
    data[at : at + size] = struct.pack(code, number % 2 ** (8 * size))


def token(rng: random.Random, data: bytearray) -> None:
    """Another token in the place of one of JSON, or one more digit in it; where there is no JSON, of what looks so."""
    found = list(TOKEN.finditer(data))
    for _ in range(rng.choice([1, 1, 1, 2, 3]) if found else 0):
        old, other = rng.choice(found), rng.choice(found)
        new = rng.choice([rng.choice(TOKENS), rng.choice(TOKENS), other[0], old[0] + b"0", old[0] + b"," + other[0]])
        data[old.start() : old.end()] = new


DAMAGES: list[Callable[[random.Random, bytearray], None]] = [flip, set_byte, cut, splice, repeat, length, token]


def damaged(rng: random.Random, content: bytes, *, is_text: bool) -> bytes:
    """The bytes after one to three damages."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        if data:
            rng.choice([*DAMAGES, *((token,) * 7 if is_text else ())])(rng, data)
    return bytes(data)


def plain(rng: random.Random, content: bytes) -> bytes:
    return damaged(rng, content, is_text=False)


def text(rng: random.Random, content: bytes) -> bytes:
    return damaged(rng, content, is_text=True)


def header(rng: random.Random, content: bytes) -> bytes:
    """safetensors: half of them with a header that is damaged inside its right length."""
    if rng.random() < 0.5:
        return plain(rng, content)
    end = 8 + int.from_bytes(content[:8], "little")
    inner = text(rng, content[8:end])
    return struct.pack("<Q", len(inner)) + inner + content[end:]


def zipped(rng: random.Random, content: bytes) -> bytes:
    """torch: most with a damaged pickle in a zip whose checksums are right."""
    if rng.random() < 0.4:
        return plain(rng, content)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, plain(rng, data) if name.endswith("data.pkl") else data)
    return buffer.getvalue()


# -- formats -------------------------------------------------------------------------------------------------


@dataclass
class Format:
    """A good folder, the files in it to damage, how, and what reads them.

    Attributes:
        reader: gives what is the same of every file that is read with success.
    """

    folder: Path
    files: tuple[str, ...]
    damage: Callable[[random.Random, bytes], bytes]
    reader: Callable[[Path], Any]
    good: dict[str, bytes] = field(default_factory=dict)
    wanted: Any = None

    def __post_init__(self) -> None:
        self.good = {name: (self.folder / name).read_bytes() for name in self.files}
        self.wanted = self.reader(self.folder)


def weights(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model read by the way of `convert`; every tensor is loaded."""
    model = read_model(folder, None, Options())
    for tensor in model.tensors.values():
        array = tensor.load()
        assert array.shape == tensor.shape, f"{tensor.name}: {array.shape}, not {tensor.shape}"
        assert array.dtype == numpy_dtype(tensor.dtype), f"{tensor.name}: {array.dtype}, not {tensor.dtype}"
        array.sum()  # every page is touched
    return {name: tensor.shape for name, tensor in model.tensors.items()}


def tokenizers(folder: Path) -> bool:
    """Whether both tokenizers read a folder and give numbers of their own range for a text."""
    for kind in (RobertaTokenizer, RobertaTokenizerFast):
        tokenizer = kind.from_pretrained(folder)
        ids = tokenizer(TEXT)["input_ids"]
        assert all(type(index) is int and index >= 0 for index in ids), f"{kind.__name__}: {ids}"
    return True


def write_tokenizer(folder: Path, names: tuple[str, ...]) -> Path:
    """A small vocabulary, in the files that are named."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    merges = ["l o", "lo w", "e r", "Ġ low", "n e", "ne w"]
    tokens = [*specials, *"lowern1", "Ġ", "Ċ", "Ã", "©", *(merge.replace(" ", "") for merge in merges), "<mask>"]
    vocabulary = tokenizer_files.Vocabulary({name: index for index, name in enumerate(tokens)}, "\n".join(merges))
    added = {vocabulary.tokens[name]: AddedToken(name, special=True) for name in (*specials, "<mask>")}
    entries = {
        str(index): tokenizer_files.token_object(token, special=True) for index, token in added.items()
    }  # fmt: skip
    contents = {
        "vocab.json": tokenizer_files.vocab_text(vocabulary.tokens),
        "merges.txt": tokenizer_files.merges_text(vocabulary.merges),
        "tokenizer.json": tokenizer_files.tokenizer_json(
            vocabulary, added, outer=(("</s>", 2), ("<s>", 0)), add_prefix_space=False, trim_offsets=True
        ),
        "tokenizer_config.json": tokenizer_files.json_text(
            {"added_tokens_decoder": entries, "mask_token": entries[str(len(tokens) - 1)], "model_max_length": 512}
        ),
        "special_tokens_map.json": tokenizer_files.json_text({"bos_token": "<s>", "mask_token": {"content": "<mask>"}}),
        "added_tokens.json": tokenizer_files.json_text({"<new>": len(tokens)}),
    }
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(contents[name])
    return folder


OLD_FORM = """
import sys, torch
state = torch.load(sys.argv[1], weights_only=True)
torch.save(state, sys.argv[1], _use_new_zipfile_serialization=False)
"""


def make(name: str, root: Path, source: Path) -> Format:
    """The good folder of a format; ImportError when what writes it is not installed."""
    folder = root / name
    tokenizer_names = {
        "tokenizer": ("tokenizer.json",),
        "vocab": ("vocab.json", "merges.txt"),
        "settings": ("tokenizer.json", "tokenizer_config.json"),
        "old-settings": ("vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    }
    if name in tokenizer_names:
        names = tokenizer_names[name]
        damage = names[-2:] if name == "old-settings" else names[-1:] if name == "settings" else names
        return Format(write_tokenizer(folder, names), damage, text, tokenizers)
    to: Any = {"pt-old": "pt", "index": "safetensors", "config": "safetensors"}.get(name, name)
    convert(source, folder, to=to, max_shard_size="1kB" if name == "index" else "5GB")
    if name == "pt-old":
        import torch  # noqa: F401  (is it installed?)

        subprocess.run([sys.executable, "-c", OLD_FORM, str(folder / "pytorch_model.bin")], check=True)
    file, damage_of = {
        "safetensors": ("model.safetensors", header),
        "index": ("model.safetensors.index.json", text),
        "config": ("config.json", text),
        "pt": ("pytorch_model.bin", zipped),
        "pt-old": ("pytorch_model.bin", plain),
        "flax": ("flax_model.msgpack", plain),
        "tf": ("tf_model.h5", plain),
        "fairseq": ("model.pt", zipped),
    }[name]
    return Format(folder, (file,), damage_of, weights)


FORMATS = (
    "safetensors", "index", "config", "tokenizer", "vocab", "settings", "old-settings", "pt", "pt-old", "flax", "tf",
    "fairseq",
)  # fmt: skip


# -- a child -------------------------------------------------------------------------------------------------


def status(name: str) -> int:
    """Bytes of a line of /proc/self/status, such as VmHWM."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def list_into(writing: int, path: str) -> int:
    """What the script `h5_layout` does: the limits, the list or the text of an error, the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (h5_layout.MEMORY, h5_layout.MEMORY))
    with open(writing, "w") as out:
        try:
            out.write(json.dumps(h5_layout.layout(path)))
        except Exception as error:
            out.write(str(error).splitlines()[0][:200])
            return 1
    return 0


def listed_in_a_fork(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """What `h5_layout` as a process prints, with a fork in the place of a new interpreter; its memory is checked."""
    reading, writing = os.pipe()
    before = status("VmRSS")
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            os.close(reading)
            code = list_into(writing, command[-1])
        os._exit(code)
    os.close(writing)
    with open(reading) as pipe:
        found = pipe.read()
    _, state, usage = os.wait4(child, 0)
    grown = usage.ru_maxrss * 1024 - before
    assert grown <= SPARE + 2 * Path(command[-1]).stat().st_size, f"the process for HDF5 took {grown >> 20} MB"
    code = os.waitstatus_to_exitcode(state)
    return subprocess.CompletedProcess(command, code, "" if code else found, found if code else "")


def judge(format_: Format, folder: Path) -> tuple[str, str]:
    """What became of a folder: "refused", "read", or another word and details."""
    try:
        found = format_.reader(folder)
    except CheckpointError as error:
        chain: BaseException | None = error
        while chain is not None:
            if isinstance(chain, MemoryError):
                return "MemoryError", str(error)[:300]
            chain = chain.__context__
        is_named = any(name in str(error) for name in (folder.name, *format_.files))
        return ("refused", "") if is_named else ("names no file", str(error)[:300])
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        return type(error).__name__, f"{str(error)[:200]} ({where(error)})"
    return ("read", "") if found == format_.wanted else ("wrong success", difference(found, format_.wanted))


def where(error: BaseException) -> str:
    """The last place of ours in a traceback."""
    trace, found = error.__traceback__, ""
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if {"roberta", "conversion"} & set(file.parts) and "site-packages" not in file.parts:
            found = f"{file.parent.name}/{file.name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def difference(found: Any, wanted: Any) -> str:
    return str(sorted(set(found.items()) ^ set(wanted.items()))[:6] if isinstance(found, dict) else found)[:300]


def mutant(format_: Format, seed: str) -> tuple[str, bytes]:
    """The name and the bytes of the damaged file of a seed."""
    rng = random.Random(seed)
    name = rng.choice(format_.files)
    return name, format_.damage(rng, format_.good[name])


def child(format_: Format, name: str, seed: int, numbers: range, out: int) -> None:
    """Read damaged files and write what became of each, a line a file."""
    limit = status("VmSize") + 2 * 2**30
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))  # the process for HDF5 sets its own
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    run, clear = subprocess.run, Path("/proc/self/clear_refs")
    for number in numbers:
        victim, content = mutant(format_, f"{seed}:{name}:{number}")
        (format_.folder / victim).write_bytes(content)
        h5_file.subprocess.run = run if number % REAL_PROCESS == 0 else listed_in_a_fork  # type: ignore[assignment]
        clear.write_text("5")  # VmHWM begins anew
        before, start = status("VmRSS"), time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)  # SIGALRM kills
        outcome, detail = judge(format_, format_.folder)
        signal.setitimer(signal.ITIMER_REAL, 0)
        seconds, grown = time.monotonic() - start, status("VmHWM") - before
        if grown > 2 * len(content) + SPARE:
            outcome, detail = "memory", f"{grown >> 20} MB, then {outcome} {detail}"
        line = json.dumps([number, outcome, detail, seconds, grown])
        os.write(out, line.encode() + b"\n")
        (format_.folder / victim).write_bytes(format_.good[victim])


# -- the run -------------------------------------------------------------------------------------------------


def forked(format_: Format, name: str, seed: int, numbers: range) -> Iterator[tuple[int, str, str, float, int]]:
    """What became of files, from one child after another; a signal counts for the file that was being read."""
    start = numbers.start
    while start < numbers.stop:
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            with contextlib.suppress(BaseException):
                os.close(reading)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # panics print
                child(format_, name, seed, range(start, numbers.stop), writing)
                os._exit(0)
            os._exit(1)
        os.close(writing)
        with open(reading) as lines:
            for line in lines:
                found = json.loads(line)
                start = found[0] + 1
                yield tuple(found)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if code:
            what = "hang" if code == -signal.SIGALRM else f"signal {-code}" if code < 0 else "the harness failed"
            yield start, what, f"of {numbers}", SECONDS, 0
            start += 1
            for victim, content in format_.good.items():
                (format_.folder / victim).write_bytes(content)


def settled(format_: Format, name: str, seed: int, numbers: range) -> Iterator[tuple[int, str, str, float, int]]:
    """As `forked`; a hang is tried again alone, as a busy machine stops a process for seconds."""
    for found in forked(format_, name, seed, numbers):
        if found[1] == "hang":
            yield next(forked(format_, name, seed, range(found[0], found[0] + 1)))
        else:
            yield found


def fuzz(format_: Format, name: str, arguments: argparse.Namespace) -> int:
    """Fuzz one format, print what was found and the counts; how many files broke a rule."""
    counts: Counter[str] = Counter()
    begin, slowest, largest = time.monotonic(), 0.0, 0
    numbers = range(arguments.first, arguments.first + arguments.count)
    for start in range(numbers.start, numbers.stop, BATCH):
        if time.monotonic() - begin > arguments.seconds:
            break
        batch = range(start, min(start + BATCH, numbers.stop))
        for number, outcome, detail, seconds, grown in settled(format_, name, arguments.seed, batch):
            counts[outcome] += 1
            slowest, largest = max(slowest, seconds), max(largest, grown)
            if outcome not in ("refused", "read") and counts[outcome] <= arguments.show:
                again = f"--formats {name} --seed {arguments.seed} --first {number} --count 1"
                print(f"{outcome.upper()} {again}\n    {detail}", flush=True)
    bad = sum(number for outcome, number in counts.items() if outcome not in ("refused", "read"))
    print(
        f"{name:13s} {counts.total():>8,} files: {counts['refused']:,} refused, {counts['read']:,} read, {bad} BAD; "
        f"slowest {slowest * 1000:.0f} ms, memory +{largest >> 20} MB, {time.monotonic() - begin:.0f} s",
        flush=True,
    )
    for outcome, number in counts.items():
        if outcome not in ("refused", "read"):
            print(f"{'':13s} {number:>8,} {outcome}")
    return bad


def main() -> None:
    """Fuzz the formats one after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="files of each format")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="at most so long for each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first file; with --count 1, one again")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--show", type=int, default=5, help="print so many of each kind of failure")
    parser.add_argument("--keep", type=Path, help="where the first damaged file is kept, to look at")
    arguments = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    bad = 0
    with tempfile.TemporaryDirectory() as root:
        source = checkpoints.make(Path(root) / "source", "ForMaskedLM", dtype="float32", **SIZES)
        for name in arguments.formats:
            try:
                format_ = make(name, Path(root), source)
            except ImportError as error:
                print(f"{name:13s} skipped: {error.name} is not installed")
                continue
            if arguments.keep:
                arguments.keep.write_bytes(mutant(format_, f"{arguments.seed}:{name}:{arguments.first}")[1])
            bad += fuzz(format_, name, arguments)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
