"""Inputs that are nearly right: valid ones with bytes, numbers, members or tokens changed."""

import io
import random
import zipfile

from trm_jax.support.files import DAMAGE

# Numbers at the borders of their types, in text and in binary; and what stands for nothing.
TOKENS = [str(number).encode() for number in (-1, 0, 3, 255, 256, 2**31, 2**32, 2**63, 2**64, 10**400, 1.5)]
TOKENS += [number.to_bytes(width, "little") for width in (1, 2, 4, 8) for number in (0, 1, 2 ** (8 * width) - 1)]
TOKENS += [b"null", b"true", b"NaN", b'"', b"{}", b"[]", b"[" * 2000, b"]", b",", b"\n", b"\xff\xfe", b"\0", b"=", b"{"]
TOKENS += [b"|O", b"<U9", b"|V9", b"(18446744073709551616, 0)", b"(9999999999,)", b"-5", b"'"]


def mutate(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The content with one to five changes; archives are mostly changed inside, so that their checksums stay right."""
    if content[:2] == b"PK" and rng.random() < 0.75:
        return _rezip(content, rng)
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 3, 5])):
        place, length = rng.randrange(len(data) + 1), rng.choice([1, 1, 2, 4, 8, 50, 1000])
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[min(place, len(data) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place : place + length] = rng.randbytes(length)
        elif kind == 2:
            del data[place : place + length]
        elif kind == 3:
            data[place:place] = data[place : place + length] * rng.choice([1, 2, 50])
        elif kind == 4:
            del data[place:]
        elif kind == 5:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            data[place : place + length] = other[begin : begin + length]
        else:
            token = rng.choice(TOKENS)
            data[place : place + (len(token) if kind == 6 else 0)] = token
    return bytes(data[: 2**20])


def _rezip(content: bytes, rng: random.Random) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
    except DAMAGE:
        return content
    if not members:
        return content
    names, file = list(members), io.BytesIO()
    changed = rng.choice(names)
    # Most faults lie in the first bytes: the header of an array, the opcodes of a pickle.
    head = members[changed][:128] if rng.random() < 0.6 else members[changed]
    members[changed] = mutate(head, list(members.values()), rng) + members[changed][len(head) :]
    if rng.random() < 0.1:
        members[rng.choice(names)] = bytes(rng.choice([0, 10, 10, 2**20, 2**24]))
    if rng.random() < 0.1:
        del members[rng.choice(names)]
    method = rng.choice([zipfile.ZIP_STORED] * 10 + [zipfile.ZIP_DEFLATED] * 9 + [zipfile.ZIP_LZMA])
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return file.getvalue()
