"""Writes the folders of Tests/TokenizerTests/Fixtures that hold byte-pair, unigram and word-level tokenizers, trained here on
our own strings, with what the `tokenizers` library makes of these; and patterns.json, where its regular expressions cut.

    python3 Tests/Oracles/make_tokenizer_model_fixtures.py

Training breaks ties by chance: a tokenizer.json that is there is kept, and the rest is deterministic. Delete a folder to train
it anew.
"""

import base64
import json
import random
import struct

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from make_tokenizer_fixtures import OUT, PAIRS, STRINGS, compact, record, truncated

SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

# The words of Llama 3 and, with marks and cases told apart, of newer byte-level models.
LLAMA = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

PARTS = [
    "the ", "Hello", "don't", "I'LL ", "  ", "\n\n", "\r\n", "1234567", "3.14", "foo_bar", "<s>", "</s>", " <mask> ", "<unk>", "<tag>", "\u2581",
    "<0x41>", "e\u0301", "A\u0327\u0303", "\u1112\u1161\u11ab", "ﬁﬂ", "\u1e9b\u0323", "...", "!?", "   \n  ", "\t\t", "日本", "'\u017f", "\u212a", "a", "b", " ", "½", "①",
    "\u0000", "\u0007", "\u200d", "\u200b", "\u00a0", "\u3000", "\ufeff", "\ufffd", "😀", "👩\u200d👩\u200d👧", "🇩🇪", "हिन्दी", "مرحبا", "Ёж", "각", "𝒜", "𠀀", "\U000e0100",
]
WORDS = ["lift door fine word tokenisation believe", "the lift is fine and the door is not", "Hello, hello! one two three four five", "don't I'll we've they're it's"]


def strings():
    dice = random.Random(7)
    mixed = ["".join(dice.choice(PARTS) for _ in range(dice.choice([2, 3, 5, 8, 13, 21]))) for _ in range(30)]
    return STRINGS + mixed + ["a" * 300, "ab" * 150, "日本" * 60, " " * 70 + "x", "\u0301" * 50, "!" * 90 + "\n" * 50, "x\u200dy" * 30]


def finish(tokenizer, **model):
    """Puts keys into the model that the trainer does not know, and takes the byte tokens out of the added ones."""
    values = json.loads(tokenizer.to_str())
    values["model"] |= model
    values["added_tokens"] = [token for token in values["added_tokens"] if token["content"] not in BYTES]
    return Tokenizer.from_str(json.dumps(values))


def pairs(size, special=SPECIAL, normalizer=None, pre_tokenizer=None, unknown=None, alphabet=None, most=1000, suffix=None, **model):
    affix = {} if suffix is None else {"end_of_word_suffix": suffix}
    tokenizer = Tokenizer(models.BPE(**affix, **({} if unknown is None else {"unk_token": unknown})))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(STRINGS[:8] * 2 + STRINGS + WORDS * 3, trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, initial_alphabet=alphabet or [], limit_alphabet=most, show_progress=False, **affix))
    return finish(tokenizer, **model)


def pieces(size, special=SPECIAL, normalizer=None, pre_tokenizer=None, **model):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(STRINGS[:30] + WORDS * 3, trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False))
    return finish(tokenizer, **model)


def template():
    return processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 1), ("</s>", 2)])


def character_map(rules):
    """SentencePiece's charsmap of our own rules: a trie of UTF-8 in a double array as Darts-clone writes it, then the texts."""
    texts, places = b"", {}
    for text in sorted(set(rules.values())):
        places[text] = len(texts)
        texts += text.encode() + b"\0"
    trie = {}
    for key, text in rules.items():
        node = trie
        for byte in key.encode():
            node = node.setdefault(byte, {})
        node[None] = places[text]
    units, taken, bases = {0: 0}, {0}, set()

    def place(node, at, label):
        """Finds a base of its own for which every child falls on a free unit."""
        base = next(b for b in range(1, 1 << 20) if b not in bases and all((b ^ (key or 0)) not in taken for key in node))
        bases.add(base)
        children = {key: base ^ (key or 0) for key in node}
        taken.update(children.values())
        units[at] = (at ^ base) << 10 | (1 << 8 if None in node else 0) | label
        for key, child in node.items():
            if key is None:
                units[children[None]] = 1 << 31 | child
            else:
                place(child, children[key], key)

    place(trie, 0, 0)
    # A look-up may try any of the 256 units of a block.
    size = (max(units) | 255) + 1
    blob = struct.pack("<I", size * 4) + b"".join(struct.pack("<I", units.get(i, 0)) for i in range(size)) + texts
    return normalizers.Precompiled(base64.b64decode(base64.b64encode(blob)))


RULES = {
    "\t": " ", "\n": " ", "\r": " ", "\u00a0": " ", "\u3000": " ", "\u200b": "", "\ufeff": "", "\u00ad": "", "\u2003": " ", "\u0000": "", "ﬁ": "fi", "ﬂ": "fl", "①": "1",
    "½": "1/2", "e\u0301": "é", "A\u030a": "Å", "\u212b": "Å", "E\u0301": "É", "…": "...", "Ⅷ": "VIII", "㎏": "kg", "ＷＩ": "WI", "Ｗ": "W", "Ｉ": "I", "ŵ": "w", "q": "q",
    "\u0307": "", "ﷺ": "صلى الله عليه وسلم", "🇩🇪": "DE", "\u200d": "",
}


def make(name):
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    metaspace = pre_tokenizers.Metaspace
    if name == "roberta":
        tokenizer = pairs(400, alphabet=alphabet, pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True))
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1), trim_offsets=True, add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
        tokenizer.add_tokens([AddedToken("<tag>", normalized=True), AddedToken("Wordy", single_word=True, rstrip=True)])
    elif name == "llama3":
        tokenizer = pairs(450, alphabet=alphabet, ignore_merges=True, pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(LLAMA), "isolated"), byte_level]))
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template()])
        tokenizer.decoder = decoders.ByteLevel()
    elif name == "cased_words":
        tokenizer = pairs(420, alphabet=alphabet, normalizer=normalizers.NFC(), pre_tokenizer=pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(CASED), "isolated"), byte_level]))
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    elif name == "llama2":
        normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tokenizer = pairs(520, SPECIAL + BYTES, normalizer, unknown="<unk>", most=120, byte_fallback=True, fuse_unk=True)
        tokenizer.post_processor = template()
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    elif name == "suffix":
        tokenizer = pairs(300, normalizer=normalizers.Lowercase(), pre_tokenizer=pre_tokenizers.BertPreTokenizer(), unknown="<unk>", most=50, suffix="</w>", fuse_unk=True)
        tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    elif name == "no_unknown":
        tokenizer = pairs(260, normalizer=normalizers.Sequence([normalizers.Strip(), normalizers.NFD()]), most=40, pre_tokenizer=metaspace(prepend_scheme="first", split=False))
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    elif name == "t5":
        normalizer = normalizers.Sequence([normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer = pieces(300, normalizer=normalizer, pre_tokenizer=metaspace())
        tokenizer.post_processor = template()
        tokenizer.decoder = decoders.Metaspace()
    elif name == "xlmr":
        normalizer = normalizers.Sequence([character_map(RULES), normalizers.Replace(Regex(" {2,}"), " ")])
        tokenizer = pieces(300, normalizer=normalizer, pre_tokenizer=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace()]))
        tokenizer.post_processor = template()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    elif name == "piece_bytes":
        tokenizer = pieces(560, SPECIAL + BYTES, character_map(RULES), metaspace(prepend_scheme="never"), byte_fallback=True)
        tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="never")])
    elif name == "word_level":
        words = sorted({word for text in STRINGS + WORDS for word in text.split()})[::2]
        tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(SPECIAL + words)}, unk_token="<unk>"))
        tokenizer.add_special_tokens(SPECIAL)
        tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex("[lt]{2}"), "L"), normalizers.Replace("e", "ee")])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.CharDelimiterSplit(" "), pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Punctuation("merged_with_next"),
            pre_tokenizers.Split(Regex("[aeiou]+"), "merged_with_previous"), pre_tokenizers.Split("x", "contiguous"),
            pre_tokenizers.Split(Regex(r"\S+"), "removed", invert=True)])
    return tokenizer


PATTERNS = [
    r"(?i)the|hello", r"\w+|\W", r"\d+", r"a*", r"(a|ab)(c|bcd)?", r"[^\W\d_]+", r"(?:a|b|c){2,3}", r"(?<!a)a+(?!\s)", r"(?<=\s)\S+", r"[\p{Lu}&&[^A-F]]+",
    r"\p{^L}+", r"\P{N}{2,}?", r"\s+?\S*", r".{3}", r"[a-c\d\-]+|\.\.\.", r"\x{65e5}\u672c|\x41", r"(?:ab?)*b|x", r"a??b|\t", r"[ſk]|(?i:[sk])",
    r"'(?i:[sdmt]|ll|ve|re)", r"\h+", r"a{,3}b|{x}", r"(?i:x(?-i:y)z)|(?:)", r"\p{Nd}|\p{Sc}|\p{Zs}+|\p{Cc}", r"[\s\S]", r"(?:[^a]|a(?!a))+", r"[^\r\n\p{L}\p{N}]?+\p{L}++|\s++",
    r" ?[^(\s|[.,!?…。，、।۔،])]+", r"[\p{M}\p{P}]+|\p{S}|[\p{Lt}\p{Lm}\p{Lo}]+|\p{N}{1,3}", LLAMA, CASED,
]


def main():
    for name in ("roberta", "llama3", "cased_words", "llama2", "suffix", "no_unknown", "t5", "xlmr", "piece_bytes", "word_level"):
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "tokenizer.json"
        if not file.exists():
            values = json.loads(make(name).to_str())
            if name == "llama2":
                # As files of early versions have them.
                values["model"]["merges"] = [" ".join(pair) for pair in values["model"]["merges"]]
            file.write_text(compact(values) + "\n")
        tokenizer = Tokenizer.from_file(str(file))
        rows = [compact(record(tokenizer, text)) for text in strings()] + [compact(record(tokenizer, a, b)) for a, b in PAIRS]
        cuts = [compact(truncated(tokenizer, text, None, length, "longest_first")) for length in (4, 9) for text in STRINGS[4:9]]
        cuts += [compact(truncated(tokenizer, a, b, length, "longest_first")) for length in (6, 11) for a, b in PAIRS]
        (folder / "expected.json").write_text('{"tokenizers_version":"%s",\n"strings":[\n%s],\n"truncated":[\n%s]}\n' % (
            tokenizers.__version__, ",\n".join(rows), ",\n".join(cuts)))
        print(name, tokenizer.get_vocab_size(), "tokens")
    rows = []
    for pattern in PATTERNS:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        rows.append(compact({"pattern": pattern, "cuts": [[b for _, (_, b) in split.pre_tokenize_str(text)] for text in strings()]}))
    (OUT / "patterns.json").write_text('{"texts":%s,\n"patterns":[\n%s]}\n' % (compact(strings()), ",\n".join(rows)))


if __name__ == "__main__":
    main()
