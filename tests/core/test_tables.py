"""Tables are read strictly and written in the field's form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ota_cli.compressed import CompressedFiles
from ota_cli.core import attributes as attributes_table
from ota_cli.core import lines as table_lines
from ota_cli.core import tables
from ota_cli.core.attributes import format_attributes, parse_attributes
from ota_cli.entries import Digest, DirEntry, FileEntry, LinkEntry, NodeEntry
from ota_cli.errors import ImageDamaged
from ota_cli.model import Attributes, Claims, Details, TableRef

DIGEST = Digest(bytes(range(32)))
HEX = DIGEST.hex()
NAMES = st.text(
    st.characters(blacklist_characters="/\0\n", blacklist_categories=("Cs",)),
    min_size=1,
    max_size=40,
).filter(lambda name: name not in (".", "..", ".ota"))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda names: "/" + "/".join(names))


@given(st.lists(PATHS, unique=True, max_size=5))
def test_whatever_is_written_is_read_back(paths: list[str]) -> None:
    directories = [DirEntry(path, 0o1777, 0, 65534) for path in paths]
    assert list(tables.parse_directories(tables.format_directories(directories))) == directories
    links = [LinkEntry(path, path[1:], 1, 2) for path in paths]
    assert list(tables.parse_symlinks(tables.format_symlinks(links))) == links
    files = [FileEntry(path, 0o4755, 1, 2, DIGEST, 7, "3", True) for path in paths]
    assert list(tables.parse_regulars(tables.format_regulars(files, {"3": len(paths)}))) == files
    assert tables.parse_persistents(tables.format_persistents(paths)) == paths


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for parse in (tables.parse_directories, tables.parse_symlinks, tables.parse_regulars):
        try:
            parse(data)
        except ImageDamaged as refusal:
            assert "line" in refusal.message
    try:
        parse_attributes(data)
    except ImageDamaged:
        return


@pytest.mark.parametrize(
    ("fields", "size", "inode", "compressed"),
    [
        ("", None, None, False),
        (",", None, None, False),
        (",12", 12, None, False),
        (",12,", 12, None, False),
        (",12,34", 12, "34", False),
        (",12,34,", 12, "34", False),
        (",,,zst", None, None, True),
        (",12,34,zst", 12, "34", True),
    ],
)
def test_each_optional_field_may_be_missing(
    fields: str, size: int | None, inode: str | None, compressed: bool
) -> None:
    line = f"0644,0,0,1,{HEX},'/a'{fields}"
    (entry,) = tables.parse_regulars(line.encode())
    assert (entry.size, entry.inode, entry.compressed) == (size, inode, compressed)


@pytest.mark.parametrize(
    "line",
    [
        "0755,0,0,/a",
        "0755,0,0,'/a",
        "0755,0,0,'/a' ",
        " 0755,0,0,'/a'",
        "0755,0,0,'a'",
        "0755,0,0,'/'",
        "0755,0,0,''",
        "0755,0,0,'/a/'",
        "0755,0,0,'//a'",
        "0755,0,0,'/a/./b'",
        "0755,0,0,'/a/../b'",
        "0755,0,0,'/..'",
        "0755,0,0,'/a\0'",
        "0755,0,0,'/.ota'",
        "0755,0,0,'/.ota/x'",
        "75,0,0,'/a'",
        "0789,0,0,'/a'",
        "0755,-1,0,'/a'",
        "0755,\u0663,0,'/a'",
        "0755,4294967295,0,'/a'",
        "0755,0,9999999999,'/a'",
        "0755,0,0,'/" + "a" * 200,
        "0755,0,0,'/a','/b'",
        "0755,0,0,'/" + "n" * 256 + "'",
        "0755,0,0,'" + "/n" * 2049 + "'",
        "",
    ],
)
def test_a_line_that_is_no_entry_is_refused_by_number(line: str) -> None:
    with pytest.raises(ImageDamaged, match=r"dirs\.txt line 2"):
        tables.parse_directories(f"0755,0,0,'/first'\n{line}\n".encode())


@pytest.mark.parametrize(
    "line",
    [
        b"c,0600,0,0,4096,0,'/a'",
        b"b,0600,0,0,0,1048576,'/a'",
        b"p,0600,4294967295,0,0,0,'/a'",
        b"x,'',AA==,'/a'",
        b"x,'user.a\0b',AA==,'/a'",
        b"x,'user." + b"a" * 251 + b"',AA==,'/a'",
        b"x,'user.a',AA==,'/" + b"a" * 200,
        b"x,'bogus',AA==,'/a'",
        b"x,'user.',AA==,'/a'",
        b"x,'system.nfs4_acl',AA==,'/a'",
        b"x,'user.it',AA==,'/a'",
        b"m,2,'/a'",
    ],
)
def test_an_attribute_no_file_system_takes_is_refused_by_number(line: bytes) -> None:
    table = zstandard.compress(b"m,1,'/a'\nx,'user.it',AA==,'/a'\n" + line)
    with pytest.raises(ImageDamaged, match="line 3"):
        parse_attributes(table)


def test_only_a_newline_ends_a_line() -> None:
    odd = "/a\u2028b\x0bc\x85d\re"
    assert tables.parse_persistents(f"'{odd}'\n'/x'".encode()) == [odd, "/x"]


def test_a_quote_at_the_end_of_a_name_is_part_of_it() -> None:
    (link,) = tables.parse_symlinks(rb"0777,0,0,'/a'\''','b'\'''")
    assert (link.path, link.target) == ("/a'", "b'")


def test_type_bits_are_not_part_of_a_mode() -> None:
    (entry,) = tables.parse_directories(b"40755,0,0,'/a'")
    assert entry.mode == 0o755


def test_attributes_survive_the_round_trip() -> None:
    attributes = Attributes(
        {"/a": -1, "/b": 1_700_000_000_123_456_789},
        {"/a": (("security.capability", b"\0\1"), ("user.it's", b""))},
        (NodeEntry("/dev/null", "c", 0o666, 0, 0, 1, 3), NodeEntry("/p", "p", 0o600, 1, 2, 0, 0)),
        {DIGEST: 99},
    )
    assert parse_attributes(format_attributes(attributes)) == attributes


def test_a_bomb_of_attributes_ends_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attributes_table, "MAX_TABLE_BYTES", 1 << 20)
    line = f"z,1,{HEX}\n".encode()
    bomb = zstandard.compress(line * (1 << 15))
    with pytest.raises(ImageDamaged, match="larger"):
        parse_attributes(bomb)


def test_a_blob_that_is_measured_twice_is_refused() -> None:
    line = f"z,1,{HEX}\n".encode()
    with pytest.raises(ImageDamaged, match="two sizes"):
        parse_attributes(zstandard.compress(line * 2))


def test_more_attributes_than_a_file_can_have_are_refused_at_once() -> None:
    lines = b"".join(b"x,'user.%d',,'/a'\n" % number for number in range(100_000))
    with pytest.raises(ImageDamaged, match="line 1001: more than 1000"):
        parse_attributes(zstandard.compress(lines))


def test_a_table_of_too_many_lines_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_lines, "MAX_LINES", 3)
    lines = [f"0755,0,0,'/{name}'\n".encode() for name in "abcd"]
    assert len(tables.parse_directories(b"".join(lines[:3]))) == 3
    with pytest.raises(ImageDamaged, match="more than 3 lines"):
        tables.parse_directories(b"".join(lines))
    with pytest.raises(ImageDamaged, match="more than 3 lines"):
        parse_attributes(zstandard.compress(b"".join(b"m,1,'/%d'\n" % n for n in range(4))))


def test_all_of_a_compressed_table_is_read() -> None:
    """Several frames are one text (RFC 8878); what is none behind them is no table."""
    whole = zstandard.compress(b"m,1,'/a'\n") + zstandard.compress(b"m,2,'/b'\n")
    assert parse_attributes(whole).mtimes_ns == {"/a": 1, "/b": 2}
    with pytest.raises(ImageDamaged, match="can not be decompressed"):
        parse_attributes(whole + b"more")


def claims_of(*names: str) -> Claims:
    """Those of an image with tables of these names, the last one of attributes."""
    refs = [TableRef(name, DIGEST) for name in names]
    details = replace(Details(), attributes=refs.pop())
    return Claims(*refs, "data", None, None, details)


@pytest.mark.parametrize(
    ("name", "line", "least"),
    [
        ("dirs.txt", b"0755,0,0,'" + b"/n" * 1900 + b"'\n", 1.5),
        ("attributes.txt.zst", b"x,'user.a'," + b"A" * 16_000 + b",'/a'\n", 1.0),
        ("attributes.txt.zst", b"p,0644,0,0,0,0,'/a'\n", 10.0),
    ],
    ids=["paths", "values", "nodes"],
)
def test_the_memory_for_long_lines_and_for_objects_is_counted(
    name: str, line: bytes, least: float
) -> None:
    names = ("dirs.txt", "symlinks.txt", "regulars.txt", "persistents.txt", "attributes.txt.zst")
    texts = {each: line * 1000 if each == name else b"" for each in names}
    files = {
        each: zstandard.compress(text) if each.endswith(".zst") else text
        for each, text in texts.items()
    }
    need = tables.memory_bytes(claims_of(*names), CompressedFiles(files.items()))
    assert need >= least * 1000 * len(line)
