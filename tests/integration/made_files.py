"""Files of the formats that need some making: good ones, and such as are made to harm their reader."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_TYPES = (
    f"<Types xmlns='{_PACKAGE}/content-types'>"
    "<Default Extension='rels' ContentType='application/vnd.openxmlformats-package.relationships+xml'/>"
    "<Default Extension='xml' ContentType='application/xml'/></Types>"
)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
LAUGHS = "<!DOCTYPE l [<!ENTITY l0 'lol'>" + "".join(
    f"<!ENTITY l{level} '{f'&l{level - 1};' * 10}'>" for level in range(1, 12)
) + "]>"  # fmt: skip


def _relations(*targets: tuple[str, str]) -> str:
    inside = "".join(
        f"<Relationship Id='r{number}' Type='{_OFFICE}/{kind}' Target='{target}'/>"
        for number, (kind, target) in enumerate(targets, start=1)
    )
    return f"<Relationships xmlns='{_PACKAGE}/relationships'>{inside}</Relationships>"


def _archive(path: Path, small: dict[str, str], large_name: str, large: Iterable[str]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"[Content_Types].xml": _TYPES, **small}.items():
            archive.writestr(name, content)
        with archive.open(large_name, "w") as opened:
            for part in large:
                opened.write(part.encode())


def write_docx(path: Path, body: Iterable[str], doctype: str = "") -> None:
    """body: parts of the XML within <w:body>."""
    styles = "".join(
        f"<w:style w:type='paragraph' w:styleId='{key}'><w:name w:val='{name}'/></w:style>"
        for key, name in (("T", "Title"), ("H1", "heading 1"), ("H2", "heading 2"))
    )
    small = {
        "_rels/.rels": _relations(("officeDocument", "word/document.xml")),
        "word/_rels/document.xml.rels": _relations(("styles", "styles.xml")),
        "word/styles.xml": f"<w:styles xmlns:w='{_WORD}'>{styles}</w:styles>",
    }
    parts = (f"<?xml version='1.0'?>{doctype}<w:document xmlns:w='{_WORD}'><w:body>", *body, "</w:body></w:document>")
    _archive(path, small, "word/document.xml", parts)


def paragraph(text: str, style: str = "") -> str:
    marked = f"<w:pPr><w:pStyle w:val='{style}'/></w:pPr>" if style else ""
    return f"<w:p>{marked}<w:r><w:t>{text}</w:t></w:r></w:p>"


def write_xlsx(path: Path, rows: Iterable[str], strings: str = "", doctype: str = "") -> None:
    """rows: parts of the XML within <sheetData>. strings: the shared one."""
    small = {
        "_rels/.rels": _relations(("officeDocument", "xl/workbook.xml")),
        "xl/_rels/workbook.xml.rels": _relations(
            ("worksheet", "worksheets/sheet1.xml"), ("sharedStrings", "sharedStrings.xml")
        ),
        "xl/workbook.xml": f"<workbook xmlns='{_SHEET}' xmlns:r='{_OFFICE}'><sheets>"
        "<sheet name='A' sheetId='1' r:id='r1'/></sheets></workbook>",
        "xl/sharedStrings.xml": f"<sst xmlns='{_SHEET}'><si><t>{strings}</t></si></sst>",
    }
    parts = (
        f"<?xml version='1.0'?>{doctype}<worksheet xmlns='{_SHEET}'><sheetData>",
        *rows,
        "</sheetData></worksheet>",
    )
    _archive(path, small, "xl/worksheets/sheet1.xml", parts)


def text_cell(place: str, text: str) -> str:
    return f"<row r='{place.lstrip('ABCDEFX')}'><c r='{place}' t='inlineStr'><is><t>{text}</t></is></c></row>"


def pdf_lines(*lines: str) -> bytes:
    """A content stream with lines of text, 24 points apart; those that begin with # are larger."""
    stream = b""
    for row, line in enumerate(lines):
        size = 16 if line.startswith("#") else 11
        letters = line.lstrip("# ").encode("utf-16-be").hex()
        stream += f"BT /C {size} Tf 72 {700 - 24 * row} Td <{letters}> Tj ET\n".encode()
    return stream


def write_pdf(
    path: Path, stream: bytes, *, packed: bool = False, mediabox: str = "0 0 595 842", kids: str = "3 0 R"
) -> None:
    """One page with this content stream, which may be packed already. Font /F has Latin letters, /C all."""
    content = stream if packed else zlib.compress(stream)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {kids.count('R')}>>".encode(),
        f"<</Type/Page/Parent 2 0 R/MediaBox[{mediabox}]/Contents 4 0 R"
        "/Resources<</Font<</F 5 0 R/C 6 0 R>>>>>>".encode(),
        b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/Font/Subtype/Type0/BaseFont/STSong-Light/Encoding/UniGB-UCS2-H/DescendantFonts[7 0 R]>>",
        b"<</Type/Font/Subtype/CIDFontType0/BaseFont/STSong-Light/DW 1000"
        b"/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 4>>>>",
    ]
    out = io.BytesIO(b"%PDF-1.4\n")
    out.seek(0, io.SEEK_END)
    places = []
    for number, content in enumerate(objects, start=1):
        places.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, content))
    table = out.tell()
    out.write(b"xref\n0 8\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places))
    out.write(b"trailer<</Size 8/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % table)
    path.write_bytes(out.getvalue())


def packed_blanks(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(b" " * 1_000_000) for _ in range(megabytes)) + packer.flush()


def lie_about_size(path: Path) -> None:
    """The archive's table says that its last member unpacks to 1000 bytes."""
    content = bytearray(path.read_bytes())
    entry = content.rfind(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    path.write_bytes(content)


def encrypted_office_file() -> bytes:
    """As far as anybody without the password can tell."""
    return OLE + bytes(1000) + "EncryptedPackage".encode("utf-16-le") + bytes(1000)
