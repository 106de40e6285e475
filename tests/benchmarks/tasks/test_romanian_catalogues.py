"""Message catalogues: what is read of a .mo file, what is left of a string, and what is refused."""

import struct

import pytest

import metricgrad as mg
from tasks.romanian_strings.data import VARIABLE, clean, read_catalogues, read_mo

HEADER = "Content-Type: text/plain; charset={}\nPlural-Forms: nplurals=2; plural=n!=1;\n"


def write_mo(path, messages, charset="UTF-8", order="<"):
    """As msgfmt does, without its hash table."""
    messages = {"": HEADER.format(charset), **messages}
    keys = [key.encode(charset) for key in messages]
    values = [value.encode(charset) for value in messages.values()]
    start = 28 + 16 * len(keys)
    body, tables = b"", []
    for strings in (keys, values):
        table = b""
        for string in strings:
            table += struct.pack(f"{order}2I", len(string), start + len(body))
            body += string + b"\0"
        tables.append(table)
    head = struct.pack(f"{order}7I", 0x950412DE, 0, len(keys), 28, 28 + 8 * len(keys), 0, start)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + b"".join(tables) + body)


@pytest.mark.parametrize("order", ["<", ">"])
def test_first_forms_without_context_and_header_in_the_catalogue_s_charset(tmp_path, order):
    messages = {"menu\x04Open": "Deschide", "one page\0%d pages": "o pagină\0%d pagini", "lost": ""}
    write_mo(tmp_path / "a.mo", messages, charset="iso-8859-2", order=order)
    assert list(read_mo(tmp_path / "a.mo")) == [("Open", "Deschide"), ("one page", "o pagină")]


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        ("~File", "file"),
        ("Sa_ve As...", "save as"),
        ("Name:", "name"),
        ("Zeile (~Z)", "zeile"),
        ("Open $(ARG1) of %PRODUCTNAME %1?", "open % of % %?"),
        ("Line\\none\n two", "line one two"),
        ("A <b>bold</b> word", "a bold word"),
        ("20 % off", "20 % off"),
        ("a_b", "ab"),
    ],
)
def test_strings_lose_what_is_no_language(raw, left):
    assert clean(raw) == left


def test_each_english_string_once_with_its_most_frequent_translation(tmp_path):
    write_mo(
        tmp_path / "a.mo", {"~Close": "Închide", "x\x04Close": "Aproape", "PDF": "PDF", "%1": "%1!", "Bold": "Aldin"}
    )
    write_mo(tmp_path / "deep" / "b.mo", {"Close...": "Închide…", "y\x04Bold": "Gros"})
    assert read_catalogues(tmp_path) == [(["bold"], ["aldin"]), (["close"], ["închide"])]


def test_what_is_missing_or_torn_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(mg.MetricgradError, match=r"apt-get install libreoffice-l10n-ro.*METRICGRAD_CATALOGUES"):
        read_catalogues()
    write_mo(tmp_path / "a.mo", {"Save": "Salvează"})
    assert read_catalogues() == [(["save"], ["salvează"])]
    whole = (tmp_path / "a.mo").read_bytes()
    for torn in (whole[:-9], whole[:20], b"", b"PK\3\4" + whole[4:]):
        (tmp_path / "a.mo").write_bytes(torn)
        with pytest.raises(mg.MetricgradError, match="no message catalogue"):
            read_catalogues()
