"""Deterministic text: a digest of the request chooses the words, one word a token."""

from __future__ import annotations

import hashlib
import math

__all__ = ["count_tokens", "fraction", "words_for"]

# A byte chooses a word, so there are 256.
_TEXT = """
    a able about above across after again against age ago air all almost along also always among
    an and animal another answer any are area around as ask at away back be because become been
    before began begin being below between big book both boy bring build but by call came can
    car care carry change children city close cold come complete could country course cover cross
    cut day did different do does dog door down draw dry each early earth east easy eat end enough
    even ever every example eye face fact fall family far farm fast father feel feet few field
    find fire first fish five fly follow food foot for form found four friend from front full game
    gave get girl give go gold good got great green ground group grow had half hand happen hard
    has have he head hear heat help her here high him his hold home horse hot hour house how
    hundred idea if in inch into is island it just keep kind king knew know land language large
    last late laugh lead learn leave left less let letter life light like line list listen little
    live long look lot love low machine made main make man many map mark may me mean measure men
    might mile mind minute miss money moon more morning most mother mountain move much music must
    my name near need never new next night no north note nothing notice now number ocean off often
    old once one only open order other our out over
"""
_WORDS = tuple(_TEXT.split())


def words_for(seed: bytes, count: int) -> list[str]:
    """`count` words that depend only on `seed`; fewer words are a prefix of more."""
    return [_WORDS[byte] for byte in hashlib.shake_128(seed).digest(count)]


def fraction(seed: bytes) -> float:
    """A number in [0, 1) that depends only on `seed`."""
    return int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest(), "big") / 2**64


def count_tokens(text: str | bytes) -> int:
    """Roughly what a tokenizer would count: a token for every four bytes or characters."""
    return math.ceil(len(text) / 4)
