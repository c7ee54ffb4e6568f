"""Writes Tests/TokenizerTests/Fixtures: small WordPiece tokenizers of our own and what the `tokenizers` library makes of
our strings.

    python3 Tests/Oracles/make_tokenizer_fixtures.py

Deterministic. For each kind a folder with tokenizer.json and expected.json; scalars.json holds one hash for every 4096
scalars of the normalised form of each scalar of Unicode 14.
"""

import json
import pathlib
import unicodedata

import tokenizers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

OUT = pathlib.Path(__file__).resolve().parents[1] / "TokenizerTests" / "Fixtures"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

STRINGS = [
    "", " ", "\t\n", "a", "The lift is fine, the door isn't.", "UPPER lower MiXeD", "don't I'm we've they're it's do not",
    "tokenisation of unbelievable words", "x" * 100, "x" * 101, "y" * 250 + " end", "one, two; three: four! five? (six) [seven] {eight}",
    "1234567890 3.14 1e-9 50%", "a\u00a0b\u2003c\u3000d\u200be", "zero\u0000byte and \ufffd and \x07bell \x85next", "line\r\nbreak\rhere",
    "café cafe\u0301 CAFÉ CAFE\u0301", "naïve façade über Straße ŞİŞLİ ıI İi", "\u00c5ngstr\u00f6m \u212bngstr\u00f6m A\u030angstrom", "ﬁne ﬂow Ⅷ ① ½ ㎏ ﷺ",
    "ΑΣ ΣΑΣ ὈΔΥΣΣΕΎΣ", "Привет, мир! Ёж и ёж", "שָׁלוֹם עולם", "العَرَبِيَّة", "हिन्दी में लिखा", "ไทยไม่มีช่องว่าง", "日本語のテキスト。漢字とかな", "中文没有空格，只有标点。", "한국어 문장 \u1112\u1161\u11ab\u1100\u116e\u11a8",
    "𠀀 𪛖 extension B", "😀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 emoji", "❤️ ☃︎ ™ © ®", "a\u0301\u0323 \u1e69 s\u0307\u0323 q\u0307\u0323 \u0344", "\u0301leading mark", "ŵ̂ắ ǭ",
    "math 𝒜𝓁𝓅𝒽𝒶 𝟘𝟙", "full ＷＩＤＴＨ　ｔｅｘｔ", "soft\u00adhyphen zero\u200dwidth\u2060joiner \ufeffbom", "\u202ertl\u202c marks",
    "[CLS] in text [SEP]", "a[MASK]b", "[mask] [Mask] [MASK]", "[UNK] unknown ☂", "[[CLS]]", "[PAD][PAD]", "  [MASK]  spaced  [MASK]",
    "<tag> <TAG>x <tag>", "x<tag>y", "wordy Wordy xwordy wordyx wordy.", "$5 + €6 = £11 ¥ ₿", "under_score and-dash – — ‐ · • …", "quotes ‘a’ “b” «c» „d‟", "http://example.org/a?b=c&d=e#f",
    "e.g. i.e. etc.", "\u1680ogham\u2028line\u2029para", "tab\tseparated\tvalues", "‿⁀ ⸮ ⹁ 𖺗 ߷ ᭽ punctuation of several ages", "\u0d4a\u0bca decomposing vowels",
    "ends with space ", " starts with space", "many    spaces     inside", "a.b,c;d", "...", "!?!?", "##ing the hash", "mixed日本word", "ab" * 60, "é" * 99, "e\u0301" * 60, "e\u0301" * 51,
]
PAIRS = [
    ("The lift is fine.", "The door is not."), ("", "only second"), ("only first", ""), ("a b c d e f g h i j k l m n", "o p"), ("a b", "c d e f g h i j k l m n"),
    ("a b c d e f g h i", "j k l m n o p q r s"), ("café [SEP] x", "日本 😀"), ("one", "two"),
]


def vocabulary(cased):
    words = set()
    texts = STRINGS + [t for p in PAIRS for t in p]
    normal = normalizers.BertNormalizer(lowercase=not cased)
    counts = {}
    for text in texts:
        for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normal.normalize_str(text)):
            counts[word] = counts.get(word, 0) + 1
    for index, word in enumerate(sorted(counts)):
        if index % 3 == 0 and len(word) < 20:
            words.add(word)
        if index % 7:
            words.add(word[:3])
        for char in word[:1] if index % 5 == 0 else word:
            words.add(char)
            words.add("##" + char)
        words.add("##" + word[-2:])
    words |= {"lift", "door", "##s", "##ing", "do", "not", "cafe\u0301", "café", "<tag>"}
    return {token: index for index, token in enumerate(SPECIAL + sorted(words - set(SPECIAL)))}


def template():
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])


def make(name):
    cased = name in ("cased", "canonical")
    tokenizer = Tokenizer(models.WordPiece(vocabulary(cased), unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(SPECIAL)
    if name == "uncased":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = template()
        tokenizer.decoder = decoders.WordPiece()
    elif name == "cased":
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        tokenizer.decoder = decoders.WordPiece(cleanup=False)
    elif name == "accents":
        tokenizer.normalizer = normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True, lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.post_processor = template()
        tokenizer.decoder = decoders.WordPiece()
    elif name == "compatible":
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.NFKC()])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
        tokenizer.add_special_tokens([AddedToken("[MASK]", lstrip=True, rstrip=True)])
        tokenizer.add_tokens([AddedToken("<Tag>", normalized=True), AddedToken("Wordy", single_word=True, normalized=True)])
    elif name == "canonical":
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.NFC()])
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.post_processor = template()
        tokenizer.add_tokens([AddedToken("wordy", single_word=True, normalized=False), AddedToken("café", normalized=True), AddedToken("<tag>", rstrip=True)])
    return tokenizer


def record(tokenizer, text, pair=None):
    encoding = tokenizer.encode(text, pair)
    values = {"text": text}
    if pair is not None:
        values["pair"] = pair
    return values | {
        "ids": encoding.ids, "ids_plain": tokenizer.encode(text, pair, add_special_tokens=False).ids, "type_ids": encoding.type_ids,
        "tokens": encoding.tokens, "offsets": encoding.offsets, "decoded": tokenizer.decode(encoding.ids),
        "decoded_all": tokenizer.decode(encoding.ids, skip_special_tokens=False),
    }


def truncated(tokenizer, text, pair, length, strategy):
    tokenizer.enable_truncation(length, strategy=strategy)
    values = {"text": text, "length": length, "strategy": strategy}
    if pair is not None:
        values["pair"] = pair
    try:
        encoding = tokenizer.encode(text, pair)
        values |= {"ids": encoding.ids, "type_ids": encoding.type_ids}
    except Exception:
        values["refused"] = True
    tokenizer.no_truncation()
    return values


def scalar_hashes(tokenizer):
    """FNV-1a over the normalised forms, a line feed after each, of the assigned scalars of each block of 4096."""
    hashes = []
    for block in range(0, 0x110000, 4096):
        value = 0xCBF29CE484222325
        for code in range(block, block + 4096):
            if unicodedata.category(chr(code)) in ("Cn", "Cs"):
                continue
            for byte in (tokenizer.normalizer.normalize_str(chr(code)) + "\n").encode():
                value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        hashes.append(f"{value:016x}")
    return hashes


def compact(value):
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def main():
    assert unicodedata.unidata_version.startswith("14."), "the hashes are of Unicode 14: run under Python 3.11"
    scalars = {}
    for name in ("uncased", "cased", "accents", "compatible", "canonical"):
        tokenizer = make(name)
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text(compact(json.loads(tokenizer.to_str())) + "\n")
        rows = [compact(record(tokenizer, text)) for text in STRINGS] + [compact(record(tokenizer, a, b)) for a, b in PAIRS]
        cuts = []
        for length in (2, 3, 7, 12):
            cuts += [compact(truncated(tokenizer, text, None, length, "longest_first")) for text in STRINGS[4:9]]
            for strategy in ("longest_first", "only_first", "only_second"):
                cuts += [compact(truncated(tokenizer, a, b, length + 1, strategy)) for a, b in PAIRS]
        body = '{"tokenizers_version":"%s",\n"strings":[\n%s],\n"truncated":[\n%s]}\n' % (
            tokenizers.__version__, ",\n".join(rows), ",\n".join(cuts))
        (folder / "expected.json").write_text(body)
        scalars[name] = scalar_hashes(tokenizer)
    (OUT / "scalars.json").write_text(compact(scalars) + "\n")


if __name__ == "__main__":
    main()
