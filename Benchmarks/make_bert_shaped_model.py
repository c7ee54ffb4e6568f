"""Writes a BERT of any size with random weights: for timing models that are too large to come with the checkout.

    python3 Benchmarks/make_bert_shaped_model.py FOLDER [--shape large]

FOLDER gets config.json, model.safetensors (float32) and a tokenizer.json of single letters, which is enough for a model
folder to load. A step takes as long with random weights as with trained ones; nothing can be learned from them.

    tiny    2 layers, 128 wide, 2 heads       17 MB     base    12 layers, 768 wide, 12 heads    0.4 GB
    mini    6 layers, 384 wide, 12 heads      90 MB     large   24 layers, 1024 wide, 16 heads   1.3 GB
"""

import argparse
import json
import pathlib

import numpy as np
from safetensors.numpy import save_file

SHAPES = {"tiny": (2, 128, 2), "mini": (6, 384, 12), "base": (12, 768, 12), "large": (24, 1024, 16)}
VOCABULARY, POSITIONS, TYPES = 30522, 512, 2


def tensors(layers, hidden):
    generator = np.random.default_rng(0)

    def matrix(rows, columns):
        # BERT's own initial scale. Drawn in float32: a large model in float64 would take twice the memory.
        return generator.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)

    made = {
        "embeddings.word_embeddings.weight": matrix(VOCABULARY, hidden),
        "embeddings.position_embeddings.weight": matrix(POSITIONS, hidden),
        "embeddings.token_type_embeddings.weight": matrix(TYPES, hidden),
    }

    def norm(name):
        made[f"{name}.weight"] = np.ones(hidden, np.float32)
        made[f"{name}.bias"] = np.zeros(hidden, np.float32)

    def linear(name, outputs, inputs):
        made[f"{name}.weight"] = matrix(outputs, inputs)
        made[f"{name}.bias"] = np.zeros(outputs, np.float32)

    norm("embeddings.LayerNorm")
    for index in range(layers):
        layer = f"encoder.layer.{index}"
        for module in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{module}", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", 4 * hidden, hidden)
        linear(f"{layer}.output.dense", hidden, 4 * hidden)
        norm(f"{layer}.output.LayerNorm")
    return made


def tokenizer():
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = special + letters + [f"##{letter}" for letter in letters] + list("0123456789.,;:!?'-")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    sequence = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    pair = sequence + [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": index, "content": word} | flags for index, word in enumerate(special)],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing", "single": sequence, "pair": pair,
            "special_tokens": {word: {"id": word, "ids": [special.index(word)], "tokens": [word]}
                               for word in ("[CLS]", "[SEP]")},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: index for index, word in enumerate(words)}},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--shape", choices=SHAPES, default="large")
    options = parser.parse_args()
    layers, hidden, heads = SHAPES[options.shape]
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "hidden_act": "gelu", "hidden_size": hidden,
        "intermediate_size": 4 * hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "max_position_embeddings": POSITIONS, "type_vocab_size": TYPES, "vocab_size": VOCABULARY,
        "layer_norm_eps": 1e-12, "pad_token_id": 0, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    (options.folder / "tokenizer.json").write_text(json.dumps(tokenizer(), indent=1) + "\n")
    save_file(tensors(layers, hidden), options.folder / "model.safetensors")


if __name__ == "__main__":
    main()
