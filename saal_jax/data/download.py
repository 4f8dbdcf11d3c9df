"""Fetch an archive that is known by size and checksum."""

import hashlib
import queue
import threading
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tqdm import tqdm

from saal_jax.errors import InputError, one_line

CONNECT, STALL = 15, 10  # seconds to wait for an answer, and for the next bytes
OTHERWISE = "try again, or prepare the data set on another machine, copy it here and pass its folder as data_dir"


class Archive(NamedTuple):
    """A file to download: its `url`, its `size` in bytes and its `sha256` (hex)."""

    url: str
    size: int
    sha256: str


def fetch(archive: Archive, folder: Path) -> Path:
    """Downloads `archive` into `folder` and returns its path; `InputError` if it cannot be had whole and unaltered."""
    path = folder / archive.url.rsplit("/", 1)[-1]
    content, size = hashlib.sha256(), 0
    progress = tqdm(total=archive.size, unit="B", unit_scale=True, desc=path.name, disable=None)
    try:
        with _open(archive.url) as response, open(path, "wb") as file, progress:
            # one byte more than expected is enough to know
            while size <= archive.size and (block := response.read(1 << 18)):
                file.write(block)
                content.update(block)
                size += len(block)
                progress.update(len(block))
    except (OSError, HTTPException) as error:
        host = urlsplit(archive.url).hostname
        raise InputError(f"cannot download {archive.url} from {host} ({one_line(error)}); {OTHERWISE}") from None
    if size != archive.size:
        received = f"{'over ' * (size > archive.size)}{min(size, archive.size):,} bytes instead of {archive.size:,}"
        raise InputError(f"{archive.url} came with {received}; {OTHERWISE}")
    if content.hexdigest() != archive.sha256:
        raise InputError(f"{archive.url} has SHA-256 {content.hexdigest()}, not {archive.sha256}; {OTHERWISE}")
    return path


def _open(url):
    """`urlopen` under a deadline: its own timeout covers neither name resolution nor a host's several addresses."""
    answers: queue.SimpleQueue = queue.SimpleQueue()

    def ask():
        try:
            answers.put(urllib.request.urlopen(url, timeout=STALL))
        except Exception as error:  # it is raised again below, in the thread that asked
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=CONNECT)
    except queue.Empty:
        raise TimeoutError(f"no answer within {CONNECT} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
