#!/usr/bin/env python3
"""Makes keys.txt and writer.key: what docs/format.md says about keys, pages and layers, written a second time and without varu.

Needs `pip install blake3 cryptography`. Run it in this folder; the files change only where the format does.
"""

import base64
import hmac
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def derive(context, material):
    return blake3(material, derive_key_context="varu 2026-11 " + context).digest()


def seal(key, nonce, aad, plaintext):
    return ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


def joined(parts):
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value):
    return varint(value << 1 ^ value >> 63)


def counted(data):
    return varint(len(data)) + data


def raw_frame(plain):
    """A zstd frame of less than 256 bytes in one block that isn't compressed."""
    block = len(plain) << 3 | 1
    return b"\x28\xb5\x2f\xfd\x20" + bytes([len(plain)]) + block.to_bytes(3, "little") + plain


def pages_and_layer(metadata):
    """A leaf with all records and ops, the inner page above it, and the layer."""
    layer_id = bytes(range(160, 192))
    repository = bytes(range(16))
    # shop/old is removed.
    leaf = varint(0) + varint(0) + counted(b"shop/old")
    # shop/orders.sql is a dump of 46 bytes at place 5: 3 chunks from the second on in segment 7 of pack 1, and 2 behind them,
    # and one in segment 5 of the same pack.
    leaf += varint(1) + varint(6) + counted(b"rders.sql") + b"\x00" + varint(46) + bytes(range(32)) + varint(5)
    leaf += varint(3)
    leaf += varint(3 << 2 | 3) + varint(1) + varint(7) + varint(1)
    leaf += varint(2 << 2 | 2)
    leaf += varint(1 << 2 | 3) + varint(1) + zigzag(-2) + varint(0)
    # shop/photos is a file that stands on the one below: 4 chunks, 2 left out, 300 more, and one in another pack.
    leaf += varint(2) + varint(5) + counted(b"photos") + b"\x01"
    leaf += varint(0o640) + varint(1000) + varint(0) + counted(b"mari") + counted(b"")
    leaf += zigzag(1_700_000_000) + varint(5) + zigzag(-1) + varint(999_999_999) + varint(77) + varint(0x10)
    leaf += varint(1) + counted(b"user.x") + counted(b"\x00\xff") + varint(1) + varint(4096) + varint(8192)
    leaf += varint(70_000) + bytes(range(32, 64))
    leaf += varint(4)
    leaf += varint(4 << 2 | 0)
    leaf += varint(2 << 1 << 2 | 1)
    leaf += varint(300 << 2 | 0)
    leaf += varint(1 << 2 | 3) + varint(2) + varint(0) + varint(9)
    # The leaf lies behind another page of 500 bytes.
    offset = 500
    pages = {}
    for name, height, plain in [("leaf", 1, leaf), ("inner page", 2, None)]:
        if plain is None:
            first = varint(0) + counted(b"shop/a") + varint(0) + varint(500) + bytes(range(16))
            second = varint(5) + counted(b"old") + varint(0) + varint(length) + check
            plain = first + second
        place = offset.to_bytes(8, "little")
        salt = blake3(layer_id + place).digest()
        packed = len(plain).to_bytes(4, "little") + raw_frame(plain)
        key = derive("recipe page", metadata + salt)
        sealed = seal(key, bytes(12), joined([repository, place, bytes([height])]), packed)
        length, check = len(sealed), blake3(sealed).digest()[:16]
        pages |= {
            name: plain,
            name + " offset": place,
            name + " salt": salt,
            name + " key": key,
            name + " packed": packed,
            name + " sealed": sealed,
            name + " check": check,
        }
        root = offset
        offset += length
    layer = layer_id + varint(1) + bytes(range(192, 224)) + bytes(range(16)) + varint(1_000_000) + varint(offset)
    layer += b"\x02" + varint(root) + varint(length) + check
    return {"layer id": layer_id, "page repository id": repository} | pages | {"layer": layer}


def bech32(prefix, data):
    letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    generators = [0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3]
    bits = "".join(f"{byte:08b}" for byte in data)
    bits += "0" * (-len(bits) % 5)
    values = [int(bits[i : i + 5], 2) for i in range(0, len(bits), 5)]
    sum_ = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + values + [0] * 6:
        top = sum_ >> 25
        sum_ = (sum_ & 0x1FFFFFF) << 5 ^ value
        for i in range(5):
            sum_ ^= generators[i] if top >> i & 1 else 0
    values += [(sum_ ^ 1) >> 5 * (5 - i) & 31 for i in range(6)]
    return prefix + "1" + "".join(letters[value] for value in values)


def age_file(recipient, ephemeral, file_key, nonce, plaintext):
    """https://age-encryption.org/v1, one X25519 recipient, a plaintext of one chunk."""

    def hkdf(salt, info, key):
        return HKDF(hashes.SHA256(), 32, salt, info).derive(key)

    def b64(data):
        return base64.b64encode(data).rstrip(b"=")

    share = X25519PrivateKey.from_private_bytes(ephemeral)
    secret = share.exchange(X25519PublicKey.from_public_bytes(recipient))
    public = share.public_key().public_bytes_raw()
    wrapping_key = hkdf(public + recipient, b"age-encryption.org/v1/X25519", secret)
    body = seal(wrapping_key, bytes(12), b"", file_key)
    header = b"age-encryption.org/v1\n-> X25519 " + b64(public) + b"\n" + b64(body) + b"\n---"
    mac = hmac.digest(hkdf(b"", b"header", file_key), header, "sha256")
    payload = seal(hkdf(nonce, b"payload", file_key), bytes(11) + b"\x01", b"", plaintext)
    return header + b" " + b64(mac) + b"\n" + nonce + payload


def main():
    secret = bytes(range(32))
    salt = bytes(range(64, 96))
    pack_key = bytes(range(128, 160))
    data_secret = bytes(range(32, 64))
    data_public = X25519PrivateKey.from_private_bytes(data_secret).public_key().public_bytes_raw()
    data_key = bech32("age", data_public)
    chunk = b"INSERT INTO `orders` VALUES (1,'2026-11-21');\n" * 100
    metadata = derive("metadata key", secret)
    aad = [b"clear header", b"", b"more"]
    vectors = {
        "writer secret": secret,
        "chunk id key": derive("chunk id key", secret),
        "stream hash key": derive("stream hash key", secret),
        "chunker seed": derive("chunker seed", secret),
        "metadata key": metadata,
        "chunk": chunk,
        "chunk id": blake3(chunk, key=derive("chunk id key", secret)).digest()[:16],
        "chunk id of nothing": blake3(b"", key=derive("chunk id key", secret)).digest()[:16],
        "stream hash": blake3(chunk, key=derive("stream hash key", secret)).digest(),
        "salt": salt,
        "associated data 1": aad[0],
        "associated data 2": aad[1],
        "associated data 3": aad[2],
        "metadata plaintext": b"a recipe",
    }
    for purpose in ["snapshot body", "pack directory", "recipe copy"]:
        key = derive(purpose, metadata + salt)
        vectors["sealed " + purpose] = seal(key, bytes(12), joined(aad), b"a recipe")
    vectors |= pages_and_layer(metadata)
    vectors |= {
        "pack key": pack_key,
        "pack header": b"clear pack header",
        "segment plaintext": b"rows",
        "sealed segment 0": seal(pack_key, bytes(12), b"clear pack header", b"rows"),
        "sealed segment 258": seal(pack_key, b"\x02\x01" + bytes(10), b"clear pack header", b"rows"),
        "data key secret": bech32("age-secret-key-", data_secret).upper().encode(),
        "data key public": data_key.encode(),
        "wrapped pack key": age_file(data_public, bytes(range(96, 128)), bytes(range(16)), bytes(16), pack_key),
    }
    sizes = b"".join(size.to_bytes(4, "little") for size in [4096, 16384, 65536])
    first = derive("repository id", secret + sizes + b"\x00" + bytes(16) + data_key.encode())[:16]
    after = derive("repository id", secret + sizes + b"\x01" + first + data_key.encode())[:16]
    vectors["repository id"] = first
    vectors["repository id after a rotation"] = after
    lines = "".join(f"{name} = {value.hex()}\n" for name, value in vectors.items())
    Path("keys.txt").write_text("# Made by generate.py. All values are hex, texts too.\n" + lines)
    lines = f"""\
version 1
repository {after.hex()}
secret {secret.hex()}
data-key {data_key}
chunks 4096 16384 65536
follows {first.hex()}
recipient {data_key}
"""
    sealed = lines.encode() + b"data-secret " + vectors["data key secret"] + b"\n"
    key_object = age_file(data_public, bytes(range(96, 128)), bytes(range(16)), bytes(16), sealed)
    Path("writer.key").write_text(f"""\
# varu writer key. Keep it secret, readable by root alone, on the machine whose backups it writes.
# It adds backups and reads the names and sizes in them. It opens no stored data: only the identity does.
{lines}key-object {base64.b64encode(key_object).decode()}
""")


main()
