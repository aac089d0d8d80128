"""The format of an image, ota-image(5): enough to write another reader or writer."""

from __future__ import annotations

from typing import List, Sequence, Tuple

from .roff import Part, guide

_LAYOUT: Sequence[Part] = (
    "An image is a directory of static files below one base URL, which ends with a slash. Any web "
    "server that answers GET will do; one that answers range requests lets a client go on with a "
    "file that was broken off.",
    [
        ("metadata.jwt", "The signed entry point; it names all that follows but the content."),
        ("dirs.txt, symlinks.txt, regulars.txt, persistents.txt",
         "Tables of directories, symbolic links, files, and of what devices keep. These names are "
         "usual, the ones in `metadata.jwt` count."),
        ("sign.pem", "The signer's certificate, PEM."),
        ("attributes.txt.zst", "Ours: what the other tables have no place for."),
        ("rootfs/PATH", "Content of a file, plain: the path without its first slash, "
         "percent-encoded as UTF-8 bytes; slash and tilde stay as they are."),
        ("rootfs.zst/SHA256.zst", "Content by the sha256, in lower-case hex, of the uncompressed "
         "bytes, compressed with zstd."),
    ],
    "A content is fetched once, however many files have it; the empty file never.",
)  # fmt: skip
_ENTRY: Sequence[Part] = (
    "ASCII: header, payload and signature, each in base64url, joined by dots. Write the `=` "
    "padding, read segments with and without. The header is {\"alg\":\"ES256\"} and nothing else. "
    "The signature is ECDSA over P-256 and SHA-256 of the bytes before the last dot as they were "
    "sent, encoded in DER (not as r and s side by side, as JWS has it).",
    "The payload is a JSON list of objects in any order, each with one of these keys, none of them "
    "twice; other objects are passed over. HASH is a sha256 in lower-case hex.",
    [
        ('{"version": 1}', "The layout; not looked at."),
        ('{"directory": FILE, "hash": HASH}', "The table of directories; required, like the next "
         "four."),
        ('{"symboliclink": FILE, "hash": HASH}', "That of symbolic links."),
        ('{"regular": FILE, "hash": HASH}', "That of files."),
        ('{"persistent": FILE, "hash": HASH}', "That of what is kept."),
        ('{"certificate": FILE, "hash": HASH}', "The signer's certificate."),
        ('{"rootfs_directory": NAME}', "Where plain content lies; required."),
        ('{"compressed_rootfs_directory": NAME}', "Where compressed content lies; required when a "
         "file is compressed."),
        ('{"total_regular_size": "N"}', "Sum of all sizes in bytes: a string of digits."),
        ('{"ota": {...}}', "Ours. `format` (1) is required; optional are `version`, `compatible` "
         "(texts of 1 to 255 printable characters), `created`, `expires` (RFC 3339), and "
         "`attributes` with `attributes_sha256`: name and hash of our table."),
    ],
    "The image id is the sha256, in hex, of a canonical JSON text, ASCII, keys sorted, without "
    "spaces: an object with `ota`, the object of that name without `created` and `expires` (only "
    "`format` where the image has none), and `tables`, the four hashes under `directory`, "
    "`persistent`, `regular` and `symboliclink`. Names, dates and signer do not count, so that "
    "signing again is no update.",
)  # fmt: skip
_TRUST: Sequence[Part] = (
    "Verify in this order, and use nothing before its step is done: `metadata.jwt`; the "
    "certificate, whose hash it names; a chain from the certificate to an anchor of the device; "
    "the signature; the tables by their hashes; each content by the hash in `regulars.txt`.",
    "Anchors are the self-signed certificates of the device, its others are intermediates; "
    "certificates that come with an image are neither. Refused are: a chain that reaches no "
    "anchor, a certificate that is expired or not valid yet anywhere in it, an intermediate that "
    "is no CA, a key other than EC P-256, a signer that is a CA, or whose key usage or extended "
    "key usage, where it has them, lacks digitalSignature or codeSigning, and what the device "
    "revoked. Images are ordered by `created` alone; one without it is older than any with it.",
)  # fmt: skip
_TABLE_TEXT = (
    "UTF-8, one entry a line, lines end with a newline (the last one need not), no header. MODE is "
    "octal, 3 to 5 digits, without type bits; UID and GID are decimal. Every path starts with a "
    "slash, stands in single quotes, and an inner quote is written as quote, backslash, quote, "
    "quote; nothing else is escaped. The root directory itself has no entry.",
    "Refused are lines that do not parse, paths with empty components, `.`, `..` or NUL, a path "
    "twice, an entry below something that is no directory, and anything at or below `/.ota`.",
)
_TABLES: List[Tuple[str, str]] = [
    ("dirs.txt", "MODE,UID,GID,'PATH'"),
    ("symlinks.txt", "MODE,UID,GID,'LINK','TARGET'. The mode means nothing."),
    ("regulars.txt", "MODE,UID,GID,NLINK,SHA256,'PATH' and optionally ,SIZE ,INODE "
     ",COMPRESSION: each of these three may be missing or empty. Names with an equal INODE, that "
     "is not empty, are one file; without it they are separate ones, whatever NLINK says. "
     "COMPRESSION is `zst` or empty, and says which of the two places has the content."),
    ("persistents.txt", "'PATH': files, directories or links that are copied from the running "
     "slot; missing ones are passed over. A directory is merged, and the running slot's files win. "
     "Owners are mapped by name between the account files of both systems. `/swapfile` and "
     "`/swap.img` are left out."),
    ("attributes.txt.zst", "Compressed with zstd. A line begins with what it tells:"),
    ("m,NS,'PATH'", "Time of the last change, in nanoseconds since 1970: from 1677 to 2262, which "
     "stand for whatever is before and after."),
    ("x,'NAME',BASE64,'PATH'", "An extended attribute, capabilities and ACLs among them."),
    ("b|c|p,MODE,UID,GID,MAJOR,MINOR,'PATH'", "A block or character device, or a fifo."),
    ("z,BYTES,SHA256", "How large the compressed file of a content is, so that the bytes to "
     "download are known before it begins."),
]  # fmt: skip
_LIMITS: Sequence[Part] = (
    "`metadata.jwt` 256 KiB; certificate 64 KiB; a table 512 MiB uncompressed, 5,000,000 lines, "
    "16 KiB a line; a name 255 bytes, a path 4096; zstd windows 128 MiB. A compressed content "
    "ends at its declared size. The paths of all directories that something lies in take 64 MiB, "
    "and a file has 1,000 extended attributes, of the namespaces `user`, `trusted` and `security` "
    "and the POSIX access lists. No time, size or attribute is given twice.",
    "An update is refused where all tables are larger than a third of the free memory, or reading "
    "them takes more than there is.",
)

#: A site of nginx; the tests run it.
NGINX = (
    "server {",
    "    listen 443 ssl;",
    "    ssl_certificate /etc/nginx/updates.pem;",
    "    ssl_certificate_key /etc/nginx/updates.key;",
    "    ssl_protocols TLSv1.2 TLSv1.3;",
    "    root /srv/updates;",
    "    default_type application/octet-stream;",
    "    gzip off;",
    "    keepalive_requests 100000;",
    "    add_header Cache-Control 'public, max-age=60';",
    "    location ~ '^/[^/]+/rootfs(\\.zst)?/' {",
    "        add_header Cache-Control 'public, max-age=31536000, immutable';",
    "    }",
    "}",
)
_SERVING: Sequence[Part] = (
    "Publish each image under a name of its own, upload its content first and `metadata.jwt` last, "
    "and never change it: then caches may keep content for ever, and only the metadata, which "
    "signing again replaces, briefly. For nginx, with images like `/srv/updates/2026.11`:",
    NGINX,
    "In an object store or a CDN set the same two Cache-Control headers when uploading, turn "
    "compression on the fly off (a Content-Encoding is refused, see `rootfs.zst`), and let range "
    "requests through. Redirects to another host are not followed. Signed cookies of a CDN go to "
    "the device's `--cookie-file`.",
)

_SECTIONS: Sequence[Tuple[str, Sequence[Part]]] = (
    ("description", _LAYOUT),
    ("metadata.jwt", _ENTRY),
    ("trust", _TRUST),
    ("tables", (*_TABLE_TEXT, _TABLES)),
    ("limits", _LIMITS),
    ("serving", _SERVING),
)


def image_page(name: str) -> str:
    """ota-image(5)."""
    return guide(name, "ota-image", 5, "format of an image", _SECTIONS, "ota(1), ota-image(1)")
