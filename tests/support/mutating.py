"""Files as damage and other tools leave them: pieces added, repeated, replaced or missing."""

import re

PIECES = [
    *(b"<object>", b"</object>", b"<x/>", b"<x>1</x>", b"<size/>", b"<size><width>1</width></size>", b"</bndbox>"),
    *(b"<filename>z</filename>", b"<annotation>", b"</annotation>", b"<pose/>", b"<name> </name>", b"<difficult/>"),
    *(b"<part><name>h</name></part>", b"<occluded>1</occluded>", b"<a:b>1</a:b>", b"<object/>", b"<xmlx>1</xmlx>"),
    *(b"&amp;", b"<!-- c -->", b"<![CDATA[a]]>", b"<?pi?>", b"]]>", b"<", b">", b" ", b"\n", b"\r", b"\t", b"."),
    *(b"_", b"nan", b"inf", b"1e3", b"-5", b"0x1", b"yes", b"\x00", b"\x0b", b"\xa0", b"\xc2\xa0", b"\xe2\x80\xa8"),
    *(b"\xef\xbf\xbe", b"\xef\xbb\xbf", b"\xd9\xa1", b"\x85"),
]


def mutated_xml(data, chance):
    """A file with one to three random insertions, repetitions, replacements or deletions."""
    text = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        elements = list(re.finditer(rb"<(\w+)>[^<]*</\1>\s*", text))
        texts = list(re.finditer(rb">([^<]*)<", text))
        borders = [match.start() for match in re.finditer(b"<", text)] or [0]
        way = chance.randrange(5)
        if way == 0 or not elements or not texts:
            place = chance.randrange(len(text) + 1)
            text[place:place] = chance.choice(PIECES)
        elif way == 1:
            place = chance.choice(borders)
            text[place:place] = chance.choice(PIECES)
        elif way == 2:
            match = chance.choice(elements)
            text[match.start() : match.end()] = chance.choice((b"", match.group() * 2))
        elif way == 3:
            match = chance.choice(texts)
            text[match.start(1) : match.end(1)] = chance.choice(PIECES)
        else:
            place = chance.randrange(len(text) + 1)
            del text[place : place + chance.choice((1, 1, 3, 20, 100))]
    return bytes(text)


def mutated_bytes(data, chance):
    """A file with one to three random damages: bits flipped, zeros, pieces missing, repeated or moved, its end cut."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not found:
            break
        start, length = chance.randrange(len(found)), chance.choice((1, 4, 64, 1000))
        way = chance.randrange(6)
        if way == 0:
            found[start] ^= 1 << chance.randrange(8)
        elif way == 1:
            found[start : start + length] = bytes(len(found[start : start + length]))
        elif way == 2:
            del found[start : start + length]
        elif way == 3:
            found[start:start] = found[start : start + length]
        elif way == 4:
            other = chance.randrange(len(found))
            found[start : start + length] = found[other : other + length]
        else:
            del found[start:]
    return bytes(found)
