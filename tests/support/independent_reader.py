"""A second reader of images, written from the format's description alone.

It shares no code with the program: a character-wise parser, `hashlib`, and the `openssl` tool
for the certificate chain and the signature. It makes the tree an image describes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import zstandard


class Refused(Exception):
    """The image is not what the description asks for."""


def claims(image: Path) -> Dict[str, Dict[str, object]]:
    """The objects of the payload by their first key, unverified."""
    payload = (image / "metadata.jwt").read_text("ascii").split(".")[1]
    found: Dict[str, Dict[str, object]] = {}
    for item in json.loads(base64.urlsafe_b64decode(payload)):
        key = next(k for k in item if k != "hash")
        found[key] = item
    return found


def verify(image: Path, anchors: Sequence[Path]) -> None:
    """Signature, chain, and every table's digest. Raises Refused."""
    token = (image / "metadata.jwt").read_text("ascii")
    header, payload, signature = token.split(".")
    if json.loads(base64.urlsafe_b64decode(header)) != {"alg": "ES256"}:
        raise Refused("header")
    known = claims(image)
    for key in ("certificate", "directory", "symboliclink", "regular", "persistent"):
        data = (image / str(known[key][key])).read_bytes()
        if hashlib.sha256(data).hexdigest() != known[key]["hash"]:
            raise Refused(f"{key}: digest")
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        certificate = image / str(known["certificate"]["certificate"])
        (work / "all.pem").write_bytes(b"".join(path.read_bytes() for path in anchors))
        _openssl("verify", "-CAfile", str(work / "all.pem"), str(certificate))
        (work / "signed").write_bytes(f"{header}.{payload}".encode())
        (work / "signature").write_bytes(base64.urlsafe_b64decode(signature))
        (work / "key.pem").write_bytes(
            _openssl("x509", "-in", str(certificate), "-noout", "-pubkey")
        )
        _openssl(
            "dgst", "-sha256", "-verify", str(work / "key.pem"),
            "-signature", str(work / "signature"), str(work / "signed"),
        )  # fmt: skip


def materialise(image: Path, target: Path, *, owners: bool = False) -> None:
    """Makes the tree of an image in `target`, verifying every content."""
    known = claims(image)
    rows = {
        key: [fields(line) for line in _lines(image / str(known[key][key]))]
        for key in ("directory", "symboliclink", "regular")
    }
    target.mkdir(parents=True, exist_ok=True)
    for mode, _, _, path in sorted(rows["directory"], key=lambda row: row[3]):
        (target / path[1:]).mkdir(exist_ok=True)
        del mode
    first_of: Dict[str, Path] = {}
    for row in rows["regular"]:
        _regular(image, target, row, known, first_of, owners)
    for _, uid, gid, path, points_to in rows["symboliclink"]:
        (target / path[1:]).symlink_to(points_to)
        if owners:
            os.lchown(target / path[1:], int(uid), int(gid))
    for mode, uid, gid, path in sorted(rows["directory"], key=lambda row: row[3], reverse=True):
        if owners:
            os.chown(target / path[1:], int(uid), int(gid))
        (target / path[1:]).chmod(int(mode, 8))


def _regular(
    image: Path, target: Path, row: List[str], known: Dict[str, Dict[str, object]],
    first_of: Dict[str, Path], owners: bool,
) -> None:  # fmt: skip
    mode, uid, gid, _links, digest, path, *rest = row
    size, inode, compression = [*rest, "", "", ""][:3]
    place = target / path[1:]
    if inode and inode in first_of:
        os.link(first_of[inode], place)
        return
    plain = (image / str(known["rootfs_directory"]["rootfs_directory"]) / path[1:]).read_bytes()
    if compression == "zst":
        directory = str(known["compressed_rootfs_directory"]["compressed_rootfs_directory"])
        blob = (image / directory / f"{digest}.zst").read_bytes()
        stream = zstandard.ZstdDecompressor().decompressobj()
        if stream.decompress(blob) != plain:
            raise Refused(f"{path}: the compressed content is another")
    if hashlib.sha256(plain).hexdigest() != digest or (size and int(size) != len(plain)):
        raise Refused(f"{path}: content")
    place.write_bytes(plain)
    if owners:
        os.chown(place, int(uid), int(gid))
    place.chmod(int(mode, 8))
    if inode:
        first_of[inode] = place


def fields(line: str) -> List[str]:
    """The comma-separated fields of a table line; quotes taken off, `'\\''` undone."""
    found, current, quoted, index = [], "", False, 0
    while index < len(line):
        if quoted and line.startswith("'\\''", index):
            current, index = current + "'", index + 4
            continue
        character = line[index]
        if character == "'":
            quoted = not quoted
        elif character == "," and not quoted:
            found.append(current)
            current = ""
        else:
            current += character
        index += 1
    if quoted:
        raise Refused(f"open quote: {line}")
    return [*found, current]


def table(image: Path, key: str) -> List[Tuple[str, ...]]:
    """The rows of one table, sorted."""
    name = str(claims(image)[key][key])
    return sorted(tuple(fields(line)) for line in _lines(image / name))


def _lines(path: Path) -> List[str]:
    return [line for line in path.read_bytes().decode("utf-8").split("\n") if line]


def _openssl(*words: str) -> bytes:
    done = subprocess.run(["openssl", *words], capture_output=True, check=False)
    if done.returncode != 0:
        raise Refused(f"openssl {words[0]}: {done.stderr.decode()}{done.stdout.decode()}")
    return done.stdout
