"""What a room may be called, and which text is visible: names that look alike are one name, or none.

Names follow Unicode Technical Standard 39: they are NFKC, and in a word all letters are of one script, or of Latin and
those that one language writes with it ("highly restrictive", section 5.2). Only emoji may hold invisible characters.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

import regex

_BLANKS: Final = "\u115f\u1160\u3164\uffa0\u2800\ufffc\U0001d159\U00013441\U00013442"
"""The letters and symbols that cannot be seen: fillers of Hangul, the blanks of Braille and of hieroglyphs, the place
of an object, a note without a head.
"""
_SHAPELESS: Final = rf"\p{{Cc}}\p{{Cf}}\p{{Cs}}\p{{Z}}\p{{Default_Ignorable_Code_Point}}{_BLANKS}"
_VISIBLE: Final = regex.compile(rf"[^{_SHAPELESS}\p{{Mn}}\p{{Me}}\p{{Noncharacter_Code_Point}}]")
_ODD: Final = regex.compile(rf"[{_SHAPELESS}\p{{C}}--\x20]", regex.VERSION1)
"""What no name holds: what has no shape, no fixed meaning or no room in a line."""
_STRAY_MARK: Final = regex.compile(r"(?:^|\x20)\p{M}|(\p{Mn})\1|\p{Mn}{5}|[\p{Soft_Dotted}l\u0131\u0237]\p{M}*\u0307")
"""A mark without a letter, the same twice (which looks like once), too many, or a dot on a letter that has one (UTS 39,
section 5.4).
"""
_WORD: Final = regex.compile(r"[\p{L}\p{M}\p{N}\p{S}_'\u2018\u2019\u201b\u2032\u055a\u00b7]+")
"""What is read as one: symbols are in a word, and so is all that looks like an apostrophe."""

_JOINER: Final = "\u200d"
_TONE: Final = r"\p{Emoji_Modifier}?"
_ADULT: Final = f"[👨👩🧑]{_TONE}"
_TO_THE_RIGHT: Final = f"(?:{_JOINER}➡\ufe0f?)?"
_PAIRS: Final = "🏳🌈 🏳⚧ 🏴☠ 🐕🦺 🐈⬛ 🐦⬛ 🐦🔥 🐻❄ 👁🗨 😮💨 😵💫 😶🌫 🙂↔ 🙂↕ ❤🔥 ❤🩹 🍋🟩 🍄🟫 ⛓💥"
_JOINED: Final = "|".join(
    [
        f"{_ADULT}{_JOINER}[⚕⚖✈🌾🍳🍼🎄🎓🎤🎨🏫🏭💻💼🔧🔬🚀🚒🦯🦼🦽🩰🦰🦱🦲🦳]\ufe0f?{_TO_THE_RIGHT}",
        rf"(?:\p{{Emoji_Modifier_Base}}|[👯🤼🧞🧟]){_TONE}\ufe0f?{_JOINER}[♀♂]\ufe0f?{_TO_THE_RIGHT}",
        f"[🚶🏃🧎]{_TONE}{_JOINER}➡\ufe0f?",
        f"{_ADULT}{_JOINER}(?:❤\ufe0f?{_JOINER}(?:💋{_JOINER})?|🤝{_JOINER}){_ADULT}",
        f"🫱{_TONE}{_JOINER}🫲{_TONE}",
        f"[👨👩🧑](?:{_JOINER}[👨👩🧑])?(?:{_JOINER}[👦👧🧒]){{1,2}}",
        *(f"{pair[0]}\ufe0f?{_JOINER}{pair[1]}\ufe0f?" for pair in _PAIRS.split()),
    ]
)
"""The emoji that are joined (Unicode 16, emoji-zwj-sequences): people at work, of a sex, walking to the right, in pairs
and families, and the others. Fonts show any others as if nothing joined them.
"""
_NATIONS: Final = "|".join("".join(chr(0xE0000 + ord(letter)) for letter in nation) for nation in ("eng", "sct", "wls"))
_FLAGS: Final = rf"\U0001F3F4\U000E0067\U000E0062(?:{_NATIONS})\U000E007F"
_EMOJI: Final = regex.compile(
    rf"{_FLAGS}|{_JOINED}|\p{{Emoji_Presentation}}\uFE0F?|\p{{Extended_Pictographic}}\uFE0F"
    r"|\p{Emoji_Modifier_Base}\p{Emoji_Modifier}|[0-9#*]\uFE0F?\u20E3"
)
"""An emoji that is shown as a picture (UTS 51): the flags of England, Scotland and Wales, joined ones, single ones and
keycaps. Two regional indicators, a flag, are two of the single ones.
"""
_TEXT_PICTURE: Final = regex.compile(r"[\p{Extended_Pictographic}--\p{Emoji_Presentation}]", regex.VERSION1)
_VARIANT: Final = "\ufe0f"

MAX_GROWTH: Final = 4
"""How many characters a client may send for each one of a name: a decomposed Vietnamese letter has three."""

_SCRIPTS: Final = (
    "Adlm Aghb Ahom Arab Armi Armn Avst Bali Bamu Bass Batk Beng Bhks Bopo Brah Brai Bugi Buhd Cakm Cans Cari "
    "Cham Cher Chrs Copt Cpmn Cprt Cyrl Deva Diak Dogr Dsrt Dupl Egyp Elba Elym Ethi Gara Geor Glag Gong Gonm "
    "Goth Gran Grek Gujr Gukh Guru Hang Hani Hano Hatr Hebr Hira Hluw Hmng Hmnp Hung Ital Java Kali Kana Kawi "
    "Khar Khmr Khoj Kits Knda Krai Kthi Lana Laoo Latn Lepc Limb Lina Linb Lisu Lyci Lydi Mahj Maka Mand Mani "
    "Marc Medf Mend Merc Mero Mlym Modi Mong Mroo Mtei Mult Mymr Nagm Nand Narb Nbat Newa Nkoo Nshu Ogam Olck "
    "Onao Orkh Orya Osge Osma Ougr Palm Pauc Perm Phag Phli Phlp Phnx Plrd Prti Rjng Rohg Runr Samr Sarb Saur "
    "Sgnw Shaw Shrd Sidd Sind Sinh Sogd Sogo Sora Soyo Sund Sunu Sylo Syrc Tagb Takr Tale Talu Taml Tang Tavt "
    "Telu Tfng Tglg Thaa Thai Tibt Tirh Tnsa Todr Toto Tutg Ugar Vaii Vith Wara Wcho Xpeo Xsux Yezi Yiii Zanb"
)
"""The scripts of Unicode 16, by their codes in ISO 15924. Letters of a newer one are refused until it is added."""

_TOGETHER: Final = ("Latn Hani Hira Kana", "Latn Hani Bopo", "Latn Hani Hang")
"""What Japanese, Chinese and Korean write in one word."""


def _letters_of(scripts: str) -> str:
    """A pattern for words of these scripts, and of what all scripts share."""
    return "[" + "".join(rf"\p{{scx={script}}}" for script in f"{scripts} Zyyy Zinh".split()) + "]+"


_UNMIXED: Final = regex.compile("|".join(map(_letters_of, [*_TOGETHER, *_SCRIPTS.split()])))


def is_visible(text: str) -> bool:
    """Whether at least one character of ``text`` is visible."""
    first = text[:1]
    if "!" <= first <= "~" or (first and unicodedata.category(first)[0] in "LNPS" and first not in _BLANKS):
        return True  # nearly every message: no need to look further
    return _VISIBLE.search(text) is not None


def room_name(text: str, max_length: int) -> str:
    """The name that ``text`` gives a room: however it was typed, names that look the same are the same.

    Raises:
        ValueError: no room can be called that; the message is a sentence that says why.
    """
    if text.isascii() and text.isprintable():
        name = " ".join(text.split())
        if not name:
            raise ValueError("Must have a visible character.")
        if len(name) <= max_length:
            return name
    elif len(text) <= MAX_GROWTH * max_length:
        return _room_name(text, max_length)
    raise ValueError(f"Must be 1 to {max_length} characters long.")


def spellings(text: str) -> tuple[str, ...]:
    """The names that a room may have which somebody calls ``text``: exactly this, which a room of an older store may
    have, and then the name that a new room gets when somebody asks for ``text``.
    """
    if text.isascii() and "  " not in text and text == text.strip(" "):
        return (text,)
    try:
        return text, room_name(text, MAX_GROWTH * len(text))
    except ValueError:
        return (text,)


@lru_cache(maxsize=1_024)
def _room_name(text: str, max_length: int) -> str:
    name = _normal(text)
    if len(name) > max_length:
        raise ValueError(f"Must be 1 to {max_length} characters long.")
    if _normal(name) != name:
        raise ValueError("Must not contain characters that change when they are normalized together.")
    _check(name)
    return name


def _normal(text: str) -> str:
    """``text`` in NFKC, except for its emoji, which keep exactly the selectors that they need; single spaces inside."""
    pieces = []
    end = 0
    for emoji in _EMOJI.finditer(text):
        pieces += [unicodedata.normalize("NFKC", text[end : emoji.start()]), _normal_emoji(emoji.group())]
        end = emoji.end()
    pieces.append(unicodedata.normalize("NFKC", text[end:]))
    return " ".join(word for word in "".join(pieces).split(" ") if word)


def _normal_emoji(emoji: str) -> str:
    if emoji[-1] == "\u20e3":
        return emoji[0] + _VARIANT + emoji[-1]
    plain = emoji.replace(_VARIANT, "")
    if _JOINER not in emoji and emoji == plain:
        return emoji
    parts = []
    for part in plain.split(_JOINER):
        needed = len(part) == 1 and _TEXT_PICTURE.match(part) is not None
        parts.append(part + _VARIANT if needed else part)
    return _JOINER.join(parts)


def _check(name: str) -> None:
    """Check that a normalized name can be read in one way only. Raises ValueError."""
    text = _EMOJI.sub("*", name)
    odd = _ODD.search(text)
    if odd is not None:
        raise ValueError(
            f"Must not contain U+{ord(odd.group()):04X}: control characters, and invisible or unassigned ones, are not "
            "allowed."
        )
    if not text:
        raise ValueError("Must have a visible character.")
    if _STRAY_MARK.search(unicodedata.normalize("NFD", text)) is not None:
        raise ValueError("Must not have a combining mark without a letter, the same mark twice, or more than four.")
    for word in _WORD.findall(text):
        if word.isascii():
            continue
        if _UNMIXED.fullmatch(word) is None or len(_digit_systems(word)) > 1:
            raise ValueError(f"Must not mix scripts in one word: {word[:100]!r}.")


def _digit_systems(word: str) -> set[int]:
    """Each by its zero: digits of one look like others of another (UTS 39, section 5.3)."""
    return {ord(digit) - unicodedata.decimal(digit) for digit in word if digit.isdecimal()}
